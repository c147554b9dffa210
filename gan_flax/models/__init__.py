"""Generators and discriminators, by name."""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import linen as nn

from gan_flax.models import dcgan
from gan_flax.models import points
from gan_flax.models import r3gan
from gan_flax.models import resnet


class Model(NamedTuple):
  """A generator and a discriminator, and the data that they fit.

  Both modules take the shape of an example, base_features, conditioning,
  num_classes, dtype, param_dtype and the fields in `options`. If `has_norms`,
  both take norm and axis_name, and the discriminator has_spectral_norm and
  has_minibatch_deviation. Both are called with `train`, and with labels if they
  are conditional.

  An option is a field of `config.model` that only some models take.
  """

  generator: Callable[..., nn.Module]
  discriminator: Callable[..., nn.Module]
  is_of_points: bool = False
  options: tuple[str, ...] = ()  # names of the options that both take
  has_norms: bool = True
  has_extent: bool = False  # whether the modules take the points' `extent`
  generator_norm: str = 'batch'  # the default


_pacgan_init = nn.initializers.normal(0.02)
_he_init = nn.initializers.he_normal()

MODELS = {
  'dcgan': Model(
    dcgan.Generator,
    dcgan.Discriminator,
    options=('kernel_size', 'grid_size'),
  ),
  'resnet': Model(
    resnet.Generator, resnet.Discriminator, options=('grid_size',)
  ),
  'r3gan': Model(
    r3gan.Generator,
    r3gan.Discriminator,
    options=('blocks_per_stage', 'group_size', 'grid_size'),
    has_norms=False,
    generator_norm='none',
  ),
  'pacgan': Model(
    functools.partial(points.Generator, num_layers=4, kernel_init=_pacgan_init),
    functools.partial(
      points.Discriminator, num_layers=3, num_pieces=5, kernel_init=_pacgan_init
    ),
    is_of_points=True,
  ),
  'mlp': Model(
    functools.partial(points.Generator, num_layers=3, kernel_init=_he_init),
    functools.partial(
      points.Discriminator,
      num_layers=3,
      num_pieces=1,
      num_octaves=3,
      kernel_init=_he_init,
    ),
    is_of_points=True,
    has_extent=True,
    generator_norm='none',
  ),
}
