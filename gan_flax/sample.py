"""Draws samples from a trained generator.

  python -m gan_flax.sample --workdir=DIR --output=FILE.png|FILE.npz|FOLDER
      [--num_samples=64] [--seed=0] [--kind=samples|interpolation] [--noema]

The discriminator is thrown away: the checkpoint's generator is all that is
read. From Python:

  sampler = gan_flax.sample.load('runs/dcgan')
  images = sampler.generate(jax.random.key(0), 16)  # uint8 [16, H, W, C]

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import sys

from absl import flags
from etils import epath
import jax
import jax.numpy as jnp

from common_flax import commands
from common_flax import prng
from common_flax import sample_files
from common_flax import terminal
from common_flax import workdir as workdir_lib
from common_flax.latents import slerp
from gan_flax import config as gan_config
from gan_flax import generation
from gan_flax.state import BatchStats
from gan_flax.state import create_gan
from gan_flax.state import exported_generator
from gan_flax.state import GAN
from gan_flax.state import GENERATOR
from gan_flax.state import init_state
from gan_flax.state import Params

# Samples are drawn in chunks of one size, whatever their number, so that a
# sample's bits do not depend on how many are drawn with it.
_CHUNK = 64
_INTERPOLATION_COLUMNS = 8

# (gan, key, numbers [N]) -> latents [N, Z]
LatentsByNumber = Callable[[GAN, jax.Array, jax.Array], jax.Array]


def _interpolated_latents(
  gan: GAN, key: jax.Array, numbers: jax.Array
) -> jax.Array:
  """Rows of latents on the arc between two, a row of its own two each."""
  rows, columns = jnp.divmod(numbers, _INTERPOLATION_COLUMNS)
  starts = generation.latents_by_number(gan, key, 2 * rows)
  ends = generation.latents_by_number(gan, key, 2 * rows + 1)
  shares = columns / (_INTERPOLATION_COLUMNS - 1)
  return jax.vmap(slerp)(starts, ends, shares.astype(gan.dtype))


KINDS: dict[str, LatentsByNumber] = {
  'samples': generation.latents_by_number,
  'interpolation': _interpolated_latents,
}


@dataclasses.dataclass(frozen=True)
class Sampler:
  """A trained generator, ready to draw."""

  gan: GAN
  params: Params
  batch_stats: BatchStats  # fixed
  step: int  # of the checkpoint

  def chunks(
    self, key: jax.Array, num: int, kind: str = 'samples'
  ) -> Iterator[jax.Array]:
    """Yields `num` images, uint8 [n, H, W, C] with n at most 64 each."""
    for start in range(0, num, _CHUNK):
      numbers = jnp.arange(start, start + _CHUNK)
      latents = KINDS[kind](self.gan, key, numbers)
      images = generation.generate(
        self.gan, self.params, self.batch_stats, latents
      )
      yield images[: num - start]

  def generate(self, key: jax.Array, num: int) -> jax.Array:
    """Draws samples; a pure function of its arguments.

    Args:
      key: a JAX key; sample i depends on it and on i alone.
      num: how many.

    Returns:
      uint8 [num, H, W, C].
    """
    return jnp.concatenate(list(self.chunks(key, num)))


def load(workdir: epath.PathLike, *, use_ema: bool = True) -> Sampler:
  """Loads the generator of a workdir's newest checkpoint.

  Args:
    workdir: folder of a run.
    use_ema: take the moving average of the weights rather than the last ones.

  Raises:
    UserError: if the folder holds no run or no checkpoint.
  """
  config = workdir_lib.read_config(workdir, gan_config.default())
  root = prng.root_key(config.seed)
  step, gan, weights = workdir_lib.restore(
    workdir,
    GENERATOR,
    config,
    create_gan,
    lambda gan: exported_generator(init_state(gan, root)),
  )
  params = weights['ema_params' if use_ema else 'params']
  batch_stats = generation.fixed_statistics(
    gan, params, prng.stream(root, 'statistics')
  )
  return Sampler(gan, params, batch_stats, step)


def _define_flags(values: flags.FlagValues) -> None:
  sample_files.define_flags(
    values,
    list(KINDS),
    'Independent samples, or rows of 8 images between two samples each.',
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  workdir = commands.existing_workdir(values)
  sampler = load(workdir, use_ema=values.ema)
  key = prng.stream(prng.root_key(values.seed), 'sample')
  num = values.num_samples
  chunks = (
    jax.device_get(chunk) for chunk in sampler.chunks(key, num, values.kind)
  )
  is_rows = values.kind == 'interpolation'
  sample_files.write(
    values.output,
    terminal.track(chunks, -(-num // _CHUNK), 'Drawing'),
    num,
    sampler.gan.image_shape,
    columns=_INTERPOLATION_COLUMNS if is_rows else None,
  )
  print(f'{num:,} images of step {sampler.step:,} in {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
