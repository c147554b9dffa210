"""Labels of image files from tables: CSV, JSON, StyleGAN's, Hugging Face's.

A table has one row for each image, its name and its class. JSON is
`{"labels": [[name, class], ...]}` as StyleGAN's `dataset.json` has it, or
`{name: class, ...}`. Classes are numbers from 0 on, or names.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from common_flax import files as files_lib
from common_flax.data import arrays
from common_flax.data.own import tables as tables_lib
from common_flax.data.own.tables import METADATA
from common_flax.data.own.tables import Row
from common_flax.errors import UserError

if TYPE_CHECKING:
  from common_flax.data.own.folder import Place

STYLEGAN = 'dataset.json'  # looked for in every folder of images
FOUND = (STYLEGAN, *METADATA)  # the tables that are found by themselves
_MAX_BYTES = 2**28

Path = pathlib.PurePath


@dataclasses.dataclass(frozen=True)
class Labels:
  """What tables say of the images that they were read for.

  Attributes:
    files: the tables, as the user sees them.
    class_of: path of an image -> its class; None if there are no classes.
    has_numbers: whether classes are numbers from 0 on, not names.
    notes: sentences to tell the user.
  """

  files: Sequence[str]
  class_of: Mapping[Path, int | str] | None
  has_numbers: bool = False
  notes: Sequence[str] = ()

  @property
  def name(self) -> str:
    """The name of the tables, without their folders."""
    return os.path.basename(self.files[0])


@dataclasses.dataclass(frozen=True)
class _Table:
  """A table of labels.

  Attributes:
    file: its path as the user sees it.
    base: the folder from which names in it start.
    rows: None if it says that there are no labels.
    is_of_base: whether it names images below that folder alone.
  """

  file: str
  base: Path
  rows: list[Row] | None
  is_of_base: bool = False


def of_files(
  place: 'Place', files: Sequence[Path], given: str | None
) -> Labels | None:
  """The labels of the images in a folder or zip file.

  Args:
    place: the folder.
    files: its images.
    given: path of the table, also relative to the folder; None for StyleGAN's
      `dataset.json` in the folder, if there is one with `labels`, or else
      Hugging Face's `metadata.csv` or `metadata.jsonl` in any folder.

  Returns:
    The labels; None if nothing was given and nothing found.

  Raises:
    UserError: naming the table, what is wrong, and the cure.
  """
  if given:
    tables = [_given(place, given)]
  else:
    tables = _stylegans(place, files) or _hugging_faces(place, files)
  if not tables:
    return None
  shown = [table.file for table in tables]
  named = ' and '.join(shown[:2]) + ' and others' * (len(shown) > 2)
  if tables[0].rows is None:
    notes = [f'{named} says that there are no labels.']
    return Labels(shown, None, False, notes)
  verb = 'gives' if len(shown) == 1 else 'give'
  notes = [] if given else [f'{named} {verb} the labels.']
  chosen = {}
  for table in tables:
    found, note = _rows_of(table, place, files)
    chosen |= found
    notes += [note] if note else []
  has_numbers = all(str(x).isdecimal() for x in chosen.values())
  if not has_numbers:
    return Labels(shown, {x: str(y) for x, y in chosen.items()}, False, notes)
  # Python does not turn thousands of digits into a number.
  texts = [str(number).lstrip('0')[:20] or '0' for number in chosen.values()]
  numbers = dict(zip(chosen, map(int, texts), strict=True))
  num_classes = max(numbers.values()) + 1
  if num_classes > arrays.MAX_CLASSES:
    raise UserError(
      f'{named}: has the class {num_classes - 1}; number the classes from 0 to '
      f'at most {arrays.MAX_CLASSES - 1:,}'
    )
  values = np.array([*numbers.values()])
  notes += arrays.without_gaps(values, num_classes, named)
  return Labels(shown, numbers, True, notes)


def _rows_of(
  table: _Table, place: 'Place', files: Sequence[Path]
) -> tuple[dict[Path, int | str], str]:
  """The classes that a table gives, and a sentence about its other rows."""
  file, rows = table.file, table.rows
  if table.is_of_base:
    files = [path for path in files if table.base in path.parents]
  chosen, unknown = _matched(rows, files, (table.base, place.base), file)
  if not chosen:
    raise UserError(
      f'{file}: none of its {len(rows):,} rows names an image in {place.name}; '
      f'the first is {rows[0][0] if rows else "missing"}, and an image is '
      f'{min(map(str, files), default="missing")}'
    )
  if not unknown:
    return chosen, ''
  return chosen, (
    f'{file}: {len(unknown):,} of {len(rows):,} rows name no image (first '
    f'{files_lib.one_line(unknown[0])}).'
  )


def _stylegans(place: 'Place', files: Sequence[Path]) -> list[_Table]:
  """StyleGAN's table of a folder, or of the only sub-folder."""
  tops = {path.parts[0] for path in files if len(path.parts) > 1}
  only = len(tops) == 1 and all(len(path.parts) > 1 for path in files)
  for base in (Path(), *([Path(min(tops))] if only else [])):
    file = str(base / STYLEGAN)
    content = place.find(file)
    if content is not None:
      shown = place.shown(file)
      value = tables_lib.parse_json(content, shown)
      if isinstance(value, dict) and 'labels' in value:
        return [_Table(shown, base, tables_lib.of_json(value, shown))]
  return []


