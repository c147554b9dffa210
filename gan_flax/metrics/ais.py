"""Log Pr(x) of a trained generator by annealed importance sampling.

A generator alone has no density. With Gaussian noise of a chosen variance on
its images it has: x ~ N(g(z), variance I), for pixels in [0, 1] (Wu et al.
2017, arXiv:1611.04273, section 2.2). Real images are dequantised.

Dimensions: N images, H height, W width, C channels, K chains, Z latent size.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import prng
from common_flax.annealing import audit
from common_flax.annealing.audit import Settings
from common_flax.cli import commands
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.evaluation.protocol import Scores
from common_flax.progress import track
from gan_flax.gan import GAN
from gan_flax.measurements import Evaluator
from gan_flax.trained import Sampler

# Candidate variances of a pixel in [0, 1].
_VARIANCES = '0.005,0.01,0.02,0.04,0.08'
_VALIDATION_SHARE = 4  # images measured for one that a variance is chosen on


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags of the metric."""
  audit.define_flags(values)
  flags.DEFINE_string(
    'ais_variance',
    _VARIANCES,
    'Variance (not deviation) of a pixel in [0, 1] around the generated one, '
    'for --metrics=ais; of several, the likeliest for images that follow the '
    'measured ones.',
    flag_values=values,
  )


def variances(values: flags.FlagValues) -> tuple[float, ...]:
  """The candidate variances that the flags name.

  Raises:
    UserError: if one is no positive number, or if there is none.
  """
  text = values.ais_variance
  try:
    found = tuple(float(each) for each in text.split(','))
  except ValueError:
    found = ()
  if not found or not all(0 < each < math.inf for each in found):
    raise UserError(
      f'--ais_variance={text}: give positive numbers, such as 0.01,0.02'
    )
  return tuple(sorted(set(found)))


def check_flags(values: flags.FlagValues) -> None:
  """Checks the flags of the metric, and refuses those without effect.

  Raises:
    UserError: naming the flag.
  """
  audit.check_flags(values, values.metrics)
  if audit.AIS in values.metrics:
    variances(values)
    if values.save_samples and {*values.metrics} == {audit.AIS}:
      raise UserError(
        f'--save_samples={values.save_samples}: {audit.AIS} draws no samples; '
        'name another metric with --metrics, or drop the flag'
      )
    return
  reason = f'without --metrics={audit.AIS}; add it'
  commands.refuse_unused(values, reason, 'ais_variance')


def _latents(gan: GAN, noise: jax.Array) -> jax.Array:
  """Maps noise of N(0, I) to latents of the prior."""
  if gan.latent_distribution == 'uniform':
    return 2 * jax.scipy.stats.norm.cdf(noise) - 1
  return noise


def _means(gan: GAN, weights: Any, labels: Any, noise: jax.Array) -> jax.Array:
  """Generated images [N, H, W, C] in [0, 1], for noise [N, Z]."""
  params, batch_stats = weights
  variables = {'params': params, 'batch_stats': batch_stats}
  latents = _latents(gan, noise)
  images = gan.generator.apply(variables, latents, labels, train=False)
  return 0.5 * (images + 1)


def log_joint(gan: GAN, arguments: Any, noise: jax.Array) -> jax.Array:
  """Log Pr(x, noise) in nats.

  Args:
    gan: the static part.
    arguments: (params, batch_stats) of the generator, the variance [], and the
      images: x [N, H, W, C] in [0, 1] and labels [N] or None.
    noise: [N, K, Z], standard normal.

  Returns:
    [N, K].
  """
  weights, variance, (x, labels) = arguments
  num, num_chains, size = noise.shape
  if labels is not None:
    labels = jnp.repeat(labels, num_chains)
  means = _means(gan, weights, labels, noise.reshape(-1, size))
  means = means.reshape(num, num_chains, -1)
  squares = jnp.sum((x.reshape(num, 1, -1) - means) ** 2, axis=-1)
  num_values = means.shape[-1]
  log_prior = -0.5 * jnp.sum(noise**2, axis=-1)
  constant = 0.5 * (size + num_values) * math.log(2 * math.pi)
  spread = 0.5 * num_values * jnp.log(variance)
  return log_prior - 0.5 * squares / variance - spread - constant


def dequantised(key: jax.Array, images: np.ndarray) -> jax.Array:
  """Maps bytes [N, H, W, C] to (byte + u) / 256, u ~ U(0, 1)."""
  noise = jax.random.uniform(key, images.shape)
  return (jnp.asarray(images, jnp.float32) + noise) / 256


