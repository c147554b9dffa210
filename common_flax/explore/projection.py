"""Finds the latents whose images are nearest to given pictures.

From many random latents the nearest few are taken, and Adam moves each of them
down the gradient of the distance (Karras et al. 2020, arXiv:1912.04958, section
5, do so for StyleGAN2). All pictures and all restarts move at once, in one
compiled loop. Latents stay in the shell that holds nearly all mass of the
prior: outside of it the generator was never trained.

Dimensions: P pictures, R restarts, D draws, N = P * R images, H height, W
width, C channels, Z latent size.
"""

from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common_flax import images as images_lib
from common_flax.progress import track

NUM_STEPS = 300
RESTARTS = 8
GROUP = 4  # pictures that are searched at once
_NUM_DRAWS = 64  # of which the nearest become starts, for each class
_CLASSES = 8  # that are searched, after the draws of all
_RATE = 0.1  # Adam's, falling to 0 along a cosine
_DEVIATIONS = 3.0  # of the norm of a latent, kept around its mean
_SCALES = 3  # of the distance: each halves the sides

# (variables, z [N, Z], labels [N] or None) -> images [N, H, W, C] in [-1, 1];
# hashable, because compiled programs are kept by it.
Render = Callable[[Any, jax.Array, jax.Array | None], jax.Array]


