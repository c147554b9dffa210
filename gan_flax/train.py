"""Trains a GAN in a workdir."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import images
from common_flax.data.source import Source
from common_flax.data.worlds import WORLDS
from common_flax.training import time_limit
from common_flax.training.hooks import Checkpoints
from common_flax.training.hooks import Curves
from common_flax.training.hooks import Metrics
from common_flax.training.hooks import Pictures
from common_flax.training.hooks import Profile
from common_flax.training.loop import Hook
from common_flax.training.run import open_run
from common_flax.training.run import Run
from common_flax.training.watch import Scoring
from gan_flax import config as gan_config
from gan_flax import pictures
from gan_flax import steps
from gan_flax import trained
from gan_flax.gan import create_gan
from gan_flax.gan import GAN
from gan_flax.overfitting import overfit_watch
from gan_flax.state import exported_items
from gan_flax.state import init_state
from gan_flax.state import networks
from gan_flax.watch import collapse_watch

_HEADLINE = ('d_loss', 'g_loss', 'd_accuracy', 'diversity')


def train(
  config: ConfigDict,
  workdir: epath.PathLike,
  *,
  source: Source | np.ndarray | None = None,
  labels: np.ndarray | None = None,
  hooks: Sequence[Hook] = (),
  init_from: epath.PathLike | None = None,
  profile: range | None = None,
  max_minutes: float | None = None,
) -> int | None:
  """Trains until `config.num_steps`, resuming the run in the workdir if any.

  Args:
    config: has every field of `gan_flax.config.default`.
    workdir: folder of the run, created if missing.
    source: training data that replaces `config.dataset`, see `data.given`.
    labels: labels of the images of a `source` that is an array.
    hooks: called before metrics are written, see `common_flax.training.hooks`.
    init_from: workdir of a run whose weights initialise a new run.
    profile: steps to trace, if any.
    max_minutes: minutes until training ends, see `time_limit.choose_steps`.

  Returns:
    None if `num_steps` was reached, else the number of the stopping signal.

  Raises:
    UserError: if an argument, field or file is invalid; nothing is written.
    TrainingFailedError: if the run fails or cannot be saved.
  """
  source = data.given(source, labels)
  config = _settled(config, workdir, source, init_from, max_minutes)
  with _opened(config, workdir, init_from) as run:
    gan_config.check_groups(config, run.devices_per_batch)
    source = data.of_run(config, source)
    gan = create_gan(config, source.example_shape, source.num_classes, run.axis)
    return run.fit(
      functools.partial(steps.train_step, gan),
      functools.partial(init_state, gan),
      source,
      [
        Profile(profile),
        *_watches(gan, source, config),
        *hooks,
        Metrics(_HEADLINE),
        *_pictures(gan, source, config),
        Checkpoints(exported_items, config),
      ],
      networks=networks,
      adopt=trained.adopting(run.init_from),
      batches_per_step=config.discriminator_steps,
      with_labels=gan.is_conditional,
      is_convolutional=not gan.is_of_points,
    )


def _opened(
  config: ConfigDict, workdir: epath.PathLike, init_from: epath.PathLike | None
) -> contextlib.AbstractContextManager[Run]:
  """Opens the run of a settled config; see `open_run`."""
  return open_run(
    config,
    workdir,
    default=gan_config.default(),
    effects=gan_config.EFFECTS,
    has_fixed_steps=gan_config.has_fixed_steps(config),
    num_seeds=config.num_seeds,
    init_from=init_from,
  )


def _settled(
  config: ConfigDict,
  workdir: epath.PathLike,
  source: Source | None,
  init_from: epath.PathLike | None,
  max_minutes: float | None,
) -> ConfigDict:
  """Checks the config of a run and settles its data and number of steps."""
  config = data.for_source(config, source)
  gan_config.check(config)
  if config.model.grid_size is None and config.dataset.name not in WORLDS:
    images.print_grid_size(config.dataset.image_size)
  return time_limit.choose_steps(
    config,
    workdir,
    max_minutes,
    gan_config.default(),
    gan_config.has_fixed_steps(config),
    functools.partial(train, source=source, init_from=init_from),
    gan_config.EFFECTS,
  )


def _pictures(gan: GAN, source: Source, config: ConfigDict) -> Iterator[Hook]:
  """Samples at fixed latents, and curves of the metrics."""
  every = config.sample_every_steps
  yield Pictures(pictures.drawing(gan, source, config), every)
  yield Curves(_panels(gan, config), every)


def _watches(gan: GAN, source: Source, config: ConfigDict) -> Iterator[Hook]:
  """The collapse watch, another where there are held-out images, and scores."""
  yield collapse_watch(gan, source, config)
  overfitting = overfit_watch(gan, source, config)
  if overfitting:
    yield overfitting
  yield Scoring(pictures.scoring(gan, config), source, config)


def _panels(gan: GAN, config: ConfigDict) -> dict[str, Sequence[str]]:
  """The panels of curves.png."""
  if gan.loss.is_classifier:
    opinion = 'discriminator\'s probability of "real"'
    names = ('real_probability', 'fake_probability')
  else:
    opinion, names = "discriminator's score", ('real_score', 'fake_score')
  panels = {
    'loss': ('d_loss', 'g_loss'),
    opinion: names,
    'watch': ('diversity', 'latent_response', 'd_accuracy'),
  }
  if not gan.is_of_points:
    panels['watch'] += ('mismatch',)
  if config.evaluate_every_steps:
    panels['evaluation'] = config.evaluation_metrics
  return panels
