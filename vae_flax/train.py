"""Trains a VAE in a workdir."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools
import math

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import images
from common_flax.data.source import Source
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
from common_flax.training.run import Run
from common_flax.training.watch import Scoring
from vae_flax import config as vae_config
from vae_flax import generation
from vae_flax import pictures
from vae_flax import steps
from vae_flax import trained
from vae_flax.models import MODELS
from vae_flax.state import exported_items
from vae_flax.state import init_state
from vae_flax.vae import create_vae
from vae_flax.vae import VAE
from vae_flax.watch import posterior_watch


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
    config: has every field of `vae_flax.config.default`.
    workdir: folder of the run, created if missing.
    source: training images that replace `config.dataset`, see `data.given`.
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
    source = observations.prepare_source(config, data.of_run(config, source))
    vae = create_vae(config, source.example_shape, source.num_classes, run.axis)
    _check_memory(vae, config)
    watched = generation.watched(vae, run.root, source)
    draw = functools.partial(pictures.draw, vae, watched)
    return run.fit(
      functools.partial(steps.train_step, vae),
      functools.partial(init_state, vae),
      source,
      [
        Profile(profile),
        *_watches(vae, watched, source, config),
        *hooks,
        Metrics((*_bounds(config), 'kl_nats', 'active_units')),
        Pictures(draw, config.sample_every_steps),
        Curves(_panels(config), config.sample_every_steps),
        Checkpoints(exported_items, config),
      ],
      adopt=trained.adopting(run.init_from),
      with_labels=vae.is_conditional,
      is_convolutional=MODELS[config.model.name].is_convolutional,
    )


def _opened(
  config: ConfigDict, workdir: epath.PathLike, init_from: epath.PathLike | None
) -> contextlib.AbstractContextManager[Run]:
  """Opens the run of a settled config; see `open_run`."""
  return open_run(
    config,
    workdir,
    default=vae_config.default(),
    effects=vae_config.EFFECTS,
    has_fixed_steps=vae_config.has_fixed_steps(config),
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
  vae_config.check(config)
  if config.model.name == 'conv':
    images.print_grid_size(config.dataset.image_size)
  return time_limit.choose_steps(
    config,
    workdir,
    max_minutes,
    vae_config.default(),
    vae_config.has_fixed_steps(config),
    functools.partial(train, source=source, init_from=init_from),
    vae_config.EFFECTS,
  )


def _watches(
  vae: VAE,
  watched: generation.Watched,
  source: Source,
  config: ConfigDict,
) -> Iterator[Hook]:
  """The watch over the posterior, and scores of samples."""
  yield posterior_watch(vae, watched, config)
  score = functools.partial(pictures.draw_scored, config, vae)
  yield Scoring(score, observations.as_observed(config, source), config)


def _bounds(config: ConfigDict) -> tuple[str, ...]:
  """The bounds on log Pr(x) that the objective computes."""
  is_elbo = config.objective == 'elbo'
  return ('elbo_nats',) if is_elbo else ('iwae_nats', 'elbo_nats')


def _panels(config: ConfigDict) -> dict[str, Sequence[str]]:
  """The panels of curves.png."""
  panels = {
    'nats': (*_bounds(config), 'reconstruction_nats'),
    'divergence (nats)': ('kl_nats',),
    'active latents': ('active_units',),
  }
  if config.evaluate_every_steps:
    panels['evaluation'] = config.evaluation_metrics
  return panels


def _check_memory(vae: VAE, config: ConfigDict) -> None:
  """Checks that what a step holds for all draws of z fits into memory."""
  size, draws = config.batch_size, config.num_importance_samples
  values = (
    size * draws * math.prod(vae.image_shape) * vae.likelihood.num_outputs
  )
  if vae.prior is not None:  # densities of all components
    values += size * draws * config.model.prior_components
  if vae.total_correlation_weight:  # all latents under all posteriors
    values += size**2 * vae.latent_size
  limits.require_memory(
    f'config.batch_size={size}, config.num_importance_samples={draws}',
    values * vae.dtype.itemsize,
  )
