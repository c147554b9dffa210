"""The metric `ais` of the commands: flags, batches of examples, numbers.

Dimensions: N examples, C chains of each, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import prng
from common_flax.annealing import bounds
from common_flax.annealing import chains
from common_flax.annealing.bounds import Bidirectional
from common_flax.annealing.weights import Estimates
from common_flax.annealing.weights import estimates
from common_flax.annealing.weights import standard_error
from common_flax.cli import commands

AIS = 'ais'
_ROWS = 1600  # chains that move together, at most; at least those of an example
_MAX = 10**6
_FLAGS = ('num_ais_images', 'num_simulated', 'num_temperatures', 'num_chains')

# (rows with leaves [N, ...], keys [N]) -> a pytree with leaves [N, ...].
Measure = Callable[[Any, jax.Array], Any]


class Settings(NamedTuple):
  """How much is measured."""

  num_images: int
  num_simulated: int  # images that the model draws, for the bounds
  num_temperatures: int
  num_chains: int

  @property
  def betas(self) -> np.ndarray:
    """The inverse temperatures, see `chains.sigmoid_schedule`."""
    return chains.sigmoid_schedule(self.num_temperatures)

  @property
  def provenance(self) -> dict[str, int]:
    """The settings, for a report."""
    return {
      'num_ais_images': self.num_images,
      'num_simulated': self.num_simulated,
      'num_temperatures': self.num_temperatures,
      'num_chains': self.num_chains,
    }


class Audit(NamedTuple):
  """Estimates for each example, float64 [N]."""

  estimates: Estimates
  acceptance: np.ndarray  # of the transitions


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags of the metric."""
  for name, default, text in (
    ('num_ais_images', 100, 'First images of the split, for --metrics=ais.'),
    ('num_simulated', 16, 'Images of the model itself, for the bounds of ais.'),
    ('num_temperatures', 1000, 'Temperatures that chains of ais visit.'),
    ('num_chains', 16, 'Chains of ais for each image.'),
  ):
    flags.DEFINE_integer(name, default, text, 1, _MAX, flag_values=values)


def check_flags(values: flags.FlagValues, metrics: Sequence[str]) -> None:
  """Refuses flags of `define_flags` where the metric is not computed.

  Raises:
    UserError: naming the flag.
  """
  if AIS not in metrics:
    commands.refuse_unused(values, f'without --metrics={AIS}; add it', *_FLAGS)


def settings(values: flags.FlagValues, num_examples: int) -> Settings:
  """The settings that the flags name, for a split of so many examples."""
  return Settings(
    min(values.num_ais_images, num_examples),
    values.num_simulated,
    values.num_temperatures,
    values.num_chains,
  )


def in_batches(
  measure: Measure, rows: Any, root: jax.Array, num_chains: int
) -> Any:
  """Measures examples in batches of one size.

  Args:
    measure: measures the examples of a batch.
    rows: a pytree with leaves [N, ...].
    root: of the examples' keys, each a function of its number; not consumed.
    num_chains: C, which bounds the size of a batch.

  Returns:
    What `measure` returns, for all examples, as NumPy arrays.
  """
  num = len(jax.tree.leaves(rows)[0])
  count = -(-num // max(1, _ROWS // num_chains))
  size = -(-num // count)
  results = []
  for start in range(0, num, size):
    numbers = np.minimum(np.arange(start, start + size), num - 1)
    batch = jax.tree.map(lambda leaf, n=numbers: leaf[n], rows)
    keys = prng.by_number(root, jnp.asarray(numbers, jnp.int32))
    results.append(jax.device_get(measure(batch, keys)))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[:num], *results)


def audit(
  log_joint: chains.LogJoint,
  arguments_of: Callable[[Any], Any],
  rows: Any,
  root: jax.Array,
  size: int,
  settings: Settings,
) -> Audit:
  """Estimates log Pr(x) of examples.

  Args:
    log_joint: of the model.
    arguments_of: the arguments of log_joint for some of the rows.
    rows: the examples, a pytree with leaves [N, ...].
    root: of the random numbers, not consumed.
    size: Z.
    settings: how much is measured.
  """

  def measure(batch: Any, keys: jax.Array) -> Audit:
    annealed = bounds.forward(
      log_joint,
      arguments_of(batch),
      keys,
      settings.num_chains,
      settings.betas,
      size,
    )
    return Audit(estimates(annealed.log_weights), annealed.acceptance)

  return in_batches(measure, rows, root, settings.num_chains)


def simulated(
  log_joint: chains.LogJoint,
  arguments_of: Callable[[Any], Any],
  rows: Any,
  z: jax.Array,
  root: jax.Array,
  settings: Settings,
) -> Bidirectional:
  """Bounds log Pr(x) of simulated examples from both sides.

  Args:
    log_joint: of the model.
    arguments_of: the arguments of log_joint for some of the rows.
    rows: the examples, a pytree with leaves [N, ...].
    z: [N, Z], from which they were drawn.
    root: of the random numbers, not consumed.
    settings: how much is measured.
  """

  def measure(batch: Any, keys: jax.Array) -> Bidirectional:
    rows, z = batch
    return bounds.bidirectional(
      log_joint,
      arguments_of(rows),
      z,
      keys,
      settings.num_chains,
      settings.betas,
    )

  return in_batches(measure, (rows, z), root, settings.num_chains)


def metrics_of(found: Audit) -> dict[str, Any]:
  """The metrics of real examples; lists hold a number for each."""
  log_prob, errors, effective = found.estimates
  return {
    'ais_nll_nats': -float(log_prob.mean()),
    'ais_nll_standard_error_nats': standard_error(log_prob),
    'ais_chains_standard_error_nats': float(
      np.sqrt(np.sum(errors**2)) / len(errors)
    ),
    'ais_effective_samples': float(np.median(effective)),
    'ais_lowest_effective_samples': float(effective.min()),
    'ais_acceptance': float(found.acceptance.mean()),
    'ais_log_prob_per_image_nats': log_prob.tolist(),
    'ais_standard_error_per_image_nats': errors.tolist(),
    'ais_effective_samples_per_image': effective.tolist(),
  }


def bounds_of(found: Bidirectional) -> dict[str, float]:
  """The metrics of simulated examples: means of bounds on -log Pr(x)."""
  lower, upper = found.lower.log_prob, found.upper
  return {
    'bdmc_nll_upper_nats': -float(lower.mean()),
    'bdmc_nll_lower_nats': -float(upper.mean()),
    'bdmc_gap_nats': float((upper - lower).mean()),
    'bdmc_gap_standard_error_nats': standard_error(upper - lower),
    'bdmc_effective_samples': float(np.median(found.lower.effective_samples)),
  }
