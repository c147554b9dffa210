"""Small dense networks for points in the plane.

Two pairs: `pacgan`, the networks that PacGAN measured mode coverage with (Lin
et al. 2018, arXiv:1712.04086, section 4.1), and `mlp`, plain networks that see
points at several scales. Of each the generator has twice the discriminator's
features.

Dimensions: B batch, P points a pack, Z latent size.
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.nn.labels import fit
from common_flax.nn.labels import generating
from common_flax.nn.labels import with_labels
from common_flax.nn.minibatch import with_minibatch_deviation
from common_flax.nn.norms import discriminating


def waves(x: jax.Array, num_octaves: int) -> jax.Array:
  """Coordinates with their sines and cosines at rising frequencies.

  A network of few features is slow to learn what changes within a small part of
  its input's range, and quick once it has these (Tancik et al. 2020,
  arXiv:2006.10739).

  Args:
    x: [B, N], about in [-1, 1].
    num_octaves: the periods are 2, 1, 1/2, ...; so many of them.

  Returns:
    [B, N * (1 + 2 * num_octaves)].
  """
  angles = [jnp.pi * 2**octave * x for octave in range(num_octaves)]
  parts = [f(angle) for angle in angles for f in (jnp.sin, jnp.cos)]
  return jnp.concatenate([x, *parts], axis=-1)


class Generator(nn.Module):
  """z [B, Z] -> points [B, 2].

  Attributes:
    point_shape: (2,).
    base_features: half the features of each hidden layer.
    num_layers: hidden layers.
    norm: of the features, one of `common_flax.nn.norms`.
    kernel_init: of the weights.
    extent: what the output is multiplied by.
    conditioning: what is done with labels, see `common_flax.nn.labels`.
    num_classes: of the labels, if they are used.
    norm_momentum: share of the old running averages kept at each update.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  point_shape: tuple[int]
  base_features: int
  num_layers: int
  norm: str
  kernel_init: Callable
  extent: float = 1.0
  conditioning: str = 'none'
  num_classes: int | None = None
  norm_momentum: float = 0.9
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
    axis_name: str | None = None,
  ) -> jax.Array:
    """Draws points; the arguments are those of `dcgan.Generator`."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, **types)
    norm = generating(
      self, labels, kind=self.norm, train=train, axis_name=axis_name
    )
    x = latents
    if self.conditioning == 'concatenation':
      x = with_labels(x, labels, self.num_classes)
    for i in range(self.num_layers):
      # A norm takes away, and brings again, what a bias would add.
      layer = dense(
        2 * self.base_features, use_bias=self.norm == 'none', name=f'dense_{i}'
      )
      x = nn.relu(norm(name=f'norm_{i}')(layer(x)))
    (size,) = self.point_shape
    x = dense(size, name='point')(x)
    return self.extent * x.astype(self.param_dtype)


class Discriminator(nn.Module):
  """Packs of points [B, 2 * P] -> logits [B] of the probability of real.

  Attributes:
    point_shape: (2,).
    base_features: features of each hidden layer.
    num_layers: hidden layers.
    num_pieces: each feature is the largest of so many (Goodfellow et al. 2013,
      arXiv:1302.4389); 1 for LeakyReLU instead.
    kernel_init: of the weights.
    extent: what points are divided by.
    num_octaves: of `waves`.
    norm: of the features, one of `common_flax.nn.norms`.
    has_spectral_norm: see `common_flax.nn.norms.discriminating`.
    has_minibatch_deviation: see `common_flax.nn.minibatch`.
    conditioning: what is done with labels, see `common_flax.nn.labels`.
    num_classes: of the labels, if they are used.
    norm_momentum: share of the old running averages kept at each update.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  point_shape: tuple[int]
  base_features: int
  num_layers: int
  num_pieces: int
  kernel_init: Callable
  extent: float = 1.0
  num_octaves: int = 0
  norm: str = 'none'
  has_spectral_norm: bool = False
  has_minibatch_deviation: bool = False
  conditioning: str = 'none'
  num_classes: int | None = None
  norm_momentum: float = 0.9
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    points: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
    axis_name: str | None = None,
  ) -> jax.Array:
    """Classifies points; the arguments are those of `dcgan.Generator`."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, **types)
    apply, norm = discriminating(self, train=train, axis_name=axis_name)
    x = waves(points / self.extent, self.num_octaves)
    if self.conditioning == 'concatenation':
      x = with_labels(x, labels, self.num_classes)
    for i in range(self.num_layers):
      layer = dense(self.base_features * self.num_pieces, name=f'dense_{i}')
      x = norm(name=f'norm_{i}')(apply(layer, x))
      if self.num_pieces == 1:
        x = nn.leaky_relu(x, 0.2)
      else:
        pieces = x.reshape(-1, self.base_features, self.num_pieces)
        # Not `pieces.max`: its gradient is 0/0 where a compiler computes the
        # pieces twice, and rounds them differently.
        x = functools.reduce(jnp.maximum, jnp.moveaxis(pieces, -1, 0))
    if self.has_minibatch_deviation:
      x = with_minibatch_deviation(x)
    logits = apply(dense(1, name='logit'), x)[:, 0]
    logits += fit(self, apply, x, labels, kernel_init=self.kernel_init, **types)
    return logits.astype(self.param_dtype)
