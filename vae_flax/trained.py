"""Loads a trained VAE, to draw, encode and decode images.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools

from etils import epath
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import prng
from common_flax.cli import labels as labels_lib
from common_flax.cli.labels import Label
from common_flax.errors import UserError
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.latents import given
from common_flax.latents import LatentsOf
from common_flax.workdir import classes
from common_flax.workdir import layout as workdir_lib
from common_flax.workdir.checkpoints import STATE
from vae_flax import config as vae_config
from vae_flax import generation
from vae_flax.priors import learned
from vae_flax.priors.learned import Components
from vae_flax.state import EXPORT
from vae_flax.state import exported
from vae_flax.state import init_state
from vae_flax.state import Params
from vae_flax.state import VAEState
from vae_flax.state import with_weights_of
from vae_flax.vae import create_vae
from vae_flax.vae import VAE

_FLOATS = 'real floating'


@dataclasses.dataclass(frozen=True)
class TrainedVAE:
  """A VAE with its trained parameters."""

  vae: VAE
  params: Params
  config: ConfigDict
  step: int  # of the checkpoint
  # Of class 0 first, numbers if the data had none; None if not conditional.
  class_names: tuple[str, ...] | None = None

  @functools.cached_property
  def prior(self) -> Components | None:
    """The learned prior of the top latents; None if all have N(0, I)."""
    return generation.prior(self.vae, self.params)

  def prior_moments(self) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation of each latent under the prior, [Z] each."""
    return learned.moments(self.prior, self.vae.latent_size, self.vae.dtype)

  def labels(self, num: int, label: Label = None) -> np.ndarray | None:
    """The classes of `num` images, see `labels.of_samples`."""
    return labels_lib.of_samples(
      self.vae.num_classes, self.class_names, num, label
    )

  def balanced_labels(self, num: int) -> np.ndarray | None:
    """Classes of `num` images, all equally often; None without classes."""
    if not self.vae.is_conditional:
      return None
    return np.arange(num, dtype=np.int32) % self.vae.num_classes

  def chunks(
    self, key: jax.Array, num: int, label: Label = None
  ) -> Iterator[jax.Array]:
    """Draws images from the prior, uint8 [n, H, W, C], at most 64 at a time.

    Args:
      key: not consumed; image i depends on the key and i alone.
      num: number of images.
      label: classes of a conditional VAE, see `labels.of_samples`.

    Raises:
      UserError: if `num` is below 1, or naming a class that does not exist.
    """
    if num < 1:
      raise UserError(f'num={num}: draw at least one image')

    def latents_of(numbers: np.ndarray) -> jax.Array:
      return generation.latents_by_number(self.vae, self.prior, key, numbers)

    return self.chunks_of(latents_of, num, self.labels(num, label))

  def chunks_of(
    self, latents_of: LatentsOf, num: int, labels: np.ndarray | None
  ) -> Iterator[jax.Array]:
    """Yields the images of `num` latents, at most 64 at a time.

    Args:
      latents_of: the latents by number.
      num: number of images.
      labels: from `labels`.
    """
    if labels is not None:
      labels = np.pad(labels, (0, -num % CHUNK))
    for numbers in chunks_of_numbers(num):
      images = generation.generate(
        self.vae,
        self.params,
        latents_of(numbers),
        None if labels is None else labels[numbers],
      )
      yield images[: num - numbers[0]]

  def latents_of_seeds(self, seeds: Sequence[int]) -> jax.Array:
    """The latents [N, Z] of `--seeds`, see `generation.latents_of_seeds`."""
    return generation.latents_of_seeds(self.vae, self.prior, seeds)

  def generate(
    self, key: jax.Array, num: int, label: Label = None
  ) -> jax.Array:
    """The images of `chunks`, uint8 [num, H, W, C]."""
    return jnp.concatenate(list(self.chunks(key, num, label)))

  def encode(
    self, key: jax.Array, images: jax.Array | np.ndarray, label: Label = None
  ) -> tuple[jax.Array, jax.Array]:
    """Encodes images as the parameters of their posteriors.

    Args:
      key: consumed if observations are drawn at random, such as binary images.
      images: uint8 [N, H, W, C]; with `binarise=fixed` they should be 0 or 255,
        grey images are thresholded.
      label: of a conditional VAE: the class of all images or of each, by number
        or by name.

    Returns:
      Means and log-variances, [N, Z] each.

    Raises:
      UserError: if the images have another type or shape, or if the label is
        missing or does not exist.
    """
    dtype = getattr(images, 'dtype', None)
    if dtype != jnp.uint8:
      raise UserError(
        f'images: {dtype or type(images).__name__}; give an array of uint8 '
        'from 0 to 255, because the range of other types is unknown'
      )
    if images.ndim != 4 or images.shape[1:] != self.vae.image_shape:
      raise UserError(
        f'images: shape {list(images.shape)}; give [N, H, W, C] with [H, W, C] '
        f'{list(self.vae.image_shape)}'
      )
    if label is None and self.vae.is_conditional:
      raise UserError(
        'label: missing; the VAE is conditional, so name the class of the '
        'images, or one for each'
      )
    labels = self.labels(len(images), label)
    x = generation.observe(self.vae, key, images)
    return generation.encode(self.vae, self.params, x, labels)

  def decode(self, z: jax.Array | np.ndarray, label: Label = None) -> jax.Array:
    """Decodes latents [N, Z] as mean images uint8 [N, H, W, C].

    Each image depends on its latent and label alone.

    Args:
      z: floats [N, Z].
      label: classes of a conditional VAE, see `labels.of_samples`.

    Raises:
      UserError: if the latents are no floats, or have another shape; or naming
        a class that does not exist.
    """
    z = jnp.asarray(z)
    size = self.vae.latent_size
    is_float = jnp.isdtype(z.dtype, _FLOATS)
    if z.ndim != 2 or z.shape[1] != size or not len(z) or not is_float:
      raise UserError(
        f'z: {z.dtype} {list(z.shape)}; give latents as floats [N, {size}]'
      )
    latents_of = given(z.astype(self.vae.dtype))
    labels = self.labels(len(z), label)
    return jnp.concatenate(list(self.chunks_of(latents_of, len(z), labels)))


