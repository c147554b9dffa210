"""Encoders and decoders, by name."""

from typing import NamedTuple

from flax import linen as nn

from vae_flax.models import conv
from vae_flax.models import hierarchical
from vae_flax.models import mlp


class Model(NamedTuple):
  """An encoder and a decoder.

  Both modules take the field of `config.model` that `size_field` names, which
  sets their width (the decoder gets a tuple in reverse), and `activation`,
  `dtype` and `param_dtype`. The encoder also takes `latent_size` and
  `max_log_var`, the decoder `image_shape` and `num_outputs`. Those of a
  hierarchy take `scales` instead of a width and of a number of latents.
  """

  encoder: type[nn.Module]
  decoder: type[nn.Module]
  size_field: str
  is_convolutional: bool


MODELS = {
  'mlp': Model(mlp.Encoder, mlp.Decoder, 'hidden_sizes', False),
  'conv': Model(conv.Encoder, conv.Decoder, 'base_features', True),
  'hierarchical': Model(
    hierarchical.Encoder, hierarchical.Decoder, 'groups', True
  ),
}
