"""Estimates of log Pr(x) from chains forward, and bounds from both ways.

Weights have the right expectation only if transitions do not depend on what
their own chain did before. So step sizes are adapted in chains of their own,
for each example and temperature, and then fixed; the way back has the same.

Dimensions: N examples, C chains of each, K temperatures, Z latent size.
"""

from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common_flax.annealing import weights as weights_lib
from common_flax.annealing.chains import anneal
from common_flax.annealing.chains import Annealed
from common_flax.annealing.chains import LogJoint
from common_flax.annealing.weights import Estimates

_PILOTS = 2  # chains for each example that step sizes are adapted in


class Bidirectional(NamedTuple):
  """Bounds on the log Pr(x) of simulated x, for each x."""

  lower: Estimates
  upper: np.ndarray  # float64 [N], nats
  acceptance: np.ndarray  # float64 [N], over both ways


def from_normal(log_joint: LogJoint) -> LogJoint:
  """The model in noise u that starts chains at a normal distribution of z.

  With z = mean + deviation * u, N(u; 0, I) is N(z; mean, exp(log_var)), such as
  an encoder's posterior.

  Args:
    log_joint: of z.

  Returns:
    The log joint density of x and u. Its arguments are (arguments of log_joint,
    mean [N, Z], log_var [N, Z]).
  """

  def log_joint_of_noise(arguments: Any, u: jax.Array) -> jax.Array:
    inner, mean, log_var = arguments
    z = mean[:, None] + jnp.exp(0.5 * log_var)[:, None] * u
    log_volume = 0.5 * jnp.sum(log_var, axis=-1)
    return log_joint(inner, z) + log_volume[:, None]

  return log_joint_of_noise


def _starts(keys: jax.Array, num_chains: int, size: int, dtype: Any) -> Any:
  """Draws from N(0, I), [N, C, Z]."""
  draw = functools.partial(
    jax.random.normal, shape=(num_chains, size), dtype=dtype
  )
  return jax.vmap(draw)(keys)


def _split(keys: jax.Array, num: int) -> Sequence[jax.Array]:
  """Splits each of the keys [N]: `num` arrays of keys [N]."""
  split = jax.vmap(functools.partial(jax.random.split, num=num))(keys)
  return [split[:, i] for i in range(num)]


def tune(
  log_joint: LogJoint,
  arguments: Any,
  keys: jax.Array,
  betas: np.ndarray,
  size: int,
  dtype: Any = jnp.float32,
) -> np.ndarray:
  """Adapts the step size for each example and temperature.

  Args:
    log_joint: of the model.
    arguments: of log_joint.
    keys: [N], each consumed.
    betas: float64 [K + 1], from 0 to 1.
    size: Z.
    dtype: of z.

  Returns:
    float32 [K, N].
  """
  start_keys, chain_keys = _split(keys, 2)
  z = _starts(start_keys, _PILOTS, size, dtype)
  pilot = anneal(
    log_joint, arguments, z, chain_keys, betas, text='Adapting step sizes'
  )
  return pilot.step_sizes


def forward(
  log_joint: LogJoint,
  arguments: Any,
  keys: jax.Array,
  num_chains: int,
  betas: np.ndarray,
  size: int,
  dtype: Any = jnp.float32,
) -> Annealed:
  """Anneals chains from N(0, I) to the posteriors of examples.

  Args:
    log_joint: of the model.
    arguments: of log_joint.
    keys: [N], each consumed; the chains of an example depend on its key alone.
    num_chains: C.
    betas: float64 [K + 1], from 0 to 1.
    size: Z.
    dtype: of z.
  """
  tune_keys, start_keys, chain_keys = _split(keys, 3)
  step_sizes = tune(log_joint, arguments, tune_keys, betas, size, dtype)
  z = _starts(start_keys, num_chains, size, dtype)
  return anneal(log_joint, arguments, z, chain_keys, betas, step_sizes)


def bidirectional(
  log_joint: LogJoint,
  arguments: Any,
  z: jax.Array,
  keys: jax.Array,
  num_chains: int,
  betas: np.ndarray,
) -> Bidirectional:
  """Bounds the log Pr(x) of simulated x from both sides.

  Args:
    log_joint: of the model.
    arguments: of log_joint, with x drawn from Pr(x|z).
    z: [N, Z] from which x was drawn: a draw of the posterior Pr(z|x).
    keys: [N], each consumed.
    num_chains: C, each way.
    betas: float64 [K + 1], from 0 to 1.
  """
  forward_keys, reverse_keys = _split(keys, 2)
  there = forward(
    log_joint,
    arguments,
    forward_keys,
    num_chains,
    betas,
    z.shape[-1],
    z.dtype,
  )
  starts = jnp.repeat(z[:, None], num_chains, axis=1)
  # The way back moves where the way there moved, by the same transitions; its
  # last one, to N(0, I), comes after the last weight.
  back = anneal(
    log_joint,
    arguments,
    starts,
    reverse_keys,
    betas[::-1],
    np.roll(there.step_sizes[::-1], -1, axis=0),
    'Annealing back',
  )
  return Bidirectional(
    weights_lib.estimates(there.log_weights),
    weights_lib.upper_bound(back.log_weights),
    0.5 * (there.acceptance + back.acceptance),
  )
