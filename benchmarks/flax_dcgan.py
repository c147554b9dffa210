"""A plain DCGAN in Flax, the baseline for ours.

The networks of `gan_flax/models/dcgan.py`, built from Flax's own layers as in
most implementations.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

_weight_init = nn.initializers.normal(0.02)


class Generator(nn.Module):
  """Maps latents [B, Z] to images [B, S, S, C], S = 4 * 2**k."""

  image_shape: tuple[int, int, int]
  base_features: int

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
  ) -> jax.Array:
    """Draws images from latents; ignores labels."""
    features = self.base_features * self.image_shape[0] // 8
    x = nn.Dense(16 * features, use_bias=False, kernel_init=_weight_init)(
      latents
    )
    x = x.reshape(-1, 4, 4, features)
    while True:
      x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
      last = features == self.base_features
      features //= 2
      x = nn.ConvTranspose(
        self.image_shape[-1] if last else features,
        (4, 4),
        (2, 2),
        use_bias=False,
        kernel_init=_weight_init,
      )(x)
      if last:
        return jnp.tanh(x)


class Discriminator(nn.Module):
  """Maps images [B, S, S, C] to logits [B]."""

  image_shape: tuple[int, int, int]
  base_features: int

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
  ) -> jax.Array:
    """Returns logits of images; ignores labels."""
    x, features = images, self.base_features
    while x.shape[1] > 4:
      x = nn.Conv(
        features, (4, 4), 2, use_bias=False, kernel_init=_weight_init
      )(x)
      if features > self.base_features:
        x = nn.BatchNorm(not train, momentum=0.9)(x)
      x = nn.leaky_relu(x, 0.2)
      features *= 2
    x = x.reshape(x.shape[0], -1)
    return nn.Dense(1, use_bias=False, kernel_init=_weight_init)(x)[:, 0]
