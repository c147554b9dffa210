"""Small dense networks for points in the plane.

There are two pairs: `pacgan`, the networks with which PacGAN measured mode
coverage (Lin et al. 2018, arXiv:1712.04086, section 4.1), and `mlp`, plain
networks whose discriminator sees points at several scales. In both, the
generator has twice as many features as the discriminator.

Dimensions: B batch, P points per pack, Z latent size.
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from gan_flax.models.conditioning import fit
from gan_flax.models.conditioning import generating
from gan_flax.models.conditioning import with_labels
from gan_flax.models.discriminators import discriminating
from gan_flax.models.discriminators import with_minibatch_deviation


def waves(x: jax.Array, num_octaves: int) -> jax.Array:
  """Appends sines and cosines of the coordinates at rising frequencies.

  With these Fourier features a small network quickly learns functions that vary
  over short distances (Tancik et al. 2020, arXiv:2006.10739).

  Args:
    x: [B, N], roughly in [-1, 1].
    num_octaves: number of periods 2, 1, 1/2, ...

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
    base_features: half the number of features in each hidden layer.
    num_layers: number of hidden layers.
    norm: norm of the features, see `common_flax.nn.norms`.
    kernel_init: initialiser of the weights.
    extent: factor of the output.
    conditioning: how labels are used, see `gan_flax.models.conditioning`.
    num_classes: number of classes; None if unconditional.
    norm_momentum: share of the running averages kept at each update.
    axis_name: mapped axis over which a batch is split, as in `nn.BatchNorm`.
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
  axis_name: str | None = None
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
  ) -> jax.Array:
    """Draws points; takes the arguments of `dcgan.Generator`."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, **types)
    norm = generating(self, labels, kind=self.norm, train=train)
    x = latents
    if self.conditioning == 'concatenation':
      x = with_labels(x, labels, self.num_classes)
    for i in range(self.num_layers):
      # A norm removes a bias and adds its own shift.
      layer = dense(
        2 * self.base_features, use_bias=self.norm == 'none', name=f'dense_{i}'
      )
      x = nn.relu(norm(name=f'norm_{i}')(layer(x)))
    (size,) = self.point_shape
    x = dense(size, name='point')(x)
    return self.extent * x.astype(self.param_dtype)


class Discriminator(nn.Module):
  """Packs of points [B, 2 * P] -> logits [B] of being real.

  Attributes:
    point_shape: (2,).
    base_features: number of features in each hidden layer.
    num_layers: number of hidden layers.
    num_pieces: number of pieces in each maxout unit (Goodfellow et al. 2013,
      arXiv:1302.4389); 1 uses LeakyReLU instead.
    kernel_init: initialiser of the weights.
    extent: divisor of the points.
    num_octaves: see `waves`.
    norm: norm of the features, see `common_flax.nn.norms`.
    has_spectral_norm: see `gan_flax.models.discriminators`.
    has_minibatch_deviation: see `gan_flax.models.discriminators`.
    conditioning: how labels are used, see `gan_flax.models.conditioning`.
    num_classes: number of classes; None if unconditional.
    norm_momentum: share of the running averages kept at each update.
    axis_name: mapped axis over which a batch is split, as in `nn.BatchNorm`.
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
  axis_name: str | None = None
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    points: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
  ) -> jax.Array:
    """Classifies points; takes the arguments of `dcgan.Generator`."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, **types)
    apply, norm = discriminating(self, train=train)
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
        # Not `pieces.max`: its gradient is 0/0 if the compiler computes the
        # pieces twice and rounds them differently.
        x = functools.reduce(jnp.maximum, jnp.moveaxis(pieces, -1, 0))
    if self.has_minibatch_deviation:
      x = with_minibatch_deviation(x)
    logits = apply(dense(1, name='logit'), x)[:, 0]
    logits += fit(self, apply, x, labels, kernel_init=self.kernel_init, **types)
    return logits.astype(self.param_dtype)
