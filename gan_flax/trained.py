"""Trained generators, ready to draw; the discriminator is thrown away.

Dimensions: N samples, H height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import math

from etils import epath
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import prng
from common_flax import seeds as seeds_lib
from common_flax import workdir as workdir_lib
from common_flax.config import UserError
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
CHUNK = 64
COLUMNS = 8  # of a picture whose rows belong together

Label = int | np.ndarray | None

# (gan, key, numbers [N], truncation) -> latents [N, Z]
LatentsByNumber = Callable[[GAN, jax.Array, jax.Array, float], jax.Array]


def _interpolated_latents(
  gan: GAN, key: jax.Array, numbers: jax.Array, truncation: float
) -> jax.Array:
  """Rows of latents on the arc between two, a row of its own two each."""
  rows, columns = jnp.divmod(numbers, COLUMNS)
  draw = functools.partial(
    generation.latents_by_number, gan, key, truncation=truncation
  )
  shares = columns / (COLUMNS - 1)
  return jax.vmap(slerp)(
    draw(2 * rows), draw(2 * rows + 1), shares.astype(gan.dtype)
  )


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
  config: ConfigDict  # of the run
  seed: int  # that it was trained with
  step: int  # of the checkpoint

  def labels(self, num: int, label: Label = None) -> np.ndarray | None:
    """The classes that samples are drawn of.

    Args:
      num: how many samples.
      label: the class of all of them, or of each, int32 [num]; None for each
        row of 8 of one class, the classes in turn.

    Returns:
      int32 [num], or None if the GAN is not conditional.
    """
    if not self.gan.is_conditional:
      return None
    if label is None:
      label = np.arange(num) // COLUMNS % self.gan.num_classes
    return np.broadcast_to(np.asarray(label, np.int32), num)

  def chunks(
    self,
    key: jax.Array,
    num: int,
    kind: str = 'samples',
    truncation: float = math.inf,
    label: Label = None,
  ) -> Iterator[jax.Array]:
    """Yields `num` samples, at most 64 at a time.

    Args:
      key: a JAX key; sample i depends on it and on i alone.
      num: how many.
      kind: one of KINDS.
      truncation: see `examples.draw_latents`.
      label: see `labels`.

    Yields:
      uint8 images [n, H, W, C], or points [n, 2].
    """
    labels = self.labels(num, label)
    if labels is not None:
      labels = np.pad(labels, (0, -num % CHUNK))
    for start in range(0, num, CHUNK):
      numbers = jnp.arange(start, start + CHUNK)
      latents = KINDS[kind](self.gan, key, numbers, truncation)
      samples = generation.generate(
        self.gan,
        self.params,
        self.batch_stats,
        latents,
        None if labels is None else labels[start : start + CHUNK],
      )
      yield samples[: num - start]

  def generate(
    self,
    key: jax.Array,
    num: int,
    truncation: float = math.inf,
    label: Label = None,
  ) -> jax.Array:
    """Draws samples; a pure function of its arguments, which `chunks` has.

    Returns:
      uint8 images [num, H, W, C], or points [num, 2].
    """
    chunks = self.chunks(key, num, truncation=truncation, label=label)
    return jnp.concatenate(list(chunks))


def load_all(
  workdir: epath.PathLike,
  *,
  use_ema: bool = True,
  seed_index: int | None = None,
  step: int | None = None,
) -> list[Sampler]:
  """Loads the generators of a workdir's checkpoint.

  Args:
    workdir: folder of a run, or of several at once.
    use_ema: take the moving average of the weights rather than the last ones.
    seed_index: which of several, counted from 0; None for all of them.
    step: of the checkpoint; None for the newest.

  Raises:
    UserError: if the folder holds no run, no such checkpoint or seed, or
      weights that are not finite.
  """
  config = gan_config.read(workdir)
  indices = _indices(config.num_seeds, seed_index)
  seeds = seeds_lib.create(config.seed, config.num_seeds)
  step, gan, weights = workdir_lib.restore(
    workdir,
    GENERATOR,
    config,
    create_gan,
    lambda gan: exported_generator(
      seeds.init(functools.partial(init_state, gan))
    ),
    step,
  )
  samplers = []
  for index in indices:
    params = seeds.member(weights['ema_params' if use_ema else 'params'], index)
    workdir_lib.check_finite(workdir, step, params)
    seed = config.seed + index
    batch_stats = generation.fixed_statistics(
      gan, params, prng.stream(prng.root_key(seed), 'statistics')
    )
    samplers.append(Sampler(gan, params, batch_stats, config, seed, step))
  return samplers


def load(
  workdir: epath.PathLike,
  *,
  use_ema: bool = True,
  seed_index: int = 0,
  step: int | None = None,
) -> Sampler:
  """Loads one generator, see `load_all`."""
  (sampler,) = load_all(
    workdir, use_ema=use_ema, seed_index=seed_index, step=step
  )
  return sampler


def _indices(num_seeds: int, seed_index: int | None) -> Sequence[int]:
  """Of one seed or of all.

  Raises:
    UserError: if there is no such seed.
  """
  if seed_index is None:
    return range(num_seeds)
  if not 0 <= seed_index < num_seeds:
    raise UserError(
      f'--seed_index={seed_index}: the run has {num_seeds} seeds; take one '
      f'from 0 to {num_seeds - 1}'
    )
  return [seed_index]