def _simulate(
  sampler: Sampler, labels: Any, variance: float, key: jax.Array, num: int
) -> tuple[jax.Array, jax.Array]:
  """Draws noise [N, Z], and x [N, H, W, C] for it; consumes the key."""
  noise_key, pixel_key = jax.random.split(key)
  gan = sampler.gan
  noise = jax.random.normal(noise_key, (num, gan.latent_size), gan.dtype)
  means = jax.jit(_means, static_argnums=0)(
    gan, (sampler.params, sampler.batch_stats), labels, noise
  )
  pixels = jax.random.normal(pixel_key, means.shape, means.dtype)
  return noise, means + math.sqrt(variance) * pixels


def _repeated(labels: jax.Array | None, num: int) -> jax.Array | None:
  """The first `num` of labels that are repeated as often as needed."""
  return None if labels is None else jnp.resize(labels, num)


def measure(
  sampler: Sampler,
  source: Source,
  seed: int,
  settings: Settings,
  candidates: tuple[float, ...],
) -> dict[str, Any]:
  """Estimates log Pr(x) of images, and bounds it for simulated ones.

  Args:
    sampler: a trained generator of images.
    source: of the images, the first of which are measured. A variance is chosen
      on those that follow them.
    seed: of all draws.
    settings: how much is measured.
    candidates: variances, ascending.

  Returns:
    See `audit.metrics_of` and `audit.bounds_of`; `ais_variance` is the variance
    and `ais_validation_nll_nats` has -log Pr(x) for each candidate.
  """
  gan, num = sampler.gan, settings.num_images
  keys = jax.random.split(prng.stream(prng.root_key(seed), 'evaluate', 1), 5)
  num_validated = num_validation(settings) if len(candidates) > 1 else 0
  examples = [source[i] for i in range(num + num_validated)]
  x = dequantised(keys[0], np.stack([each['image'] for each in examples]))
  labels = None
  if gan.is_conditional:
    labels = jnp.array([each['label'] for each in examples], jnp.int32)
  model = functools.partial(log_joint, gan)

  def arguments_of(variance: float) -> Callable[[Any], Any]:
    weights = (sampler.params, sampler.batch_stats)
    return lambda rows: (weights, jnp.float32(variance), rows)

  def measured(variance: float, rows: Any, key: jax.Array) -> audit.Audit:
    return audit.audit(
      model, arguments_of(variance), rows, key, gan.latent_size, settings
    )

  rows = jax.tree.map(lambda leaf: leaf[:num], (x, labels))
  validation = jax.tree.map(lambda leaf: leaf[num:], (x, labels))
  chosen, metrics = candidates[0], {}
  if len(candidates) > 1:
    nlls = [
      -float(measured(each, validation, keys[1]).estimates.log_prob.mean())
      for each in track(candidates, len(candidates), 'Choosing a variance')
    ]
    chosen = candidates[int(np.argmin(nlls))]
    metrics['ais_validation_nll_nats'] = nlls
  metrics |= audit.metrics_of(measured(chosen, rows, keys[2]))
  labels = _repeated(rows[1], settings.num_simulated)
  noise, simulated = _simulate(
    sampler, labels, chosen, keys[3], settings.num_simulated
  )
  bounds = audit.simulated(
    model, arguments_of(chosen), (simulated, labels), noise, keys[4], settings
  )
  metrics['ais_variance'] = chosen
  return metrics | audit.bounds_of(bounds)


def num_validation(settings: Settings) -> int:
  """The number of images that a variance is chosen on."""
  return -(-settings.num_images // _VALIDATION_SHARE)


def added_to(
  evaluator: Evaluator, dataset: ConfigDict, values: flags.FlagValues
) -> Evaluator:
  """An evaluator that has the metric, too.

  Args:
    evaluator: has the other metrics.
    dataset: the run's `config.dataset`, of images.
    values: with the flags of `define_flags`, checked.

  Raises:
    UserError: if the split has too few images.
  """
  source = data.load(dataset, values.split)
  candidates = variances(values)
  settings = audit.settings(values, len(source))
  needed = settings.num_images
  needed += num_validation(settings) if len(candidates) > 1 else 0
  if needed > len(source):
    raise UserError(
      f'--num_ais_images={values.num_ais_images}: a variance is chosen on '
      f'{num_validation(settings)} images more, and the split {values.split} '
      f'has {len(source)}; give fewer, or one --ais_variance'
    )

  def score(sampler: Sampler, key: jax.Array, num: int) -> Scores:
    scores = evaluator.score(sampler, key, num)
    found = measure(sampler, source, values.seed, settings, candidates)
    return scores._replace(metrics=scores.metrics | found)

  provenance = settings.provenance | {'ais_variances': list(candidates)}
  return Evaluator(
    score, evaluator.baselines, {**evaluator.provenance, **provenance}
  )
