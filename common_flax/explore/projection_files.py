"""Writes what `sample --kind=projection` has found, and prints its error.

Dimensions: P pictures, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence

import numpy as np

from common_flax import files
from common_flax import images as images_lib
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.explore.projection import Projection

KIND = 'projection'
ENDINGS = (*outputs.PICTURES, '.npz')
_COLUMNS = 8  # of a grid: four pictures, each beside its projection
_MAX_LINES = 20


def check_size(output: str, pictures: np.ndarray) -> None:
  """Checks that the format of the output can hold the pictures [P, H, W, C].

  Raises:
    UserError: naming the longest side that the format allows.
  """
  shape = pictures.shape[1:]
  sample_files.check_size(output, 2 * len(pictures), shape, _COLUMNS)


def write(
  output: str,
  pictures: np.ndarray,
  names: Sequence[str],
  found: Projection,
  class_names: Sequence[str] | None = None,
) -> None:
  """Writes pictures beside their projections, or an .npz of everything.

  An .npz has `images` and `projections`, uint8 [P, H, W, C], `latents` [P, Z],
  `psnr_db`, `rmse` and `name` [P], and with classes `labels` [P] and
  `class_names`; `--latents` takes it.

  Args:
    output: a path that `outputs.check` accepted with ENDINGS.
    pictures: uint8 [P, H, W, C].
    names: of the pictures.
    found: their projections.
    class_names: of class 0 first; None without classes.

  Raises:
    UserError: if the file cannot be written.
  """
  if outputs.ending(output) == '.npz':
    arrays = {
      'images': pictures,
      'projections': found.images,
      'latents': found.latents,
      'psnr_db': found.psnr_db,
      'rmse': found.rmse,
      'name': np.array(names),
    }
    if found.labels is not None:
      arrays['labels'] = found.labels
      arrays['class_names'] = np.array(class_names)
    sample_files.write_npz(output, arrays)
  else:
    pairs = np.stack([pictures, found.images], axis=1)
    columns = min(_COLUMNS, 2 * len(pictures))
    grid = images_lib.grid(pairs.reshape(-1, *pictures.shape[1:]), columns)
    sample_files.write_picture(output, grid)
  for name, psnr_db, rmse in zip(
    names[:_MAX_LINES], found.psnr_db, found.rmse, strict=False
  ):
    shown = files.one_line(str(name))
    print(f'{shown}: PSNR {psnr_db:.1f} dB, RMSE {rmse:.1f} of 255')
  if len(names) > _MAX_LINES:
    print(f'And {len(names) - _MAX_LINES:,} more.')
  print(
    f'{len(names):,} projections in {output}: median PSNR '
    f'{np.median(found.psnr_db):.1f} dB, RMSE {np.median(found.rmse):.1f}'
  )
