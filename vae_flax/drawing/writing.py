"""Writes images that a trained VAE decodes, with their latents and classes."""

from collections.abc import Iterator

from absl import flags
import jax
import numpy as np

from common_flax.cli import given_latents
from common_flax.cli import labels as labels_lib
from common_flax.cli import sample_files
from common_flax.cli.given_latents import Given
from common_flax.cli.given_latents import WALK
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.progress import track
from vae_flax.drawing import kinds
from vae_flax.drawing.kinds import Drawn
from vae_flax.trained import TrainedVAE


def drawn_of(
  values: flags.FlagValues, trained: TrainedVAE, given: Given, num: int
) -> Drawn:
  """What --latents or --seeds gives, or the walk that leads through it."""
  latents_of = given.latents_of(trained.latents_of_seeds, trained.vae.dtype)
  is_walk = values.kind == WALK
  if is_walk:
    latents_of = given_latents.walk(values, latents_of, len(given))
  known = trained.vae.num_classes, trained.class_names
  return Drawn(
    latents_of,
    labels_lib.of_given(*known, given, values.label, num, is_walk),
  )


def write_drawn(
  values: flags.FlagValues, trained: TrainedVAE, drawn: Drawn, num: int
) -> None:
  """Decodes and writes images in chunks, and in an .npz their latents."""
  images = trained.chunks_of(drawn.latents_of, num, drawn.labels)
  latents = (
    np.asarray(drawn.latents_of(numbers))[: num - numbers[0]]
    for numbers in chunks_of_numbers(num)
  )
  labels = None if drawn.labels is None else np.asarray(drawn.labels)
  write_images(values, trained, images, num, latents, labels)


def write_images(
  values: flags.FlagValues,
  trained: TrainedVAE,
  images: Iterator[jax.Array],
  num: int,
  latents: Iterator[np.ndarray] | None = None,
  labels: np.ndarray | None = None,
) -> None:
  """Writes images in chunks.

  Args:
    values: the flags of the command.
    trained: what the images are of.
    images: consecutive images, uint8 [n, H, W, C] each.
    num: N, of images.
    latents: consecutive latents, [n, Z] each, for an .npz.
    labels: int32 [N], the classes of the images.
  """
  columns = kinds.columns(values.kind, num)
  if labels is not None and columns is None:
    columns = kinds.COLUMNS  # a class per row
  if values.kind == WALK:
    columns = values.frames
  shape, timing = (num, *trained.vae.image_shape), given_latents.timing(values)
  sample_files.check_size(values.output, num, shape[1:], columns, timing)
  sample_files.write(
    values.output,
    track(map(jax.device_get, images), -(-num // CHUNK), 'Drawing'),
    shape,
    columns=columns,
    labels=labels,
    class_names=trained.class_names,
    latents=latents,
    timing=timing,
  )
  print(f'{num:,} images of step {trained.step:,} in {values.output}')
