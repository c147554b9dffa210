"""Encoder and decoder of a hierarchy of latents (Child 2021, arXiv:2011.10650).

Latents come in groups. A group has a side and a number of channels; coarse
groups come first. The decoder works from the top down: each group's prior is a
normal distribution whose mean and deviation are computed from all groups above
it, z_l = m_l(z_<l) + s_l(z_<l) ε_l with ε_l from N(0, I). The decoder therefore
takes the standardised latents ε, whose prior is N(0, I) for all groups at once,
as that of a model with one layer is. Everything that draws or moves latents
works on ε, a vector of all groups' values.

Inference goes from the top down as well (Sønderby et al. 2016,
arXiv:1602.02282) and shares the decoder's path: the posterior of a group is
computed from the image and from the decoder's state. In terms of ε it is
N(Δm, Δs²), the posterior relative to the prior (Vahdat & Kautz 2020,
arXiv:2007.03898, section 3.2), so the divergence of a group is that from a
standard normal distribution.

Dimensions: B batch, S side of a scale, W its width, C channels of its latents,
H height, P outputs per value, Z number of latents.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.likelihoods import soft_bound
from vae_flax.models.groups import group_shapes
from vae_flax.models.groups import Scale
from vae_flax.models.groups import scale_of_groups
from vae_flax.models.groups import split
from vae_flax.models.groups import to_depth
from vae_flax.models.groups import to_space

Activation = Callable[[jax.Array], jax.Array]


class Block(nn.Module):
  """A bottleneck: 1x1, 3x3 and 1x1 convolutions, each after an activation.

  Attributes:
    width: features inside, half of a scale's.
    features: features of the result.
    gain: multiplies the deviation of the last layer's initial weights; 0 makes
      the result 0 at first.
    activation: activation of the hidden layers.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  width: int
  features: int
  gain: float
  activation: Activation
  dtype: jnp.dtype
  param_dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, S, S, ...] -> [B, S, S, features]."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    x = nn.Dense(self.width, name='reduce', **types)(self.activation(x))
    x = self.activation(x)
    if x.shape[1] > 1:
      x = nn.Conv(self.width, (3, 3), name='mix', **types)(x)
    else:
      x = nn.Dense(self.width, name='mix', **types)(x)
    last_init = (
      nn.initializers.variance_scaling(
        self.gain**2, 'fan_in', 'truncated_normal'
      )
      if self.gain
      else nn.initializers.zeros_init()
    )
    return nn.Dense(
      self.features, kernel_init=last_init, name='expand', **types
    )(self.activation(x))


