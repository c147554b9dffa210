"""Images in people's own files: folders, zip files, arrays and tables."""

import dataclasses
import os
import pathlib

from common_flax import files
from common_flax.data import remote
from common_flax.data.own import array_files
from common_flax.data.own import hugging_face
from common_flax.data.own.array_files import ArrayImages
from common_flax.data.own.folder import FolderImages
from common_flax.data.own.hugging_face import HuggingFaceImages
from common_flax.data.own.labels import FOUND
from common_flax.data.own.listing import Folder
from common_flax.data.own.listing import SUFFIXES
from common_flax.data.own.zips import Zip
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.data.source import ArraySource
from common_flax.data.source import EncodedImages
from common_flax.errors import UserError
from common_flax.images import Size

__all__ = ['as_it_is', 'open_images', 'rendering_left']

_FILES = ('.zip', *array_files.SUFFIXES, hugging_face.PARQUET)


def open_images(
  path: str | None,
  split: str,
  *,
  labels: str | None = None,
  skip_corrupt: bool = False,
  rendering: Rendering = ON_WHITE,
) -> EncodedImages:
  """Opens the images at a path, of which there are several kinds.

  Args:
    path: a folder of image files, or a zip file of one; an .npz or .npy of
      images; a Parquet file, a folder of them, or a folder that the library
      `datasets` saved. A remote folder is copied to the cache first.
    split: 'train', 'test' or 'validation', or a synonym.
    labels: path of a file of labels, or the name of an array or column.
    skip_corrupt: leave out unreadable files instead of raising.
    rendering: how images become opaque and 8 bits deep.

  Raises:
    UserError: naming the wrong field or file.
  """
  if not path:
    raise UserError(
      'config.dataset.path: missing; set it to the folder of images with '
      '--config.dataset.path=FOLDER'
    )
  ending = pathlib.PurePath(path).suffix.lower()
  if files.is_remote(path) and ending in _FILES:
    raise UserError(
      f'config.dataset.path={path}: a {ending} file is read from local disks '
      'only; copy it here first'
    )
  given = os.path.basename(labels or '').lower()
  tables = (*FOUND, *([given] if given else []))
  root, rest = remote.copy_and_rest(path, (*SUFFIXES, *tables))
  if not os.path.lexists(root):
    raise UserError(f'config.dataset.path={path}: no such folder or file')
  options = dict(labels=labels, skip_corrupt=skip_corrupt, rendering=rendering)
  if root.is_dir():
    if _is_table(root):
      return HuggingFaceImages(path, root, split, **options)
    return FolderImages(Folder(path, root), split, rest=rest, **options)
  if not root.is_file() or ending not in _FILES:
    raise UserError(
      f'config.dataset.path={path}: neither a folder of images nor a file '
      f'that ends in {", ".join(_FILES)}'
    )
  if ending == '.zip':
    return FolderImages(Zip(path, root), split, **options)
  if ending == hugging_face.PARQUET:
    return HuggingFaceImages(path, root, split, **options)
  return ArrayImages(
    path, root, split, labels=labels, white_level=rendering.white_level
  )


def as_it_is(
  encoded: EncodedImages, image_size: Size, in_memory_bytes: int
) -> ArraySource | None:
  """Images that need no decoding; None unless they are arrays of this size."""
  if not isinstance(encoded, ArrayImages):
    return None
  return encoded.as_source(image_size, in_memory_bytes)


def rendering_left(encoded: EncodedImages, rendering: Rendering) -> Rendering:
  """What remains to be rendered: arrays know their white level already."""
  if not isinstance(encoded, ArrayImages):
    return rendering
  return dataclasses.replace(rendering, white_level=None)


def _is_table(folder: pathlib.Path) -> bool:
  """Whether a folder holds a data set of `datasets`, and not image files."""
  if hugging_face.is_saved(folder):
    return True
  if not hugging_face.parquet_files(folder):
    return False
  return not any(
    name.lower().endswith(SUFFIXES)
    for _, _, names in os.walk(folder)
    for name in names
  )
