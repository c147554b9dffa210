"""Generators and discriminators, by name."""

from typing import NamedTuple

from flax import linen as nn

from gan_flax.models import dcgan


class Model(NamedTuple):
  """The two players' module classes.

  Both take image_shape, base_features, kernel_size, dtype and param_dtype; both
  are called with `train` and `axis_name`.
  """

  generator: type[nn.Module]
  discriminator: type[nn.Module]


MODELS = {
  'dcgan': Model(dcgan.Generator, dcgan.Discriminator),
}