class Encoder(nn.Module):
  """Features of x at every scale, and posteriors given the decoder's state.

  Attributes:
    scales: the groups of latents, coarse ones first.
    activation: activation of the hidden layers.
    max_log_var: bound on the absolute value of log-variances.
    dtype: type of the computation.
    param_dtype: type of the parameters and of the posteriors.
  """

  scales: tuple[Scale, ...]
  activation: Activation
  max_log_var: float
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    common = dict(activation=self.activation, **types)
    gain = _gain(self.scales)
    self.reduce = [nn.Dense(scale.width, **types) for scale in self.scales]
    self.blocks = [
      [
        Block(scale.width // 2, scale.width, gain, **common)
        for _ in range(scale.num_groups)
      ]
      for scale in self.scales
    ]
    self.posteriors = [
      Block(scale.width // 2, 2 * scale.channels, 1.0, **common)
      for scale in self.scales
      for _ in range(scale.num_groups)
    ]

  def __call__(self, x: jax.Array) -> list[jax.Array]:
    """Features [B, S, S, W] of x [B, H, H, C] at each scale."""
    features = []
    for i in reversed(range(len(self.scales))):
      x = self.reduce[i](to_depth(x, self.scales[i].side))
      for block in self.blocks[i]:
        x = x + block(x)
      features.insert(0, x)
    if self.is_initializing():  # the states are as wide as the features
      for group, scale in enumerate(scale_of_groups(self.scales)):
        if self.scales[scale].channels:
          self.posterior(group, features, features[scale])
    return features

  def posterior(
    self, group: int, features: Sequence[jax.Array], state: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Mean and log-variance [B, S, S, C] of a group, relative to its prior.

    Args:
      group: number of the group.
      features: of `__call__`.
      state: [B, S, S, W] of the decoder, from `Decoder.prior`.
    """
    scale = scale_of_groups(self.scales)[group]
    seen = jnp.concatenate([features[scale], state], axis=-1)
    return _normal(self.posteriors[group](seen), self)


class Decoder(nn.Module):
  """ε [B, Z] -> the likelihood's parameters [B, H, H, C, P].

  Attributes:
    image_shape: (H, H, C).
    num_outputs: P.
    scales: the groups of latents, coarse ones first.
    activation: activation of the hidden layers.
    max_log_var: bound on the absolute value of log-variances.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  image_shape: tuple[int, int, int]
  num_outputs: int
  scales: tuple[Scale, ...]
  activation: Activation
  max_log_var: float
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    common = dict(activation=self.activation, **types)
    gain = _gain(self.scales)
    expand, start, priors, join, blocks = [], [], [], [], []
    for i, scale in enumerate(self.scales):
      if i:
        factor = scale.side // self.scales[i - 1].side
        expand.append(nn.Dense(scale.width * factor**2, **types))
      start.append(
        self.param(
          f'start_{i}',
          nn.initializers.zeros_init(),
          (scale.side, scale.side, scale.width),
          self.param_dtype,
        )
      )
      for _ in range(scale.num_groups):
        width = scale.width
        priors.append(
          Block(width // 2, width + 2 * scale.channels, 0.0, **common)
        )
        join.append(nn.Dense(width, **types))
        blocks.append(Block(width // 2, width, gain, **common))
    self.expand, self.start = expand, start
    self.priors, self.join, self.blocks = priors, join, blocks
    *_, last = self.scales
    factor = self.image_shape[0] // last.side
    size = factor**2 * self.image_shape[2] * self.num_outputs
    self.last = nn.Dense(size, **types)

  def __call__(self, latents: jax.Array) -> jax.Array:
    """Decodes ε."""
    state = None
    for group, noise in enumerate(split(latents, self.scales)):
      state, mean, log_var = self.prior(group, state, latents.shape[0])
      state = self.joined(group, state, mean + jnp.exp(0.5 * log_var) * noise)
    return self.outputs(state)

  def prior(
    self, group: int, state: jax.Array | None, batch: int
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The state before a group, and the prior of the group.

    Args:
      group: number of the group.
      state: [B, S, S, W] after the group above; None for the first group.
      batch: B.

    Returns:
      The state [B, S, S, W]; mean and log-variance [B, S, S, C].
    """
    numbers = scale_of_groups(self.scales)
    i = numbers[group]
    if group == 0 or numbers[group - 1] != i:
      start = self.start[i].astype(self.dtype)[None]
      if state is None:
        state = jnp.broadcast_to(start, (batch, *start.shape[1:]))
      else:
        state = start + to_space(self.expand[i - 1](state), self.scales[i].side)
    changed = self.priors[group](state)
    change, normal = jnp.split(changed, [self.scales[i].width], axis=-1)
    return state + change, *_normal(normal, self)

  def joined(self, group: int, state: jax.Array, z: jax.Array) -> jax.Array:
    """The state [B, S, S, W] after a group with the values z [B, S, S, C]."""
    if z.shape[-1]:  # else the group has no latents
      state = state + self.join[group](z.astype(self.dtype))
    return state + self.blocks[group](state)

  def outputs(self, state: jax.Array) -> jax.Array:
    """The likelihood's parameters for the state after the last group."""
    side = self.image_shape[0]
    outputs = to_space(self.last(self.activation(state)), side)
    outputs = outputs.astype(self.param_dtype)
    return outputs.reshape(-1, *self.image_shape, self.num_outputs)


def infer(
  encoder: Encoder,
  decoder: Decoder,
  params: Any,
  features: Sequence[jax.Array],
  noise: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Draws ε from the posterior, group by group, and decodes it.

  Args:
    encoder: of the features.
    decoder: of the same scales.
    params: {'encoder', 'decoder'} of both.
    features: of `Encoder.__call__` for B / K images.
    noise: [B, Z] from N(0, I), the K draws of an image side by side.

  Returns:
    ε, and mean and log-variance of the normal distribution that it was drawn
    from, [B, Z] each; and the likelihood's parameters [B, H, H, C, P].
  """
  encode = functools.partial(encoder.apply, {'params': params['encoder']})
  decode = functools.partial(decoder.apply, {'params': params['decoder']})
  batch = noise.shape[0]
  if batch != features[0].shape[0]:
    num = batch // features[0].shape[0]
    features = [jnp.repeat(x, num, axis=0) for x in features]
  state, groups = None, []
  for group, drawn in enumerate(split(noise, decoder.scales)):
    state, prior_mean, prior_log_var = decode(
      group, state, batch, method='prior'
    )
    if not drawn.shape[-1]:  # layers without latents
      state = decode(group, state, drawn, method='joined')
      continue
    mean, log_var = encode(group, features, state, method='posterior')
    latents = mean + jnp.exp(0.5 * log_var) * drawn
    z = prior_mean + jnp.exp(0.5 * prior_log_var) * latents
    state = decode(group, state, z, method='joined')
    groups.append([y.reshape(batch, -1) for y in (latents, mean, log_var)])
  latents, mean, log_var = (
    jnp.concatenate(each, axis=1) for each in zip(*groups, strict=True)
  )
  return latents, mean, log_var, decode(state, method='outputs')


def top_posterior(
  encoder: Encoder,
  decoder: Decoder,
  params: Any,
  features: Sequence[jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """The posterior of the first group that has latents, which has none above.

  Args:
    encoder: of the features.
    decoder: of the same scales.
    params: {'encoder', 'decoder'} of both.
    features: of `Encoder.__call__` for B images.

  Returns:
    Mean and log-variance of ε, [B, T] each.
  """
  encode = functools.partial(encoder.apply, {'params': params['encoder']})
  decode = functools.partial(decoder.apply, {'params': params['decoder']})
  batch = features[0].shape[0]
  state = None
  shapes = group_shapes(decoder.scales)
  top = next(group for group, shape in enumerate(shapes) if shape[-1])
  for group in range(top):  # layers without latents
    state, *_ = decode(group, state, batch, method='prior')
    nothing = jnp.zeros((batch, *shapes[group]), decoder.param_dtype)
    state = decode(group, state, nothing, method='joined')
  state, *_ = decode(top, state, batch, method='prior')
  posterior = encode(top, features, state, method='posterior')
  return tuple(y.reshape(batch, -1) for y in posterior)


def _gain(scales: Sequence[Scale]) -> float:
  """Keeps the variance of the residual path's sum near that of its start."""
  return 1 / math.sqrt(sum(scale.num_groups for scale in scales))


def _normal(
  outputs: jax.Array, module: Encoder | Decoder
) -> tuple[jax.Array, jax.Array]:
  """Mean and bounded log-variance [..., C] of outputs [..., 2C]."""
  mean, log_var = jnp.split(outputs.astype(module.param_dtype), 2, axis=-1)
  return mean, soft_bound(log_var, module.max_log_var)
