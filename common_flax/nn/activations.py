"""Activations of hidden layers, by name."""

from flax import linen as nn

ACTIVATIONS = {
  'tanh': nn.tanh,
  'relu': nn.relu,
  'gelu': nn.gelu,
  'swish': nn.swish,
}
