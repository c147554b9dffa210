"""Loads trained generators and draws samples from them.

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
from common_flax.cli import labels as labels_lib
from common_flax.cli.labels import COLUMNS
from common_flax.cli.labels import Label
from common_flax.errors import UserError
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.latents import given
from common_flax.latents import LatentsOf
from common_flax.latents import slerp
from common_flax.training import seeds as seeds_lib
from common_flax.workdir import classes
from common_flax.workdir import layout as workdir_lib
from common_flax.workdir.checkpoints import STATE
from gan_flax import config as gan_config
from gan_flax import generation
from gan_flax.gan import create_gan
from gan_flax.gan import GAN
from gan_flax.state import BatchStats
from gan_flax.state import exported_generator
from gan_flax.state import GANState
from gan_flax.state import GENERATOR
from gan_flax.state import init_state
from gan_flax.state import Params
from gan_flax.state import with_weights_of

_FLOATS = 'real floating'

# (gan, key, numbers [N], truncation) -> latents [N, Z]
LatentsByNumber = Callable[[GAN, jax.Array, jax.Array, float], jax.Array]


def _interpolated_latents(
  gan: GAN, key: jax.Array, numbers: jax.Array, truncation: float
) -> jax.Array:
  """Rows of latents along the arc between two draws; row i uses 2i, 2i + 1."""
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
  """A trained generator with fixed batch norm statistics."""

  gan: GAN
  params: Params
  batch_stats: BatchStats  # fixed, see `generation.fixed_statistics`
  config: ConfigDict  # of the run
  seed: int  # of its training
  step: int  # of the checkpoint
  # Of class 0 first, numbers if the data had none; None if not conditional.
  class_names: tuple[str, ...] | None = None

  def labels(self, num: int, label: Label = None) -> np.ndarray | None:
    """The classes of `num` samples.

    See `labels.of_samples`.
    """
    return labels_lib.of_samples(
      self.gan.num_classes, self.class_names, num, label
    )

  def chunks(
    self,
    key: jax.Array,
    num: int,
    kind: str = 'samples',
    truncation: float = math.inf,
    label: Label = None,
  ) -> Iterator[jax.Array]:
    """Draws `num` samples, at most 64 at a time.

    Args:
      key: not consumed; sample i depends on the key and i alone.
      num: number of samples.
      kind: one of KINDS.
      truncation: see `batches.draw_latents`.
      label: see `labels`.

    Returns:
      An iterator of uint8 images [n, H, W, C], or points [n, 2].

    Raises:
      UserError: if an argument is wrong.
    """
    if num < 1:
      raise UserError(f'num={num}: draw at least one sample')
    if kind not in KINDS:
      raise UserError(f'kind={kind!r}: unknown; known: {", ".join(KINDS)}')
    if not truncation > 0:
      raise UserError(f'truncation={truncation}: must be greater than 0')
    labels = self.labels(num, label)
    return self.chunks_of(self.latents_of(key, kind, truncation), num, labels)

  def latents_of(
    self, key: jax.Array, kind: str = 'samples', truncation: float = math.inf
  ) -> LatentsOf:
    """The latents of samples by number, see `chunks`."""

    def latents_of(numbers: np.ndarray) -> jax.Array:
      return KINDS[kind](self.gan, key, jnp.asarray(numbers), truncation)

    return latents_of

  def chunks_of(
    self, latents_of: LatentsOf, num: int, labels: np.ndarray | None
  ) -> Iterator[jax.Array]:
    """Generates `num` samples, at most 64 at a time.

    Args:
      latents_of: the latents of samples by number.
      num: number of samples.
      labels: from `labels`.

    Yields:
      uint8 images [n, H, W, C], or points [n, 2].
    """
    if labels is not None:
      labels = np.pad(labels, (0, -num % CHUNK))
    for numbers in chunks_of_numbers(num):
      samples = generation.generate(
        self.gan,
        self.params,
        self.batch_stats,
        latents_of(numbers),
        None if labels is None else labels[numbers],
      )
      yield samples[: num - numbers[0]]

  def latents_of_seeds(
    self, seeds: Sequence[int], truncation: float = math.inf
  ) -> jax.Array:
    """The latents [N, Z] of `--seeds`, see `generation.latents_of_seeds`."""
    return generation.latents_of_seeds(self.gan, seeds, truncation)

  def generate_from(self, z: jax.Array, label: Label = None) -> jax.Array:
    """Generates the samples of given latents.

    Args:
      z: floats [N, Z], such as the `latents` that the command writes.
      label: see `labels`.

    Returns:
      uint8 images [N, H, W, C], or points [N, 2]; each depends on its latent
      and label alone.

    Raises:
      UserError: if the latents are no floats or have another shape, or naming
        a class that does not exist.
    """
    z, size = jnp.asarray(z), self.gan.latent_size
    is_float = jnp.isdtype(z.dtype, _FLOATS)
    if z.ndim != 2 or z.shape[1] != size or not len(z) or not is_float:
      raise UserError(
        f'z: {z.dtype} {list(z.shape)}; give latents as floats [N, {size}]'
      )
    labels = self.labels(len(z), label)
    latents_of = given(z.astype(self.gan.dtype))
    return jnp.concatenate(list(self.chunks_of(latents_of, len(z), labels)))

  def generate(
    self,
    key: jax.Array,
    num: int,
    truncation: float = math.inf,
    label: Label = None,
  ) -> jax.Array:
    """Draws samples, a pure function of the arguments; see `chunks`.

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
    use_ema: whether to load the moving average of the weights instead of the
      weights of the last step.
    seed_index: index of the seed, from 0; None for all seeds.
    step: of the checkpoint; None for the newest.

  Returns:
    One sampler per seed.

  Raises:
    UserError: if the folder holds no run, the checkpoint or seed does not
      exist, or the weights are not finite.
  """
  config = gan_config.read(workdir)
  indices = _indices(config.num_seeds, seed_index)
  num_seeds = config.num_seeds
  roots = seeds_lib.root_keys(config.seed, num_seeds)
  step, gan, weights = workdir_lib.restore(
    workdir,
    GENERATOR,
    config,
    create_gan,
    lambda gan: exported_generator(init_states(gan, roots)),
    step,
  )
  class_names = None
  if gan.is_conditional:
    class_names = classes.names_of(workdir, gan.num_classes)
  samplers = []
  for index in indices:
    params = weights['ema_params' if use_ema else 'params']
    params = seeds_lib.member(params, index, num_seeds)
    workdir_lib.check_finite(workdir, step, params)
    seed = config.seed + index
    batch_stats = generation.fixed_statistics(
      gan, params, prng.stream(prng.root_key(seed), 'statistics')
    )
    samplers.append(
      Sampler(gan, params, batch_stats, config, seed, step, class_names)
    )
  return samplers


def init_states(gan: GAN, roots: jax.Array) -> GANState:
  """The initial state of one run, or of several with a leading axis."""
  init = functools.partial(init_state, gan)
  return jax.vmap(init)(roots) if roots.ndim else init(roots)


def adopting(
  workdir: epath.PathLike | None,
) -> Callable[[GANState], GANState] | None:
  """A function that gives a state the weights of another run.

  Args:
    workdir: of the other run; None returns None.

  Raises:
    UserError: if the folder holds no run, no checkpoint, or several runs.
  """
  if workdir is None:
    return None
  config = gan_config.read(workdir)
  if config.num_seeds > 1:
    raise UserError(
      f'--init_from={workdir}: holds several runs; use a workdir with one run'
    )
  root = prng.root_key(config.seed)
  step, _, other = workdir_lib.restore(
    workdir, STATE, config, create_gan, lambda gan: init_state(gan, root)
  )
  print(f'Starting from the weights of {workdir} at step {step:,}.')
  return functools.partial(with_weights_of, other)


def load(
  workdir: epath.PathLike,
  *,
  use_ema: bool = True,
  seed_index: int = 0,
  step: int | None = None,
) -> Sampler:
  """Loads the generator of one seed, see `load_all`."""
  (sampler,) = load_all(
    workdir, use_ema=use_ema, seed_index=seed_index, step=step
  )
  return sampler


def _indices(num_seeds: int, seed_index: int | None) -> Sequence[int]:
  """The indices of the selected seed, or of all.

  Raises:
    UserError: if `seed_index` is out of range.
  """
  if seed_index is None:
    return range(num_seeds)
  if not 0 <= seed_index < num_seeds:
    raise UserError(
      f'--seed_index={seed_index}: the run has {num_seeds} seeds; choose one '
      f'from 0 to {num_seeds - 1}'
    )
  return [seed_index]