def _hugging_faces(place: 'Place', files: Sequence[Path]) -> list[_Table]:
  """The tables of Hugging Face's `imagefolder`, outer folders first.

  Raises:
    UserError: naming a folder with two of them.
  """
  inner = {path.parent for path in files}
  tables = []
  for folder in sorted({y for x in inner for y in (x, *x.parents)}):
    found = []
    for name in METADATA:
      content = place.find(str(folder / name))
      if content is not None:
        shown = place.shown(folder / name)
        rows = tables_lib.read_metadata(name, content, shown)
        found += [] if rows is None else [_Table(shown, folder, rows, True)]
    if len(found) > 1:
      raise UserError(
        f'{found[0].file}: gives labels, and {METADATA[1]} beside it, too; '
        'remove one of them'
      )
    tables += found
  return tables


def _given(place: 'Place', path: str) -> _Table:
  """The table at a path."""
  field, base = f'config.dataset.labels={path}', Path()
  local = os.path.expanduser(path)
  content = None
  if files_lib.is_remote(path) or os.path.lexists(local):
    shown = path
    try:
      content = files_lib.read_bytes(local, _MAX_BYTES)
    except Exception as error:  # each store raises its own types
      reason = getattr(error, 'strerror', None) or error
      raise UserError(f'{field}: cannot be read: {reason}') from error
    root = getattr(place, 'root', None)
    if root is not None:
      folder = pathlib.Path(os.path.realpath(local)).parent
      root = os.path.realpath(root)
      if folder.is_relative_to(root):
        base = Path(folder.relative_to(root))
        shown = place.shown(base / Path(local).name)
  elif not os.path.isabs(path):
    content, shown, base = (
      place.find(path),
      place.shown(path),
      Path(path).parent,
    )
  if content is None:
    raise UserError(f'{field}: no such file, nor in {place.name}')
  return _Table(shown, base, tables_lib.read(path, content, shown))


def _matched(
  rows: Sequence[Row],
  files: Sequence[Path],
  bases: tuple[Path, Path],
  table: str,
) -> tuple[dict[Path, int | str], list[str]]:
  """The classes of images, and names in the table that no image has.

  A name is a path from the folder of the table or of the images, or else the
  name of a file in any sub-folder, with or without its ending.

  Args:
    rows: the table.
    files: paths of the images.
    bases: the folder of the table, and that from which `files` start.
    table: its path, for errors.
  """
  paths = {*files}
  by_name = collections.defaultdict(list)
  for path in files:
    by_name[path.name].append(path)
    by_name[path.stem].append(path)
  base, top = bases
  chosen, unknown = {}, []
  for name, label in rows:
    path = Path(name.replace('\\', '/').removeprefix('./'))
    starts = [path, base / path]
    starts += [x.relative_to(top) for x in starts if top in x.parents]
    matches = [x for x in reversed(starts) if x in paths][:1]
    if not matches and len(path.parts) == 1:
      matches = by_name.get(path.name, [])
    if len(matches) > 1:
      raise UserError(
        f'{table}: {path} may be {matches[0]} or {matches[1]}; give paths from '
        'the folder of images'
      )
    if not matches:
      unknown.append(name)
    elif str(chosen.setdefault(matches[0], label)) != str(label):
      raise UserError(
        f'{table}: {path} has two labels, {chosen[matches[0]]} and {label}; '
        'remove one of them'
      )
  return chosen, unknown
