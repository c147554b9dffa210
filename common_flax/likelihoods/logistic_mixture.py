"""The mixture of discretised logistics of PixelCNN++, as a likelihood.

Given z, a pixel is drawn from one of K components. Within a component, a
channel is a discretised logistic whose mean is linear in the earlier channels
of the pixel: red, then green given red, then blue given both. So a pixel's
channels depend on each other, while pixels are independent (Salimans et al.
2017, arXiv:1701.05517, section 2.2). Grey images have a plain mixture.

A decoder makes P = K * S outputs for every value, in S slots of K components:
mean, log-scale, the logit of the component's weight, and C // 2 coefficients.
The C(C - 1) / 2 coefficients of a pixel, in the order of `_means`, are the
first in the slots of its channels one after another; for RGB, that is all of
them. The channels of a pixel share the weights. Their logits are the mean over
the channels' slots, so that all outputs are of use and decoders need not know
of the pixel's own.

Dimensions: H height, W width, C channels, K components, P outputs per value, S
slots.
"""

import functools

import jax
import jax.numpy as jnp

from common_flax.cpu.sums import sum_values
from common_flax.likelihoods.independent import logistic_log_masses
from common_flax.likelihoods.likelihood import bounded_log_scale
from common_flax.likelihoods.likelihood import Likelihood
from common_flax.likelihoods.likelihood import shown

_NUM_SLOTS = 3  # beside the coefficients
_GREY = 0.5  # the middle of x, where coefficients do not move the means


def _slots(outputs: jax.Array, num_components: int) -> jax.Array:
  """[..., H, W, C, P] -> [..., H, W, C, S, K]."""
  return outputs.reshape(*outputs.shape[:-1], -1, num_components)


def _log_weights(slots: jax.Array) -> jax.Array:
  """Logs of the weights of a pixel's components, [..., H, W, K]."""
  return jax.nn.log_softmax(jnp.mean(slots[..., 2, :], axis=-2), axis=-1)


def _means(slots: jax.Array, x: jax.Array | None) -> jax.Array:
  """Means of the components of every channel, given the earlier channels.

  Args:
    slots: [..., H, W, C, S, K].
    x: the earlier channels' values, [..., H, W, C]; None for their means in the
      same component, each clipped to [0, 1].

  Returns:
    [..., H, W, C, K].
  """
  # An index with a range of one would be a gather, which is not exported.
  coefficients = jnp.tanh(
    jax.lax.slice_in_dim(slots, _NUM_SLOTS, None, axis=-2)
  )
  *image, num_channels, per_channel, num_components = coefficients.shape
  coefficients = coefficients.reshape(
    *image, num_channels * per_channel, num_components
  )
  own_means = slots[..., 0, :]
  means, values = [], []
  number = 0
  for channel in range(num_channels):
    mean = own_means[..., channel, :]
    for value in values:
      mean += coefficients[..., number, :] * (value - _GREY)
      number += 1
    means.append(mean)
    values.append(shown(mean) if x is None else x[..., channel, None])
  return jnp.stack(means, axis=-2)


def logistic_mixture_log_prob(
  num_components: int, outputs: jax.Array, x: jax.Array
) -> jax.Array:
  """Log mass of the pixels, summed over an image.

  It is finite for all finite outputs, because every component's is.

  Args:
    num_components: K.
    outputs: [..., H, W, C, P].
    x: [..., H, W, C], bytes / 255.
  """
  slots = _slots(outputs, num_components)
  log_masses = logistic_log_masses(
    _means(slots, x), bounded_log_scale(slots[..., 1, :]), x[..., None]
  )  # [..., H, W, C, K]
  log_joint = _log_weights(slots) + jnp.sum(log_masses, axis=-2)
  return sum_values(jax.nn.logsumexp(log_joint, axis=-1, keepdims=True))


def logistic_mixture_mean(num_components: int, outputs: jax.Array) -> jax.Array:
  """The expected pixel: each component's means, averaged by the weights.

  Within a component, earlier channels have their expected values. Means are
  clipped to [0, 1] before averaging, as the edge bins gather what lies beyond.

  Args:
    num_components: K.
    outputs: [..., H, W, C, P].

  Returns:
    [..., H, W, C] in [0, 1].
  """
  slots = _slots(outputs, num_components)
  weights = jnp.exp(_log_weights(slots))[..., None, :]  # [..., H, W, 1, K]
  # Rounding may take the weights' sum above 1.
  return shown(jnp.sum(weights * shown(_means(slots, None)), axis=-1))


def logistic_mixture_sample(
  num_components: int, key: jax.Array, outputs: jax.Array
) -> jax.Array:
  """Draws pixels, one channel after the other; consumes the key.

  Args:
    num_components: K.
    key: consumed.
    outputs: [..., H, W, C, P].

  Returns:
    [..., H, W, C], bytes / 255.
  """
  component_key, noise_key = jax.random.split(key)
  slots = _slots(outputs, num_components)
  component = jax.random.categorical(component_key, _log_weights(slots))
  slots = jnp.take_along_axis(
    slots, component[..., None, None, None], axis=-1
  )  # [..., H, W, C, S, 1]
  scales = jnp.exp(bounded_log_scale(slots[..., 1, 0]))
  noise = scales * jax.random.logistic(noise_key, scales.shape, scales.dtype)
  x = jnp.zeros_like(noise)
  for channel in range(noise.shape[-1]):
    mean = _means(slots, x)[..., channel, 0]
    value = jnp.round(255 * (mean + noise[..., channel]))
    x = x.at[..., channel].set(jnp.clip(value, 0, 255) / 255)
  return x


def logistic_mixture(num_components: int, num_channels: int) -> Likelihood:
  """For bytes; the decoder's outputs are those of the module's docstring.

  Args:
    num_components: K; with 1 it is the discretised logistic for grey images,
      and for others where coefficients are zero.
    num_channels: C.
  """
  return Likelihood(
    num_outputs=num_components * (_NUM_SLOTS + num_channels // 2),
    is_binary=False,
    is_density=False,
    log_prob=functools.partial(logistic_mixture_log_prob, num_components),
    mean=functools.partial(logistic_mixture_mean, num_components),
    sample=functools.partial(logistic_mixture_sample, num_components),
  )
