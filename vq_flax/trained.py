"""Loads a trained model, to encode images as codes and decode codes.

Dimensions: N images, H height, W width, C channels, S and T sides of the grid
of cells, L codes of a cell.
"""

from collections.abc import Callable
import dataclasses
import functools

from etils import epath
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import prng
from common_flax.errors import UserError
from common_flax.latents import chunks_of_numbers
from common_flax.workdir import layout as workdir_lib
from common_flax.workdir.checkpoints import STATE
from vq_flax import config as vq_config
from vq_flax import generation
from vq_flax.state import EXPORT
from vq_flax.state import exported
from vq_flax.state import init_state
from vq_flax.state import Params
from vq_flax.state import VQState
from vq_flax.state import with_weights_of
from vq_flax.vq import create_vq
from vq_flax.vq import VQ


@dataclasses.dataclass(frozen=True)
class TrainedVQ:
  """A model with its trained parameters."""

  vq: VQ
  params: Params
  config: ConfigDict
  step: int  # of the checkpoint

  def encode(self, key: jax.Array, images: jax.Array | np.ndarray) -> jax.Array:
    """Encodes images uint8 [N, H, W, C] as codes, int32 [N, S, T, L].

    Args:
      key: consumed if observations are drawn at random, such as binary images.
      images: with `binarise=fixed` they should be 0 or 255; grey images are
        thresholded.

    Raises:
      UserError: if the images have another type or shape.
    """
    dtype = getattr(images, 'dtype', None)
    if dtype != jnp.uint8:
      raise UserError(
        f'images: {dtype or type(images).__name__}; give an array of uint8 '
        'from 0 to 255, because the range of other types is unknown'
      )
    is_of_images = images.ndim == 4 and len(images)
    if not is_of_images or images.shape[1:] != self.vq.image_shape:
      raise UserError(
        f'images: shape {list(images.shape)}; give [N, H, W, C] with [H, W, C] '
        f'{list(self.vq.image_shape)}'
      )
    x = generation.observe(self.vq, key, images)
    return _in_chunks(
      functools.partial(generation.encode, self.vq, self.params), x
    )

  def decode(self, codes: jax.Array | np.ndarray) -> jax.Array:
    """Decodes codes [N, S, T, L] as mean images uint8 [N, H, W, C].

    Raises:
      UserError: if the codes are no integers, have another shape or do not
        exist.
    """
    codes = np.asarray(codes)
    shape = *self.vq.grid, self.vq.quantiser.codes_per_cell
    is_integer = np.issubdtype(codes.dtype, np.integer)
    is_of_cells = codes.ndim == 4 and len(codes)
    if not (is_integer and is_of_cells) or codes.shape[1:] != shape:
      raise UserError(
        f'codes: {codes.dtype} {list(codes.shape)}; give integers '
        f'[N, {", ".join(map(str, shape))}]'
      )
    num = self.vq.quantiser.num_codes
    if not 0 <= codes.min() <= codes.max() < num:
      raise UserError(f'codes: must be from 0 to {num - 1}')
    return _in_chunks(
      functools.partial(generation.decode, self.vq, self.params),
      jnp.asarray(codes, jnp.int32),
    )


def _in_chunks(
  function: Callable[[jax.Array], jax.Array], rows: jax.Array
) -> jax.Array:
  """Applies a compiled function to 64 rows at a time, of at least one."""
  num = len(rows)
  chunks = [
    function(rows[jnp.minimum(numbers, num - 1)])
    for numbers in chunks_of_numbers(num)
  ]
  return jnp.concatenate(chunks)[:num]


def load(
  workdir: epath.PathLike, *, use_ema: bool = True, step: int | None = None
) -> TrainedVQ:
  """Loads a trained model from the folder of its run.

  Args:
    workdir: the run's folder.
    use_ema: whether to load the moving average of the weights instead of the
      weights of the last step.
    step: of the checkpoint; None for the newest.

  Raises:
    UserError: if the folder holds no run, the checkpoint does not exist, or the
      weights are not finite.
  """
  config = vq_config.read(workdir)
  root = prng.root_key(config.seed)
  step, vq, weights = workdir_lib.restore(
    workdir,
    EXPORT,
    config,
    create_vq,
    lambda vq: exported(init_state(vq, root)),
    step,
  )
  params = weights['ema_params' if use_ema else 'params']
  workdir_lib.check_finite(workdir, step, params)
  return TrainedVQ(vq, params, config, step)


def adopting(
  workdir: epath.PathLike | None,
) -> Callable[[VQState], VQState] | None:
  """A function that gives a state the weights of another run.

  Args:
    workdir: of the other run; None returns None.

  Raises:
    UserError: if the folder holds no run or no checkpoint.
  """
  if workdir is None:
    return None
  config = vq_config.read(workdir)
  root = prng.root_key(config.seed)
  step, _, other = workdir_lib.restore(
    workdir, STATE, config, create_vq, lambda vq: init_state(vq, root)
  )
  print(f'Starting from the weights of {workdir} at step {step:,}.')
  return functools.partial(with_weights_of, other)
