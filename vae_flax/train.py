"""Trains a VAE in a workdir."""

from collections.abc import Sequence
import dataclasses
import functools
import math

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax import references
from common_flax import runs
from common_flax import sources
from common_flax.alarms import Row
from common_flax.alarms import Verdict
from common_flax.config import UserError
from common_flax.data.source import ArraySource
from common_flax.data.source import Source
from common_flax.family import Family
from common_flax.family import Parts
from vae_flax import config as vae_config
from vae_flax import generation
from vae_flax import observations
from vae_flax import steps
from vae_flax.state import create_vae
from vae_flax.state import EXPORT
from vae_flax.state import exported
from vae_flax.state import init_state
from vae_flax.state import VAE
from vae_flax.state import VAEState
from vae_flax.trained import Trained

# The grid: samples, then rows of images each above its reconstructions.
_COLUMNS = 8
_NUM_SAMPLES = 4 * _COLUMNS
_NUM_RECONSTRUCTIONS = 2 * _COLUMNS
# Burda et al. (2015) count active units on so many training images.
NUM_WATCHED = 500
_NO_ACTIVE_UNITS = (
  'no latent is active: the posterior has collapsed onto the prior, and the '
  'decoder ignores z. Try'
)
_CURVES = {
  'divergence (nats)': ('kl_nats',),
  'active latents': ('active_units',),
}


def prepare_source(config: ConfigDict, source: Source) -> Source:
  """The source itself, or with `binarise=fixed` one of fixed binary images.

  Raises:
    UserError: if they would not fit into memory.
  """
  if config.dataset.binarise != 'fixed':
    return source
  if not (isinstance(source, ArraySource) and source.is_in_memory):
    raise UserError(
      "config.dataset.binarise='fixed': is for data that fits into memory; "
      'take stochastic or threshold'
    )
  fixed = observations.fix(source.examples, config.dataset.binarise_seed)
  return dataclasses.replace(source, examples=fixed)


def as_seen(config: ConfigDict, source: Source) -> Source:
  """Images as the VAE sees them, black and white where they do not change.

  Where pixels are drawn anew each time, their means stay what they are.

  Args:
    config: of the run.
    source: of `prepare_source`.
  """
  if config.dataset.binarise != 'threshold':
    return source
  images = sources.first_examples(source, references.MAX_REAL)
  binary = observations.threshold(jax.random.key(0), images)
  labels = [source[i]['label'] for i in range(len(images))]
  return ArraySource(
    np.asarray(images_lib.from_unit(binary)),
    np.asarray(labels, np.int32),
    source.num_classes,
  )


def _draw(
  vae: VAE,
  z: jax.Array,
  x: jax.Array,
  unused_root: jax.Array,
  state: VAEState,
) -> np.ndarray:
  """Samples at latents that never change, and reconstructions of x."""
  params = state.ema_params
  samples = generation.generate(vae, params, z)
  mean, _ = generation.encode(vae, params, x)
  reconstructions = generation.generate(vae, params, mean)
  originals = images_lib.from_unit(x)
  rows = []
  for start in range(0, len(x), _COLUMNS):
    here = slice(start, start + _COLUMNS)
    rows += [originals[here], reconstructions[here]]
  return images_lib.grid(np.concatenate([samples, *rows]))


def _samples(
  config: ConfigDict, vae: VAE, root: jax.Array, state: VAEState, num: int
) -> np.ndarray:
  """Images from the prior, to be judged, uint8 [num, H, W, C]."""
  trained = Trained(vae, state.ema_params, config, int(state.step))
  return np.asarray(trained.generate(prng.stream(root, 'evaluate'), num))


def _cure(config: ConfigDict) -> str:
  """What may help against a collapsed posterior, of what a config allows."""
  if config.objective != 'elbo':
    return (
      'a lower learning rate, or --init_from a run with objective=elbo and '
      'kl_warmup_steps'
    )
  cures = ['kl_warmup_steps', 'free_bits_nats', 'a beta below 1']
  if config.kl != 'closed_form':
    cures.remove('free_bits_nats')
  return ' or '.join(cures)


def _judge(config: ConfigDict, rows: Sequence[Row]) -> Verdict:
  if rows[-1]['active_units'] > 0:
    return Verdict(None)
  return Verdict(f'{_NO_ACTIVE_UNITS} {_cure(config)}.')


def _held(config: ConfigDict, vae: VAE) -> dict[str, int]:
  """The decoder's outputs of all draws of z, which a step holds at once."""
  size, draws = config.batch_size, config.num_importance_samples
  fields = f'config.batch_size={size}, config.num_importance_samples={draws}'
  numbers = math.prod(vae.image_shape) * vae.likelihood.num_outputs
  return {fields: size * draws * numbers * vae.dtype.itemsize}


def _parts(config: ConfigDict, vae: VAE, source: Source) -> Parts:
  root = prng.root_key(config.seed)
  z = generation.draw_latents(vae, prng.stream(root, 'preview'), _NUM_SAMPLES)
  watched = generation.observe(
    vae,
    prng.stream(root, 'observe'),
    sources.first_examples(source, NUM_WATCHED),
  )
  is_elbo = config.objective == 'elbo'
  bounds = ('elbo_nats',) if is_elbo else ('iwae_nats', 'elbo_nats')
  return Parts(
    step=functools.partial(steps.train_step, vae),
    batches_per_step=1,
    draw=functools.partial(_draw, vae, z, watched[:_NUM_RECONSTRUCTIONS]),
    networks=lambda state: state.params,
    export=lambda state: {EXPORT: exported(state)},
    curves={'nats': (*bounds, 'reconstruction_nats'), **_CURVES},
    headline=(*bounds, 'kl_nats', 'active_units'),
    measure=lambda unused_root, state: generation.latent_use(
      vae, state.params, watched
    ),
    judge=functools.partial(_judge, config),
    is_convolutional=config.model.name == 'conv',
    samples=functools.partial(_samples, config, vae),
    as_seen=functools.partial(as_seen, config),
    held=_held(config, vae),
  )


FAMILY = Family(
  default_config=vae_config.default,
  check_config=vae_config.check,
  has_fixed_steps=vae_config.has_fixed_steps,
  create=create_vae,
  init_state=init_state,
  weights=exported,
  with_weights=lambda state, weights: state.replace(**weights),
  parts=_parts,
  prepare_source=prepare_source,
)

# (config, workdir, init_from=None, profile=None), see `runs.train`
train = functools.partial(runs.train, FAMILY)
