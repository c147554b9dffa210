"""Labels of image files from a table: CSV, or JSON such as StyleGAN's.

A table has one row for each image, its name and its class. JSON is
`{"labels": [[name, class], ...]}` as StyleGAN's `dataset.json` has it, or
`{name: class, ...}`. Classes are numbers from 0 on, or names.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import json
import os
import pathlib
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from common_flax import files as files_lib
from common_flax.data import arrays
from common_flax.data.own.listing import SUFFIXES
from common_flax.errors import UserError

if TYPE_CHECKING:
  from common_flax.data.own.folder import Place

FOUND = 'dataset.json'  # looked for in every folder of images
FILE_COLUMNS = (
  *('file', 'file_name', 'filename', 'filepath', 'file_path', 'path'),
  *('image', 'image_name', 'image_path', 'image_file', 'img', 'name'),
  *('image_id', 'id'),
)
LABEL_COLUMNS = (
  *('label', 'labels', 'class', 'class_name', 'label_name', 'category'),
  *('target', 'y', 'class_id', 'label_id'),
)
_MAX_BYTES = 2**28
_DELIMITERS = ',;\t'

Path = pathlib.PurePath
Row = tuple[str, Any]  # name of a file, class


@dataclasses.dataclass(frozen=True)
class Labels:
  """What a table says of the images that it was read for.

  Attributes:
    file: the table, as the user sees it.
    class_of: path of an image -> its class; None if the table has no classes.
    has_numbers: whether classes are numbers from 0 on, not names.
    notes: sentences to tell the user.
  """

  file: str
  class_of: Mapping[Path, int | str] | None
  has_numbers: bool = False
  notes: Sequence[str] = ()


def of_files(
  place: 'Place', files: Sequence[Path], given: str | None
) -> Labels | None:
  """The labels of the images in a folder or zip file.

  Args:
    place: the folder.
    files: its images.
    given: path of the table, also relative to the folder; None for a
      `dataset.json` in the folder, if there is one with `labels`.

  Returns:
    The labels; None if nothing was given and nothing found.

  Raises:
    UserError: naming the table, what is wrong, and the cure.
  """
  table = _given(place, given) if given else _found(place, files)
  if table is None:
    return None
  file, base, rows = table
  notes = [] if given else [f'{file} gives the labels.']
  if rows is None:
    return Labels(file, None, False, [f'{file} says that there are no labels.'])
  chosen, unknown = _matched(rows, files, (base, place.base), file)
  if not chosen:
    raise UserError(
      f'{file}: none of its {len(rows):,} rows names an image in {place.name}; '
      f'the first is {rows[0][0] if rows else "missing"}, and an image is '
      f'{min(map(str, files), default="missing")}'
    )
  if unknown:
    notes.append(
      f'{file}: {len(unknown):,} of {len(rows):,} rows name no image (first '
      f'{files_lib.one_line(unknown[0])}).'
    )
  has_numbers = all(str(x).isdecimal() for x in chosen.values())
  if not has_numbers:
    return Labels(file, {x: str(y) for x, y in chosen.items()}, False, notes)
  numbers = {path: int(number) for path, number in chosen.items()}
  num_classes = max(numbers.values()) + 1
  if num_classes > arrays.MAX_CLASSES:
    raise UserError(
      f'{file}: has the class {num_classes - 1}; number the classes from 0 to '
      f'at most {arrays.MAX_CLASSES - 1:,}'
    )
  values = np.array([*numbers.values()])
  notes += arrays.without_gaps(values, num_classes, file)
  return Labels(file, numbers, True, notes)


def _found(
  place: 'Place', files: Sequence[Path]
) -> tuple[str, Path, list[Row] | None] | None:
  """StyleGAN's table of a folder, or of the only sub-folder."""
  tops = {path.parts[0] for path in files if len(path.parts) > 1}
  only = len(tops) == 1 and all(len(path.parts) > 1 for path in files)
  for base in (Path(), *([Path(min(tops))] if only else [])):
    file = str(base / FOUND)
    content = place.find(file)
    if content is not None:
      shown = place.shown(file)
      value = _json(content, shown)
      if isinstance(value, dict) and 'labels' in value:
        return shown, base, _rows_of_json(value, shown)
  return None


def _given(
  place: 'Place', path: str
) -> tuple[str, Path, list[Row] | None] | None:
  """The table at a path, and the folder that its names start from."""
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
  if path.lower().endswith('.json'):
    return shown, base, _rows_of_json(_json(content, shown), shown)
  if path.lower().endswith(('.csv', '.tsv', '.txt')):
    return shown, base, _rows_of_csv(content, shown)
  raise UserError(
    f'{field}: has an unknown ending; give a .csv with the columns file and '
    'label, or a .json'
  )


def _json(content: bytes, file: str) -> Any:
  def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = collections.Counter(name for name, _ in pairs)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
      raise ValueError(f'has {twice[0]!r} twice')
    return dict(pairs)

  try:
    return json.loads(content, object_pairs_hook=once)
  except RecursionError as error:
    raise UserError(f'{file}: its brackets are nested too deeply') from error
  except ValueError as error:
    raise UserError(
      f'{file}: cannot be read as JSON: {error}; correct or rename it'
    ) from error


def _rows_of_json(value: Any, file: str) -> list[Row] | None:
  if isinstance(value, dict) and 'labels' in value:
    value = value['labels']
    if value is None:
      return None
  if isinstance(value, dict):
    value = [*value.items()]
  is_table = isinstance(value, list) and all(
    isinstance(row, list | tuple) and len(row) == 2 and isinstance(row[0], str)
    for row in value
  )
  if not is_table:
    raise UserError(
      f'{file}: has no table of labels; write {{"labels": [["a.png", 0], ...]}}'
    )
  for name, label in value:
    if isinstance(label, bool) or not isinstance(label, int | str | None):
      raise UserError(
        f'{file}: the label of {files_lib.one_line(name)} is a '
        f'{type(label).__name__}; give one class as a number or a name'
      )
    if isinstance(label, int) and label < 0:
      raise UserError(
        f'{file}: the label of {files_lib.one_line(name)} is {label}; number '
        'the classes from 0'
      )
  return [(name, label) for name, label in value if label not in (None, '')]


def _rows_of_csv(content: bytes, file: str) -> list[Row]:
  try:
    text = content.decode('utf-8-sig')
    first = text.lstrip().partition('\n')[0]
    delimiter = max(_DELIMITERS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter)
    rows = [[cell.strip() for cell in line] for line in lines]
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(
      f'{file}: cannot be read as CSV: {error}; store it as UTF-8 text'
    ) from error
  numbered = [(i, row) for i, row in enumerate(rows, 1) if any(row)]
  if not numbered:
    raise UserError(f'{file}: is empty; give it the columns file and label')
  header = [name.lower() for name in numbered[0][1]]
  columns = [
    next((header.index(name) for name in known if name in header), None)
    for known in (FILE_COLUMNS, LABEL_COLUMNS)
  ]
  if columns == [None, None] and len(header) == 2:
    if Path(header[0]).suffix in SUFFIXES:
      columns, numbered = [0, 1], [(0, header), *numbered]
  if None in columns:
    raise UserError(
      f'{file}: has the columns {", ".join(header)}; call that of the files '
      '"file" and that of the classes "label"'
    )
  table = []
  for line, row in numbered[1:]:
    if len(row) <= max(columns):
      raise UserError(f'{file}: line {line} has no column {max(columns) + 1}')
    name, label = (row[i] for i in columns)
    if label:
      table.append((name, label))
  return table


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
