"""Generators and discriminators, by name."""

from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn

from common_flax.images import doublings
from gan_flax.models import dcgan


class Model(NamedTuple):
  """The two players' module classes, and the image sizes they are made for.

  Both take image_shape, base_features, kernel_size, dtype and param_dtype, the
  discriminator also norm and has_spectral_norm; both are called with `train`
  and `axis_name`.
  """

  generator: type[nn.Module]
  discriminator: type[nn.Module]
  check_image_size: Callable[[int], object]  # ValueError if it has no model


MODELS = {
  'dcgan': Model(dcgan.Generator, dcgan.Discriminator, doublings),
}
