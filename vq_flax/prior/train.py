"""Trains a prior over the codes of a trained model."""

from collections.abc import Iterator
from collections.abc import Sequence
import functools

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.likelihoods import observations
from common_flax.training import limits
from common_flax.training import time_limit
from common_flax.training.hooks import Checkpoints
from common_flax.training.hooks import Curves
from common_flax.training.hooks import Metrics
from common_flax.training.hooks import Pictures
from common_flax.training.hooks import Profile
from common_flax.training.loop import Hook
from common_flax.training.run import open_run
from common_flax.training.watch import Scoring
from vq_flax import trained as trained_lib
from vq_flax.prior import config as prior_config
from vq_flax.prior import prior as prior_lib
from vq_flax.prior.prior import create_prior
from vq_flax.prior.prior import Prior
from vq_flax.prior.prior import PriorState
from vq_flax.prior.trained import exists
from vq_flax.prior.trained import folder_of
from vq_flax.prior.trained import load
from vq_flax.prior.trained import same_weights
from vq_flax.prior.trained import TrainedPrior
from vq_flax.trained import TrainedVQ

_NUM_DRAWN = 64


def train(
  config: ConfigDict,
  workdir: epath.PathLike,
  *,
  source: Source | np.ndarray | None = None,
  labels: np.ndarray | None = None,
  hooks: Sequence[Hook] = (),
  profile: range | None = None,
  max_minutes: float | None = None,
) -> int | None:
  """Trains until `config.num_steps`, resuming the run if there is any.

  Args:
    config: has every field of `vq_flax.prior.config.default`. The data set is
      that of the model.
    workdir: folder of the model's run; the prior is trained in `prior` there.
    source: training images that replace the model's data set, see `data.given`.
    labels: labels of the images of a `source` that is an array.
    hooks: called before metrics are written, see `common_flax.training.hooks`.
    profile: steps to trace, if any.
    max_minutes: minutes until training ends, see `time_limit.choose_steps`.

  Returns:
    None if `num_steps` was reached, else the number of the stopping signal.

  Raises:
    UserError: if an argument, field or file is invalid; nothing is written.
    TrainingFailedError: if the run fails or cannot be saved.
  """
  if jax.process_count() > 1:
    raise UserError(
      'a prior is trained by one process; start it without others'
    )
  model = trained_lib.load(workdir)
  _check_weights(workdir, model)
  source = data.given(source, labels)
  config = data.for_source(
    prior_config.with_dataset(config, model.config), source
  )
  prior_config.check(config)
  folder = folder_of(workdir)
  config = time_limit.choose_steps(
    config,
    folder,
    max_minutes,
    prior_config.default(),
    prior_config.has_fixed_steps(config),
    functools.partial(_fit, model=model, source=source),
    prior_config.EFFECTS,
  )
  return _fit(
    config, folder, hooks, profile=profile, model=model, source=source
  )


def _fit(
  config: ConfigDict,
  folder: epath.PathLike,
  hooks: Sequence[Hook] = (),
  *,
  model: TrainedVQ,
  source: Source | None,
  profile: range | None = None,
) -> int | None:
  """Trains a prior of a settled config in its own folder."""
  with open_run(
    config,
    folder,
    default=prior_config.default(),
    effects=prior_config.EFFECTS,
    has_fixed_steps=prior_config.has_fixed_steps(config),
  ) as run:
    source = observations.prepare_source(config, data.of_run(config, source))
    if source.example_shape != model.vq.image_shape:
      raise UserError(
        f'source: has images {list(source.example_shape)}, and the model has '
        f'{list(model.vq.image_shape)}'
      )
    prior = create_prior(config, model.vq, source.num_classes, run.axis)
    _check_memory(prior, config)
    return run.fit(
      functools.partial(prior_lib.train_step, prior),
      functools.partial(prior_lib.init_state, prior, model.params),
      source,
      [
        Profile(profile),
        *_scores(prior, source, config),
        *hooks,
        Metrics(('rate_nats',)),
        Pictures(
          functools.partial(_draw, prior, config), config.sample_every_steps
        ),
        Curves(_panels(config), config.sample_every_steps),
        Checkpoints(prior_lib.exported_items, config),
      ],
      with_labels=prior.is_conditional,
      is_convolutional=False,
    )


def _check_weights(workdir: epath.PathLike, model: TrainedVQ) -> None:
  """Checks that a prior that is to be resumed belongs to the model's weights.

  Raises:
    UserError: if it belongs to others, naming the folder to remove.
  """
  if not exists(workdir):
    return
  try:
    old = load(workdir).model
  except UserError:  # of a model that is built otherwise
    old = None
  if old is None or not same_weights(old, model.params):
    raise UserError(
      f'--workdir={workdir}: the prior in {folder_of(workdir)} belongs to '
      'other weights of the model; remove that folder to train a new one'
    )


def _check_memory(prior: Prior, config: ConfigDict) -> None:
  """Checks that what a step holds for all codes fits into memory."""
  network, settings = prior.network, config.prior
  num = network.length
  scores = settings.num_layers * settings.num_heads * num**2
  values = config.batch_size * (scores + 3 * num * network.num_codes)
  limits.require_memory(
    f'config.batch_size={config.batch_size}, '
    f'config.prior.num_layers={settings.num_layers}, '
    f'config.prior.num_heads={settings.num_heads}, {num:,} codes of an image',
    values * network.param_dtype.itemsize,
  )


def _scores(prior: Prior, source: Source, config: ConfigDict) -> Iterator[Hook]:
  """Scores of samples."""
  score = functools.partial(_draw_scored, prior, config)
  yield Scoring(score, observations.as_observed(config, source), config)


def _trained(
  prior: Prior, config: ConfigDict, state: PriorState
) -> TrainedPrior:
  """The prior as it is now."""
  return TrainedPrior(
    prior, state.ema_params, state.model, config, int(state.step)
  )


def _draw(
  prior: Prior, config: ConfigDict, root: jax.Array, state: PriorState
) -> np.ndarray:
  """Draws a grid of samples, uint8 [H', W', C], one class per row."""
  key = prng.stream(root, 'preview')
  images = _trained(prior, config, state).generate(key, _NUM_DRAWN)
  return images_lib.grid(np.asarray(images))


def _draw_scored(
  prior: Prior,
  config: ConfigDict,
  root: jax.Array,
  state: PriorState,
  num: int,
) -> np.ndarray:
  """Draws samples to score in training, uint8 [num, H, W, C]."""
  trained = _trained(prior, config, state)
  key = prng.stream(root, 'evaluate')
  labels = trained.balanced_labels(num)
  return np.asarray(trained.generate(key, num, labels))


def _panels(config: ConfigDict) -> dict[str, Sequence[str]]:
  """The panels of curves.png."""
  panels = {'nats': ('rate_nats',)}
  if config.evaluate_every_steps:
    panels['evaluation'] = config.evaluation_metrics
  return panels
