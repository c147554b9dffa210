"""Chains from N(0, I) to a posterior and back, and their weights.

Between N(z; 0, I) at the inverse temperature 0 and Pr(x, z) at 1 lie the
densities N(z; 0, I)^(1 - b) Pr(x, z)^b. A chain visits them one after another:
its weight is multiplied by the ratio of the next density to the last one, and
the chain moves by a transition that leaves the next one invariant (Neal 2001).

Dimensions: N examples, C chains of each, K temperatures, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Iterator
import functools
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from common_flax.annealing import hmc
from common_flax.cpu import compiler
from common_flax.cpu.threefry import unrolled
from common_flax.progress import track

# (arguments, z [N, C, Z]) -> log Pr(x, z) [N, C] in nats, for each row of z
# from the same row of the arguments' leaves. Compiled once for each function.
LogJoint = Callable[[Any, jax.Array], jax.Array]

_STEEPNESS = 4.0  # of the schedule
_CHUNK = 10  # temperatures, at most, in one compiled call
_FIRST_STEP_SIZE = 0.5  # for one latent


def sigmoid_schedule(num: int, steepness: float = _STEEPNESS) -> np.ndarray:
  """Inverse temperatures from 0 to 1, dense at both ends.

  Args:
    num: K, how many follow the 0.
    steepness: the sigmoid is taken from minus this to this (Wu et al. 2017).

  Returns:
    float64 [K + 1].
  """
  values = 1 / (1 + np.exp(-np.linspace(-steepness, steepness, num + 1)))
  return (values - values[0]) / (values[-1] - values[0])


class Annealed(NamedTuple):
  """What became of chains."""

  z: jax.Array  # [N, C, Z], where they ended
  log_weights: np.ndarray  # float64 [N, C], nats
  acceptance: np.ndarray  # float64 [N], mean over transitions
  step_sizes: np.ndarray  # float32 [K, N], of the transitions


def log_start(z: jax.Array) -> jax.Array:
  """Log N(z; 0, I) without its constant: z [..., Z] to [...]."""
  return -0.5 * jnp.sum(z**2, axis=-1)


def _density(
  log_joint: LogJoint, arguments: Any, beta: jax.Array
) -> hmc.Density:
  """The density at an inverse temperature; keeps both ends' ratio of logs."""

  def log_ratio(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    constant = 0.5 * z.shape[-1] * np.log(2 * np.pi)
    ratio = log_joint(arguments, z) - log_start(z) + constant
    return jnp.sum(ratio), ratio

  def density(z: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    # Of independent rows, the gradient of the sum is that of each.
    (_, ratio), gradient = jax.value_and_grad(log_ratio, has_aux=True)(z)
    return _tempered(z, ratio, gradient, beta)

  return density


def _tempered(
  z: jax.Array, ratio: jax.Array, gradient: jax.Array, beta: jax.Array
) -> tuple[jax.Array, jax.Array, Any]:
  """A density, from the ratio of both ends and the gradient of the ratio."""
  kept = (ratio, gradient)
  return log_start(z) + beta * ratio, -z + beta * gradient, kept


def _run_chunk(
  log_joint: LogJoint,
  is_pilot: bool,
  arguments: Any,
  z: jax.Array,
  keys: jax.Array,
  numbers: jax.Array,
  betas: jax.Array,
  step_sizes: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
  """Visits the temperatures of a chunk.

  Args:
    log_joint: of the model.
    is_pilot: whether step sizes adapt, from the first on.
    arguments: of log_joint.
    z: [N, C, Z].
    keys: [N], not consumed.
    numbers: int32 [K], of the temperatures.
    betas: [K].
    step_sizes: [K, N].

  Returns:
    z, and for each temperature the log ratio of both ends [K, N, C] where the
    chains were before, the acceptance [K, N], and the step sizes [K, N].
  """

  def visit(
    carry: tuple[hmc.Position, jax.Array],
    inputs: tuple[jax.Array, jax.Array, jax.Array],
  ) -> tuple[tuple[hmc.Position, jax.Array], tuple[jax.Array, ...]]:
    here, adapted = carry
    number, beta, given = inputs
    step_size = adapted if is_pilot else given
    ratio, gradient = here.kept
    here = hmc.Position(here.z, *_tempered(here.z, ratio, gradient, beta))
    drawn = jax.vmap(lambda key: jax.random.fold_in(unrolled(key), number))(
      keys
    )
    density = _density(log_joint, arguments, beta)
    there, acceptance = hmc.transition(density, here, drawn, step_size)
    adapted = hmc.adapted(step_size, acceptance)
    outputs = ratio, jnp.mean(acceptance, axis=1), step_size
    return (there, adapted), outputs

  start = hmc.position(_density(log_joint, arguments, betas[0]), z)
  (end, adapted), outputs = lax.scan(
    visit, (start, step_sizes[0]), (numbers, betas, step_sizes)
  )
  ratios, acceptance, used = outputs
  # The next chunk of a pilot begins where this one's step sizes came to.
  used = jnp.concatenate([used, adapted[None]])
  return end.z, (ratios, acceptance, used)


@functools.cache  # deferred until the platform is known
def _compiled_run_chunk() -> Callable[..., Any]:
  return jax.jit(
    _run_chunk,
    static_argnums=(0, 1),
    compiler_options=compiler.for_dense_networks(),
  )


def _chunks(num: int) -> Iterator[np.ndarray]:
  """Numbers of temperatures in chunks of one size; the last may go beyond."""
  count = -(-num // _CHUNK)
  size = -(-num // count)
  for start in range(0, num, size):
    yield np.arange(start, start + size)


def anneal(
  log_joint: LogJoint,
  arguments: Any,
  z: jax.Array,
  keys: jax.Array,
  betas: np.ndarray,
  step_sizes: np.ndarray | None = None,
  text: str = 'Annealing',
) -> Annealed:
  """Takes chains along a path of temperatures.

  Args:
    log_joint: of the model.
    arguments: of log_joint.
    z: [N, C, Z], drawn from the first density of the path.
    keys: [N], each consumed; the chains of an example depend on its key alone.
    betas: float64 [K + 1], from 0 to 1, or the reverse.
    step_sizes: [K, N], of the transitions to betas[1:]; None adapts them on
      the way, and then the weights mean nothing.
    text: shown beside the progress bar.

  Returns:
    The weights of a reverse path are those of its chains taken forward.
  """
  num, is_pilot = len(betas) - 1, step_sizes is None
  size = z.shape[-1]
  if is_pilot:
    step_sizes = np.full((num, len(z)), _FIRST_STEP_SIZE / size**0.25)
  step_sizes = np.asarray(step_sizes, np.float32)
  log_weights = np.zeros(z.shape[:2])
  acceptances, used = [], []
  run_chunk = _compiled_run_chunk()
  chunks = list(_chunks(num))
  for numbers in track(chunks, len(chunks), text):
    inside = np.minimum(numbers, num - 1)
    given = step_sizes[inside]
    if is_pilot and used:
      given = np.broadcast_to(used[-1][-1], given.shape)
    z, outputs = run_chunk(
      log_joint,
      is_pilot,
      arguments,
      z,
      keys,
      jnp.asarray(numbers, jnp.int32),
      jnp.asarray(betas[inside + 1], z.dtype),
      jnp.asarray(given, z.dtype),
    )
    ratios, acceptance, chunk_used = jax.device_get(outputs)
    steps = np.abs(betas[inside + 1] - betas[inside]) * (numbers < num)
    # In double precision: there are thousands of terms.
    log_weights += np.einsum('k,knc->nc', steps, ratios.astype(np.float64))
    acceptances.append(acceptance)
    used.append(chunk_used)
  return Annealed(
    z,
    log_weights,
    np.concatenate(acceptances)[:num].mean(axis=0, dtype=np.float64),
    np.concatenate([each[:-1] for each in used])[:num],
  )