def load(
  workdir: epath.PathLike, *, use_ema: bool = True, step: int | None = None
) -> TrainedVAE:
  """Loads the VAE of a workdir's checkpoint.

  Args:
    workdir: folder of a run.
    use_ema: whether to load the moving average of the weights instead of the
      weights of the last step.
    step: of the checkpoint; None for the newest.

  Raises:
    UserError: if the folder holds no run, the checkpoint does not exist, or the
      weights are not finite.
  """
  config = vae_config.read(workdir)
  root = prng.root_key(config.seed)
  step, vae, weights = workdir_lib.restore(
    workdir,
    EXPORT,
    config,
    create_vae,
    lambda vae: exported(init_state(vae, root)),
    step,
  )
  params = weights['ema_params' if use_ema else 'params']
  workdir_lib.check_finite(workdir, step, params)
  class_names = None
  if vae.is_conditional:
    class_names = classes.names_of(workdir, vae.num_classes)
  return TrainedVAE(vae, params, config, step, class_names)


def adopting(
  workdir: epath.PathLike | None,
) -> Callable[[VAEState], VAEState] | None:
  """A function that gives a state the weights of another run.

  Args:
    workdir: of the other run; None returns None.

  Raises:
    UserError: if the folder holds no run or no checkpoint.
  """
  if workdir is None:
    return None
  config = vae_config.read(workdir)
  root = prng.root_key(config.seed)
  step, _, other = workdir_lib.restore(
    workdir, STATE, config, create_vae, lambda vae: init_state(vae, root)
  )
  print(f'Starting from the weights of {workdir} at step {step:,}.')
  return functools.partial(with_weights_of, other)
