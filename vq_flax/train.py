"""Trains a model with discrete latents in a workdir."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools
import math

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
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
from vq_flax import config as vq_config
from vq_flax import generation
from vq_flax import pictures
from vq_flax import steps
from vq_flax import trained
from vq_flax.state import exported_items
from vq_flax.state import init_state
from vq_flax.vq import create_vq
from vq_flax.vq import VQ
from vq_flax.watch import codebook_watch


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
    config: has every field of `vq_flax.config.default`.
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
    vq = create_vq(config, source.example_shape, source.num_classes, run.axis)
    _check_memory(vq, config)
    watched = generation.watched(vq, run.root, source)
    draw = functools.partial(pictures.draw, vq, watched)
    return run.fit(
      functools.partial(steps.train_step, vq),
      functools.partial(init_state, vq),
      source,
      [
        Profile(profile),
        *_watches(vq, watched, source, config),
        *hooks,
        Metrics(('reconstruction_nats', 'code_perplexity', 'codes_used')),
        Pictures(draw, config.sample_every_steps),
        Curves(_panels(config), config.sample_every_steps),
        Checkpoints(exported_items, config),
      ],
      adopt=trained.adopting(run.init_from),
    )


def _opened(
  config: ConfigDict, workdir: epath.PathLike, init_from: epath.PathLike | None
) -> contextlib.AbstractContextManager[Run]:
  """Opens the run of a settled config; see `open_run`."""
  return open_run(
    config,
    workdir,
    default=vq_config.default(),
    effects=vq_config.EFFECTS,
    has_fixed_steps=vq_config.has_fixed_steps(config),
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
  vq_config.check(config)
  return time_limit.choose_steps(
    config,
    workdir,
    max_minutes,
    vq_config.default(),
    vq_config.has_fixed_steps(config),
    functools.partial(train, source=source, init_from=init_from),
    vq_config.EFFECTS,
  )


def _watches(
  vq: VQ, watched: jax.Array, source: Source, config: ConfigDict
) -> Iterator[Hook]:
  """The watch over the codes, and scores of reconstructions."""
  yield codebook_watch(vq, watched, config)
  score = functools.partial(pictures.draw_scored, vq, source)
  yield Scoring(score, observations.as_observed(config, source), config)


def _panels(config: ConfigDict) -> dict[str, Sequence[str]]:
  """The panels of curves.png."""
  panels = {
    'nats': ('reconstruction_nats',),
    'perplexity of codes': ('perplexity', 'code_perplexity'),
    'share of codes in use': ('codes_used',),
  }
  if config.evaluate_every_steps:
    panels['evaluation'] = config.evaluation_metrics
  return panels


def _check_memory(vq: VQ, config: ConfigDict) -> None:
  """Checks that what a step holds for all cells fits into memory."""
  values = config.batch_size * math.prod(vq.image_shape)
  values *= vq.likelihood.num_outputs
  text = f'config.batch_size={config.batch_size}'
  if vq.codebooks is not None:  # distances to all entries, and their choice
    values += 2 * config.batch_size * vq.num_codes * config.model.num_codes
    for name in ('num_codes', 'num_codebooks'):
      text += f', config.model.{name}={config.model[name]}'
  limits.require_memory(text, values * vq.dtype.itemsize)
