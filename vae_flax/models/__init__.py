"""Encoders and decoders, by name."""

from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn

from common_flax.images import doublings
from vae_flax.models import conv
from vae_flax.models import mlp


class Model(NamedTuple):
  """The two networks' module classes, and the image sizes they are made for.

  Both take the field `size_field` of a config's `model`, which says how large
  they are, and the fields that all of them share.
  """

  encoder: type[nn.Module]
  decoder: type[nn.Module]
  size_field: str
  check_image_size: Callable[[int], object]  # ValueError if it has no model


MODELS = {
  'mlp': Model(mlp.Encoder, mlp.Decoder, 'hidden_sizes', lambda size: None),
  'conv': Model(conv.Encoder, conv.Decoder, 'base_features', doublings),
}

ACTIVATIONS = {
  'tanh': nn.tanh,
  'relu': nn.relu,
  'gelu': nn.gelu,
  'swish': nn.swish,
}