@dataclasses.dataclass(frozen=True)
class Shell:
  """Where nearly all latents of a prior lie.

  Attributes:
    is_uniform: whether the prior is U(-1, 1), and not N(0, 1), per coordinate.
    is_open: whether latents may lie anywhere, because the prior is neither.
  """

  is_uniform: bool = False
  is_open: bool = False

  def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws latents from the prior; consumes the key."""
    if self.is_uniform:
      return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
    return jax.random.normal(key, shape)

  def nearest(self, z: jax.Array) -> jax.Array:
    """Moves latents [..., Z] that lie outside onto the edge.

    The norm of a draw from N(0, I) has a mean near sqrt(Z) and a deviation near
    sqrt(1/2).
    """
    if self.is_open:
      return z
    if self.is_uniform:
      return jnp.clip(z, -1, 1)
    centre = math.sqrt(z.shape[-1])
    reach = _DEVIATIONS * math.sqrt(0.5)
    norms = jnp.linalg.norm(z, axis=-1, keepdims=True)
    kept = jnp.clip(norms, max(centre - reach, 0), centre + reach)
    return z * kept / jnp.maximum(norms, 1e-6)


class Projection(NamedTuple):
  """The nearest images that were found.

  Attributes:
    latents: float32 [P, Z].
    labels: int32 [P]; None without classes.
    images: uint8 [P, H, W, C].
    psnr_db: [P], peak signal-to-noise ratio; infinite for equal images.
    rmse: [P], root mean square error of bytes, from 0 to 255.
  """

  latents: np.ndarray
  labels: np.ndarray | None
  images: np.ndarray
  psnr_db: np.ndarray
  rmse: np.ndarray


def errors(
  images: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """PSNR in dB and RMSE between uint8 images [P, H, W, C], [P] each."""
  gaps = images.astype(np.float64) - others
  rmse = np.sqrt(np.mean(gaps**2, axis=(1, 2, 3)))
  with np.errstate(divide='ignore'):
    return 20 * np.log10(255 / rmse), rmse


def distances(images: jax.Array, targets: jax.Array) -> jax.Array:
  """Mean square errors [N] of images [N, H, W, C], averaged over scales.

  The coarse scales pull strokes together that do not overlap yet.
  """
  gaps, total = images - targets, 0.0
  num = 0
  while num < _SCALES:
    total, num = total + jnp.mean(gaps**2, axis=(1, 2, 3)), num + 1
    if min(gaps.shape[1:3]) < 2:
      break
    height, width = (side // 2 * 2 for side in gaps.shape[1:3])
    cells = gaps[:, :height, :width].reshape(
      len(gaps), height // 2, 2, width // 2, 2, -1
    )
    gaps = cells.mean(axis=(2, 4))
  return total / num


@functools.partial(jax.jit, static_argnums=0)
def _distances_of_draws(
  render: Render,
  variables: Any,
  targets: jax.Array,
  draws: jax.Array,
  label: jax.Array | None,
) -> jax.Array:
  """Distances [P, D] of targets [P, H, W, C] from the images of draws."""
  labels = None if label is None else jnp.broadcast_to(label, len(draws))
  images = render(variables, draws, labels)
  return jax.vmap(lambda target: distances(images, target[None]))(targets)


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def search(
  render: Render,
  shell: Shell,
  variables: Any,
  targets: jax.Array,
  starts: jax.Array,
  labels: jax.Array | None,
  num_steps: int,
) -> tuple[jax.Array, jax.Array]:
  """Moves latents towards pictures.

  Args:
    render: draws images of latents, each a function of its own latent alone.
    shell: where latents are kept.
    variables: the first argument of `render`.
    targets: [P, H, W, C] in [-1, 1].
    starts: [P, R, Z].
    labels: int32 [P, R]; None without classes.
    num_steps: of Adam.

  Returns:
    Latents [P, R, Z], and the mean square errors [P, R] of their images.
  """
  num, restarts, size = starts.shape
  wanted = jnp.repeat(targets, restarts, axis=0)  # [N, H, W, C]
  classes = None if labels is None else labels.reshape(-1)
  tx = optax.adam(optax.cosine_decay_schedule(_RATE, num_steps))

  def loss(z: jax.Array) -> jax.Array:
    # Each image has a gradient of its own, so their sum has all of them.
    return distances(render(variables, z, classes), wanted).sum()

  def step(carry, _):
    z, state = carry
    updates, state = tx.update(jax.grad(loss)(z), state)
    return (shell.nearest(z + updates), state), None

  z = shell.nearest(starts.reshape(-1, size))
  (z, _), _ = jax.lax.scan(step, (z, tx.init(z)), length=num_steps)
  squares = (render(variables, z, classes) - wanted) ** 2
  return (
    z.reshape(num, restarts, size),
    squares.mean(axis=(1, 2, 3)).reshape(num, restarts),
  )


@dataclasses.dataclass(frozen=True)
class Projector:
  """A generator in which pictures are searched.

  Attributes:
    render: see `search`.
    variables: the first argument of `render`.
    size: Z.
    shell: where latents are kept.
    num_classes: number of classes; None without them.
    images_of: the function from latents and labels to uint8 images.
  """

  render: Render
  variables: Any
  size: int
  shell: Shell
  num_classes: int | None
  images_of: Callable[[np.ndarray, np.ndarray | None], np.ndarray]

  def project(
    self,
    key: jax.Array,
    pictures: np.ndarray,
    label: int | None = None,
    starts: np.ndarray | None = None,
    num_steps: int = NUM_STEPS,
  ) -> Projection:
    """Finds the latents of pictures.

    Args:
      key: consumed.
      pictures: uint8 [P, H, W, C].
      label: the class to search; None for all.
      starts: latents [P, Z] from which one restart of each picture begins.
      num_steps: of the optimisation.
    """
    parts = []
    firsts = range(0, len(pictures), GROUP)
    for first in track(firsts, len(firsts), 'Searching'):
      chosen = np.arange(first, first + GROUP).clip(max=len(pictures) - 1)
      if len(pictures) == 1:
        chosen = chosen[:1]
      given = None if starts is None else starts[chosen]
      found = self._project_group(
        jax.random.fold_in(key, first),
        pictures[chosen],
        label,
        given,
        num_steps,
      )
      parts.append(
        [x if x is None else x[: len(pictures) - first] for x in found]
      )
    latents, labels = (
      None if parts[0][i] is None else np.concatenate([p[i] for p in parts])
      for i in (0, 1)
    )
    images = self.images_of(latents, labels)
    return Projection(latents, labels, images, *errors(images, pictures))

  def _project_group(
    self,
    key: jax.Array,
    pictures: np.ndarray,
    label: int | None,
    given: np.ndarray | None,
    num_steps: int,
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Latents [P, Z] and labels [P] of a few pictures."""
    targets = images_lib.to_signed(jnp.asarray(pictures))
    starts, labels = self._starts(key, targets, label)
    if given is not None:
      starts = starts.at[:, -1].set(given)
    latents, squares = search(
      self.render,
      self.shell,
      self.variables,
      targets,
      starts,
      labels,
      num_steps,
    )
    rows = np.arange(len(pictures))
    best = np.nan_to_num(np.asarray(squares), nan=np.inf).argmin(axis=1)
    chosen = None if labels is None else np.asarray(labels)[rows, best]
    return np.asarray(latents)[rows, best], chosen

  def _starts(
    self, key: jax.Array, targets: jax.Array, label: int | None
  ) -> tuple[jax.Array, jax.Array | None]:
    """The draws nearest to the targets, [P, R, Z], and their classes [P, R]."""
    draws = self.shell.draw(key, (_NUM_DRAWS, self.size))
    classes = [None] if self.num_classes is None else range(self.num_classes)
    if label is not None:
      classes = [label]
    far = jnp.stack(
      [
        _distances_of_draws(
          self.render,
          self.variables,
          targets,
          draws,
          None if each is None else jnp.int32(each),
        )
        for each in classes
      ],
      axis=1,
    )  # [P, classes, D]
    num_kept = min(_CLASSES, len(classes))
    kept = jnp.argsort(far.min(axis=2), axis=1)[:, :num_kept]
    share = max(2, RESTARTS // num_kept)
    order = jnp.argsort(far, axis=2)[:, :, :share]
    nearest = jnp.take_along_axis(order, kept[:, :, None], axis=1)
    starts = draws[nearest].reshape(len(targets), -1, self.size)
    if classes[0] is None:
      return starts, None
    labels = jnp.asarray(list(classes), jnp.int32)[kept]
    return starts, jnp.repeat(labels, share, axis=1)
