"""The columns of a table of images, of Hugging Face's library `datasets`."""

from collections.abc import Mapping
import contextlib
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from common_flax.errors import UserError

if TYPE_CHECKING:
  import datasets

_IMAGES = ('image', 'img', 'images', 'picture', 'photo', 'pixel_values')
_LABELS = (
  *('label', 'labels', 'fine_label', 'class', 'category', 'target'),
  *('class_label', 'y', 'character', 'digit'),
)


def image_column(table: 'datasets.Dataset', name: str) -> str:
  """The column of images: of that type, or of a known name.

  Raises:
    UserError: naming the columns.
  """
  features = table.features
  typed = [x for x, f in features.items() if type(f).__name__ == 'Image']
  known = [x for x in _IMAGES if x in (typed or features)]
  found = typed if len(typed) == 1 else known[:1]
  if found:
    return found[0]
  raise UserError(
    f'{name}: which column has the images? It has {", ".join(features)}; call '
    'it "image" with rename_column'
  )


def label_column(
  table: 'datasets.Dataset', name: str, given: str | None
) -> tuple[str | None, str]:
  """The column of labels, and a sentence where there were several.

  Raises:
    UserError: if a given one is missing.
  """
  features = table.features
  if given is not None:
    if given in features:
      return given, ''
    raise UserError(
      f'config.dataset.labels={given}: no column of this name in {name}; it '
      f'has {", ".join(features)}'
    )
  typed = [x for x, f in features.items() if type(f).__name__ == 'ClassLabel']
  known = [x for x in _LABELS if x in features]
  found = next((x for x in known if x in typed), None)
  found = found or next(iter([*typed, *known]), None)
  others = [x for x in typed if x != found]
  if not others:
    return found, ''
  return found, (
    f'{name}: the labels are the column {found}; for others, set '
    f'dataset.labels={" or ".join(others)}.'
  )


def values(table: 'datasets.Dataset', column: str, where: str) -> np.ndarray:
  """All values of a column.

  Raises:
    UserError: if some are missing.
  """
  found = table.select_columns([column])[:][column]
  missing = [i for i, value in enumerate(found) if value is None]
  if missing:
    raise UserError(
      f'{where}: row {missing[0]} has no label ({len(missing):,} rows in all); '
      'remove such rows with filter'
    )
  with contextlib.suppress(ValueError):  # lists of several lengths
    return np.array(found)
  return np.array(found, object)


def content(value: Any, where: str) -> bytes:
  """The encoded image in a cell.

  Raises:
    UserError: if the cell holds something else.
  """
  if value is None:
    return b''  # which is named as an empty image
  if isinstance(value, Mapping):
    if value.get('bytes') is None and value.get('path'):
      raise UserError(
        f'{where}: holds the path of an image, not the image; give its folder '
        'as config.dataset.path'
      )
    value = value.get('bytes') or b''
  if not isinstance(value, bytes):
    raise UserError(
      f'{where}: holds a {type(value).__name__}, not an encoded image; cast '
      'the column to datasets.Image()'
    )
  return value
