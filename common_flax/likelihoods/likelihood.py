"""What a likelihood is, and what several of them share.

Dimensions: H height, W width, C channels, P outputs per value.
"""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

# Scales range from e^-7 = 1/1097, well below a byte's step, to e^1.
_LOG_SCALE_CENTRE, _LOG_SCALE_BOUND = -3.0, 4.0


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """A likelihood as pure functions.

  `log_prob(outputs [..., H, W, C, P], x [..., H, W, C]) -> [...]` is in nats.
  `mean(outputs [..., H, W, C, P]) -> [..., H, W, C]` is the image to show, in
  [0, 1].
  `sample(key, outputs [..., H, W, C, P]) -> [..., H, W, C]` draws x, and
  consumes the key.
  """

  num_outputs: int  # P
  is_binary: bool  # x is 0 or 1
  is_density: bool  # a density over [0, 1), not a probability
  log_prob: Callable[[jax.Array, jax.Array], jax.Array]
  mean: Callable[[jax.Array], jax.Array]
  sample: Callable[[jax.Array, jax.Array], jax.Array]


def soft_bound(x: jax.Array, bound: float) -> jax.Array:
  """Squeezes x smoothly into (-bound, bound), with slope 1 at 0."""
  return bound * jnp.tanh(x / bound)


def bounded_log_scale(output: jax.Array) -> jax.Array:
  """Maps an output to the log-scale of a Gaussian or a logistic, -7 to 1."""
  return _LOG_SCALE_CENTRE + soft_bound(output, _LOG_SCALE_BOUND)


def shown(mean: jax.Array) -> jax.Array:
  """Clips means to the range of images to show."""
  return jnp.clip(mean, 0.0, 1.0)
