"""Reconstructions of pictures of one's own.

Dimensions: N pictures, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence

import numpy as np

from common_flax import images as images_lib
from common_flax.cli import outputs
from common_flax.cli import plotting
from common_flax.cli import sample_files
from common_flax.data.source import Source
from vae_flax.drawing import encoded
from vae_flax.drawing.kinds import COLUMNS
from vae_flax.drawing.kinds import Drawing

ENDINGS = (*outputs.PICTURES, '.npz')
_BLANK = 128  # the grey between the images of a grid


def write_reconstructions(
  output: str,
  drawing: Drawing,
  images: np.ndarray,
  source: Source,
  names: Sequence[str],
) -> None:
  """Writes pictures and their reconstructions from their posterior means.

  An .npz has `images` and `reconstructions`, uint8 [N, H, W, C], `latents`
  [N, Z] and `name` [N]. A picture has rows of pictures above rows of their
  reconstructions.

  Args:
    output: a path that `outputs.check` accepted with ENDINGS.
    drawing: what encodes and decodes.
    images: the pictures as they were read, uint8 [N, H, W, C].
    source: the pictures from `observations.prepare_source`.
    names: of the pictures.

  Raises:
    UserError: if the file cannot be written, or its format cannot hold so many
      pictures.
  """
  columns = min(COLUMNS, len(images))
  places = 2 * columns * -(-len(images) // columns)
  sample_files.check_size(output, places, images.shape[1:], columns)
  found = encoded.encode_all(drawing, source)
  latents, is_conditional = found['mean'], drawing.trained.vae.is_conditional
  labels = found['label'] if is_conditional else None
  results = np.asarray(drawing.trained.decode(latents, labels))
  if outputs.ending(output) == '.npz':
    arrays = {
      'images': images,
      'reconstructions': results,
      'latents': latents,
      'name': np.array(names),
    }
    sample_files.write_npz(output, arrays)
  else:
    sample_files.write_picture(output, _above(images, results, columns))


def _above(images: np.ndarray, results: np.ndarray, columns: int) -> np.ndarray:
  """A grid of rows of images [N, H, W, C], each above a row of results."""
  rows = [
    np.pad(
      part, ((0, columns - len(part)), *[(0, 0)] * 3), constant_values=_BLANK
    )
    for start in range(0, len(images), columns)
    for every in (images, results)
    for part in [every[start : start + columns]]
  ]
  grid = images_lib.grid(np.concatenate(rows), columns)
  return plotting.name_rows(
    grid, ['original', 'reconstruction'] * (len(rows) // 2)
  )
