"""Log Pr(x) of a trained VAE by annealed importance sampling.

The chains start at N(0, I), which is the prior unless that is learned, so that
the estimate does not depend on the encoder, or at the encoder's posterior.

Dimensions: N images, H height, W width, C channels, K chains, Z latent size.
"""

from collections.abc import Callable
import functools
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import data
from common_flax import prng
from common_flax.annealing import audit
from common_flax.annealing import bounds as bounds_lib
from common_flax.annealing.audit import Settings
from common_flax.annealing.chains import LogJoint
from common_flax.cli import commands
from common_flax.data.source import Source
from vae_flax import estimation
from vae_flax import generation
from vae_flax import inference
from vae_flax.losses import log_normal
from vae_flax.priors import learned
from vae_flax.trained import TrainedVAE
from vae_flax.vae import VAE

STARTS = ('prior', 'encoder')


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags of the metric."""
  audit.define_flags(values)
  flags.DEFINE_enum(
    'ais_start',
    STARTS[0],
    STARTS,
    'Where the chains of --metrics=ais start: at N(0, I), the prior of most '
    'VAEs, or at the posterior of the encoder.',
    flag_values=values,
  )


def check_flags(values: flags.FlagValues, metrics: tuple[str, ...]) -> None:
  """Refuses flags of `define_flags` where the metric is not computed.

  Raises:
    UserError: naming the flag.
  """
  audit.check_flags(values, metrics)
  if audit.AIS not in metrics:
    reason = f'without --metrics={audit.AIS}; add it'
    commands.refuse_unused(values, reason, 'ais_start')


def _log_joint(vae: VAE, arguments: Any, z: jax.Array) -> jax.Array:
  """Log Pr(x, z) in nats, [N, K], for z [N, K, Z]."""
  params, prior, x, labels = arguments
  log_prior = jnp.sum(log_normal(z, 0.0, 0.0), axis=-1)
  if prior is not None:
    log_prior += learned.gain(prior, z)
  return log_prior + inference.reconstruction(vae, params, x, z, labels)


def _model(
  trained: TrainedVAE,
) -> tuple[LogJoint, Callable[[tuple[jax.Array, ...]], Any]]:
  """The log joint density of x and noise, and its arguments for some images.

  An image is a row (x, labels, mean, log_var), with the normal distribution of
  z at which its chains start.
  """

  def arguments_of(rows: tuple[jax.Array, ...]) -> Any:
    x, labels, mean, log_var = rows
    return (trained.params, trained.prior, x, labels), mean, log_var

  log_joint = functools.partial(_log_joint, trained.vae)
  return bounds_lib.from_normal(log_joint), arguments_of


def _start(
  trained: TrainedVAE, x: jax.Array, labels: jax.Array | None, start: str
) -> tuple[jax.Array, jax.Array]:
  """Mean and log-variance [N, Z] of the distribution that chains start at."""
  if start == 'encoder':
    return generation.encode(trained.vae, trained.params, x, labels)
  zeros = jnp.zeros((len(x), trained.vae.latent_size), trained.vae.dtype)
  return zeros, zeros


@functools.partial(jax.jit, static_argnums=0)
def _simulate(
  vae: VAE,
  params: Any,
  z: jax.Array,
  labels: jax.Array | None,
  key: jax.Array,
) -> jax.Array:
  """Draws x [N, H, W, C] for latents [N, Z]; consumes the key."""
  outputs = inference.decode(vae, params, z, labels)
  return vae.likelihood.sample(key, outputs).astype(vae.dtype)


def measure(
  trained: TrainedVAE,
  source: Source,
  seed: int,
  settings: Settings,
  start: str = STARTS[0],
  num_importance_samples: int | None = None,
) -> dict[str, Any]:
  """Estimates log Pr(x) of images, and bounds it for simulated ones.

  Args:
    trained: the networks.
    source: of the images, the first of which are measured.
    seed: of all draws. Images are observed as the metric `likelihood` observes
      them.
    settings: how much is measured.
    start: one of STARTS.
    num_importance_samples: draws of an importance estimate for the same images;
      None for no such estimate.

  Returns:
    See `audit.metrics_of` and `audit.bounds_of`; `importance_nll_nats` is the
    importance estimate.
  """
  vae, params = trained.vae, trained.params
  root = prng.root_key(seed)
  keys = jax.random.split(prng.stream(root, 'evaluate', 1), 5)
  numbers = jnp.arange(settings.num_images)
  images = data.first_examples(source, settings.num_images)
  x = generation.observe_by_number(
    vae, prng.stream(root, 'observe'), jnp.asarray(images), numbers
  )
  model = _model(trained)
  labels = generation.labels_of(vae, source, numbers)
  rows = (x, labels, *_start(trained, x, labels, start))
  found = audit.audit(*model, rows, keys[0], vae.latent_size, settings)
  metrics = audit.metrics_of(found)
  if num_importance_samples:
    log_prob = importance_estimates(
      trained, x, keys[1], num_importance_samples, labels
    )
    metrics['importance_nll_nats'] = -float(log_prob.mean())
  num = settings.num_simulated
  z = generation.draw_latents(vae, trained.prior, keys[2], num)
  labels = generation.labels_of(vae, source, np.arange(num) % len(source))
  x = _simulate(vae, params, z, labels, keys[3])
  mean, log_var = _start(trained, x, labels, start)
  noise = (z - mean) * jnp.exp(-0.5 * log_var)
  rows = (x, labels, mean, log_var)
  bounds = audit.simulated(*model, rows, noise, keys[4], settings)
  return metrics | audit.bounds_of(bounds)


def importance_estimates(
  trained: TrainedVAE,
  x: jax.Array,
  root: jax.Array,
  num_samples: int,
  labels: jax.Array | None = None,
) -> np.ndarray:
  """The importance estimates of log Pr(x) of x [N, H, W, C], float64 [N].

  Args:
    trained: the networks.
    x: from `vae.observe`.
    root: of the images' keys, not consumed.
    num_samples: draws per image.
    labels: int32 [N] of a conditional VAE.
  """
  vae, params = trained.vae, trained.params

  def measure(rows: Any, keys: jax.Array) -> np.ndarray:
    x, labels = rows
    found = generation.evidence(vae, params, x, labels)
    return estimation.estimate(
      vae, params, x, found, keys, num_samples, labels, trained.prior
    ).log_prob

  # As many images at a time as the metric `likelihood` has.
  return audit.in_batches(
    measure, (x, labels), root, 1600 // estimation.CHUNK_IMAGES
  )
