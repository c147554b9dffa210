"""Loads a trained prior, to draw codes and to measure them.

A prior stands in the sub-folder `prior` of its model's workdir.

Dimensions: N images, H height, W width, C channels, S and T sides of the grid
of cells, L codes of a cell.
"""

from collections.abc import Iterator
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
from common_flax.cli.labels import Label
from common_flax.errors import UserError
from common_flax.latents import chunks_of_numbers
from common_flax.workdir import classes
from common_flax.workdir import layout as workdir_lib
from vq_flax import config as vq_config
from vq_flax import generation
from vq_flax.prior import config as prior_config
from vq_flax.prior import drawing
from vq_flax.prior.prior import create_prior
from vq_flax.prior.prior import EXPORT
from vq_flax.prior.prior import exported
from vq_flax.prior.prior import init_state
from vq_flax.prior.prior import log_prob
from vq_flax.prior.prior import Prior
from vq_flax.state import init_state as init_model
from vq_flax.state import Params
from vq_flax.vq import create_vq

FOLDER = 'prior'  # in the workdir of the model

_log_prob = jax.jit(log_prob, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class TrainedPrior:
  """A prior and its model, with their trained parameters."""

  prior: Prior
  params: Params
  model: Params  # of the encoder, the decoder and the codebooks
  config: ConfigDict
  step: int  # of the checkpoint
  # Of class 0 first, numbers if the data had none; None if not conditional.
  class_names: tuple[str, ...] | None = None

  @property
  def num_classes(self) -> int | None:
    """The classes that the prior is told; None for none."""
    return self.prior.network.num_classes

  def labels(self, num: int, label: Label = None) -> np.ndarray | None:
    """The classes of `num` images, see `labels.of_samples`."""
    return labels_lib.of_samples(self.num_classes, self.class_names, num, label)

  def balanced_labels(self, num: int) -> np.ndarray | None:
    """Classes of `num` images, all equally often; None without classes."""
    if self.num_classes is None:
      return None
    return np.arange(num, dtype=np.int32) % self.num_classes

  def chunks(
    self,
    key: jax.Array,
    num: int,
    label: Label = None,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
  ) -> Iterator[jax.Array]:
    """Draws images, uint8 [n, H, W, C], at most 64 at a time.

    Args:
      key: not consumed; image i depends on the key and i alone.
      num: number of images.
      label: classes of a conditional prior, see `labels.of_samples`.
      temperature: divides the logits of codes.
      top_p: see `drawing.allowed`.

    Raises:
      UserError: if a number is out of range, or naming a class that does not
        exist.
    """
    if num < 1:
      raise UserError(f'num={num}: draw at least one image')
    if not 0 <= temperature < math.inf:
      raise UserError(f'temperature={temperature}: must be at least 0')
    if not 0 <= top_p <= 1:
      raise UserError(f'top_p={top_p}: must be from 0 to 1')
    labels = self.labels(num, label)
    for numbers in chunks_of_numbers(num):
      codes = drawing.draw(
        self.prior,
        self.params,
        key,
        numbers,
        _of_chunk(labels, numbers),
        temperature,
        top_p,
      )
      images = generation.decode(self.prior.vq, self.model, codes)
      yield images[: num - numbers[0]]

  def generate(
    self,
    key: jax.Array,
    num: int,
    label: Label = None,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
  ) -> jax.Array:
    """The images of `chunks`, uint8 [num, H, W, C]."""
    chunks = self.chunks(key, num, label, temperature=temperature, top_p=top_p)
    return jnp.concatenate(list(chunks))

  def complete(
    self,
    key: jax.Array,
    codes: jax.Array,
    numbers: np.ndarray,
    labels: np.ndarray | None,
    is_known: np.ndarray,
    temperature: float = 1.0,
    top_p: float = 1.0,
  ) -> jax.Array:
    """Draws the codes of images that are not known, see `drawing.draw`."""
    return drawing.draw(
      self.prior,
      self.params,
      key,
      numbers,
      labels,
      temperature,
      top_p,
      codes,
      is_known,
    )

  def log_prob(self, codes: np.ndarray) -> np.ndarray:
    """Log Pr(z) of codes int32 [N, S, T, L] in nats, float64 [N].

    That of a conditional prior is the mean of Pr(z|y) over all classes y, which
    are equally likely.
    """
    measure = functools.partial(_log_prob, self.prior, self.params, codes)
    if self.num_classes is None:
      return np.asarray(measure(None), np.float64)
    of_classes = [
      np.asarray(measure(np.full(len(codes), label, np.int32)), np.float64)
      for label in range(self.num_classes)
    ]
    return np.logaddexp.reduce(of_classes) - math.log(self.num_classes)


def _of_chunk(
  labels: np.ndarray | None, numbers: np.ndarray
) -> np.ndarray | None:
  """The labels of a chunk; the last label for numbers beyond the last."""
  if labels is None:
    return None
  return labels[np.minimum(numbers, len(labels) - 1)]


def same_weights(a: Params, b: Params) -> bool:
  """Whether two pytrees of weights are equal, bit for bit."""
  if jax.tree.structure(a) != jax.tree.structure(b):
    return False
  pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
  return all(np.array_equal(x, y) for x, y in pairs)


def folder_of(workdir: epath.PathLike) -> epath.Path:
  """The folder of a model's prior."""
  return epath.Path(workdir) / FOLDER


def exists(workdir: epath.PathLike) -> bool:
  """Whether a prior of the model in a workdir has been trained."""
  folder = folder_of(workdir)
  if not workdir_lib.has_config(folder):
    return False
  with workdir_lib.open_checkpoints(folder) as checkpoints:
    return bool(checkpoints.steps())


def load(
  workdir: epath.PathLike, *, use_ema: bool = True, step: int | None = None
) -> TrainedPrior:
  """Loads the trained prior of a model.

  Args:
    workdir: the model's folder.
    use_ema: whether to load the moving average of the prior's weights instead
      of those of the last step.
    step: of the prior's checkpoint; None for the newest.

  Raises:
    UserError: if the model has no prior, the checkpoint does not exist, or the
      weights are not finite.
  """
  folder = folder_of(workdir)
  if not exists(workdir):
    raise UserError(
      f'--workdir={workdir}: holds no prior; train one with python -m '
      f'vq_flax.prior --workdir={workdir} --config=vq_prior'
    )
  model_config = vq_config.read(workdir)
  config = prior_config.read(folder)
  root = prng.root_key(config.seed)

  def create(
    config: ConfigDict, shape: tuple[int, ...], num_classes: int | None
  ) -> Prior:
    return create_prior(config, create_vq(model_config, shape), num_classes)

  def init_item(prior: Prior) -> dict[str, Params]:
    model = init_model(prior.vq, root).params
    return exported(init_state(prior, model, root))

  step, prior, weights = workdir_lib.restore(
    folder, EXPORT, config, create, init_item, step
  )
  params = weights['ema_params' if use_ema else 'params']
  workdir_lib.check_finite(folder, step, params)
  class_names = None
  if prior.is_conditional:
    class_names = classes.names_of(folder, prior.network.num_classes)
  return TrainedPrior(
    prior, params, weights['model'], config, step, class_names
  )
