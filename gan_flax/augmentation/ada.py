"""Adaptive discriminator augmentation (ADA; Karras et al. 2020).

Every distortion is applied with one probability p (arXiv:2006.06676). While
p < 1, undistorted images are the most frequent ones, so the generator does not
learn to draw distorted images. The sign of the discriminator's output
on real images tells how far it overfits: r = E[sign(f[x])] is 0 while it cannot
tell real from generated images, and 1 once it knows its training images by
heart. p rises while r is above a target and falls while it is below. p and what
is known of r are a part of the training state, and so of checkpoints.

Dimensions: B batch, H height, W width, C channels.
"""

import dataclasses

from flax import struct
import jax
import jax.numpy as jnp

from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from gan_flax.augmentation import color
from gan_flax.augmentation import diffaugment
from gan_flax.augmentation import geometry
from gan_flax.augmentation.color import COLOR
from gan_flax.augmentation.geometry import BLIT
from gan_flax.augmentation.geometry import GEOMETRY

NOISE = 'noise'
CUTOUT = 'cutout'
GROUPS = (BLIT, GEOMETRY, COLOR, NOISE, CUTOUT)

_INTERVAL = 4  # updates of the discriminator between two changes of p
_NOISE = 0.1  # the deviation of the noise's own deviation


class Adaptation(struct.PyTreeNode):
  """How strongly a run distorts images, and what it knows of overfitting."""

  p: jax.Array  # float32 [], the probability of each distortion
  sign_sum: jax.Array  # float32 [], sum of r over the updates since p changed
  num_updates: jax.Array  # int32 [], those updates


@dataclasses.dataclass(frozen=True)
class AdaptiveAugmentation:
  """Distortions whose probability follows the discriminator's overfitting."""

  groups: tuple[str, ...]  # names of GROUPS
  target: float  # r at which p stays
  speed_images: int  # real images over which p can rise from 0 to 1
  boundary: float  # logit at which real and generated are equally likely
  axis: BatchAxis = WHOLE_BATCH  # over which batches are split

  def init(self) -> Adaptation:
    """No distortion, and no update yet."""
    return Adaptation(
      p=jnp.zeros((), jnp.float32),
      sign_sum=jnp.zeros((), jnp.float32),
      num_updates=jnp.zeros((), jnp.int32),
    )

  def __call__(
    self, key: jax.Array, images: jax.Array, adaptation: Adaptation
  ) -> jax.Array:
    """Distorts each of the images.

    The order is that of the paper: pixels, geometry, colour, noise, cutout.

    Args:
      key: consumed.
      images: [B, H, W, C] in [-1, 1].
      adaptation: gives the probability of each distortion; at 0 images keep
        their bits.

    Returns:
      [B, H, W, C], not clipped.
    """
    p, keys = adaptation.p, jax.random.split(key, len(GROUPS))
    key_of = dict(zip(GROUPS, keys, strict=True))
    shape, channels = images.shape[1:3], images.shape[3]
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    places = {BLIT: geometry.draw_blits, GEOMETRY: geometry.draw_maps}
    maps = [
      self.axis.draw(
        lambda num, key=key_of[name], draw=draw: draw(
          key, num, p, shape, dtype
        ),
        len(images),
      )
      for name, draw in places.items()
      if name in self.groups
    ]
    if maps:
      images = geometry.resample(images, geometry.compose(*maps))
    if COLOR in self.groups:
      matrices = self.axis.draw(
        lambda num: color.draw_maps(key_of[COLOR], num, p, channels, dtype),
        len(images),
      )
      images = color.recolor(images, matrices)
    if NOISE in self.groups:
      images = noise(key_of[NOISE], images, p, self.axis)
    if CUTOUT in self.groups:
      images = cutout(key_of[CUTOUT], images, p, self.axis)
    return images

  def real_sign(self, real_logits: jax.Array) -> jax.Array:
    """r, the mean sign of the logits of distorted real images, [B] -> []."""
    return jnp.mean(jnp.sign(real_logits - self.boundary))

  def adapt(
    self, adaptation: Adaptation, real_sign: jax.Array, num_images: int
  ) -> Adaptation:
    """Counts an update of the discriminator; every fourth one moves p.

    Args:
      adaptation: before the update.
      real_sign: r of the update's whole batch, [].
      num_images: real images in the whole batch.
    """
    sign_sum = adaptation.sign_sum + real_sign.astype(jnp.float32)
    num_updates = adaptation.num_updates + 1
    is_due = num_updates == _INTERVAL
    change = _INTERVAL * num_images / self.speed_images
    direction = jnp.sign(sign_sum / _INTERVAL - self.target)
    p = jnp.clip(adaptation.p + change * direction, 0, 1)
    return Adaptation(
      p=jnp.where(is_due, p, adaptation.p),
      sign_sum=jnp.where(is_due, 0, sign_sum),
      num_updates=jnp.where(is_due, 0, num_updates),
    )


def noise(
  key: jax.Array, images: jax.Array, p: jax.Array, axis: BatchAxis
) -> jax.Array:
  """Adds Gaussian noise of a random deviation with probability `p`.

  Args:
    key: consumed.
    images: [B, H, W, C].
    p: probability [].
    axis: over which the batch is split.
  """
  gate_key, size_key, noise_key = jax.random.split(key, 3)

  def draw(num):
    one = (num, 1, 1, 1)
    is_noisy = jax.random.uniform(gate_key, one) < p
    size = _NOISE * jnp.abs(jax.random.normal(size_key, one, images.dtype))
    shape = (num, *images.shape[1:])
    values = jax.random.normal(noise_key, shape, images.dtype)
    return jnp.where(is_noisy, size * values, 0)

  return images + axis.draw(draw, len(images))


def cutout(
  key: jax.Array, images: jax.Array, p: jax.Array, axis: BatchAxis
) -> jax.Array:
  """Applies `diffaugment.cutout` to each image with probability `p`."""
  gate_key, place_key = jax.random.split(key)
  is_cut = axis.draw(
    lambda num: jax.random.uniform(gate_key, (num, 1, 1, 1)) < p, len(images)
  )
  return jnp.where(is_cut, diffaugment.cutout(place_key, images, axis), images)
