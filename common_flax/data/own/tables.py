"""Tables of labels in files: CSV, JSON and JSON lines.

A row is the name of an image and its class, a number from 0 on or a name. Rows
without a class are left out.
"""

import collections
from collections.abc import Sequence
import csv
import io
import json
import pathlib
from typing import Any

from common_flax import files as files_lib
from common_flax.data.own.listing import SUFFIXES
from common_flax.errors import UserError

FILE_COLUMNS = (
  *('file', 'file_name', 'filename', 'filepath', 'file_path', 'path'),
  *('image', 'image_name', 'image_path', 'image_file', 'img', 'name'),
  *('image_id', 'id'),
)
LABEL_COLUMNS = (
  *('label', 'labels', 'class', 'class_name', 'label_name', 'category'),
  *('target', 'y', 'class_id', 'label_id'),
)
# Tables of Hugging Face's `imagefolder`, beside the images that they name.
METADATA = ('metadata.csv', 'metadata.jsonl')
_METADATA_FILE = 'file_name'
_DELIMITERS = ',;\t'

Row = tuple[str, Any]  # name of a file, class


def read(path: str, content: bytes, file: str) -> list[Row] | None:
  """Reads a table of the kind that the ending of its path names.

  Args:
    path: of the table.
    content: of the file.
    file: the table as the user sees it, for errors.

  Returns:
    The rows; None if the table says that there are no labels.

  Raises:
    UserError: naming the table, what is wrong, and the cure.
  """
  lower = path.lower()
  if lower.endswith('.json'):
    return of_json(parse_json(content, file), file)
  if lower.endswith('.jsonl'):
    return _of_json_lines(_json_lines(content, file), file, FILE_COLUMNS)
  if lower.endswith(('.csv', '.tsv', '.txt')):
    return _of_csv(_csv_lines(content, file), file)
  raise UserError(
    f'config.dataset.labels={path}: has an unknown ending; give a .csv with '
    'the columns file and label, or a .json or .jsonl'
  )


def read_metadata(name: str, content: bytes, file: str) -> list[Row] | None:
  """Reads a table of Hugging Face's `imagefolder`.

  Args:
    name: one of METADATA.
    content: of the file.
    file: the table as the user sees it, for errors.

  Returns:
    The rows; None if it has no column `file_name` or none of classes, as the
    tables of other people and those of captions.

  Raises:
    UserError: naming the table, what is wrong, and the cure.
  """
  if name.endswith('.jsonl'):
    columns = _keys(content.lstrip().partition(b'\n')[0])
    if _METADATA_FILE in columns and not _names_classes(columns):
      # The first image may be one without a class.
      columns = {key for line in content.splitlines() for key in _keys(line)}
    if not _names_classes(columns):
      return None
    lines = _json_lines(content, file)
    return _of_json_lines(lines, file, (_METADATA_FILE,))
  first = content.removeprefix(b'\xef\xbb\xbf').lstrip().partition(b'\n')[0]
  header = first.decode('utf-8', 'replace').lower()
  if not _names_classes(x.strip(' "\r') for x in header.split(',')):
    return None
  return _of_csv(_csv_lines(content, file), file, (_METADATA_FILE,))


def _keys(line: bytes) -> Sequence[str]:
  """The keys of the JSON object in a line; none if it holds none."""
  try:
    value = json.loads(line)
  except (ValueError, RecursionError):
    return ()
  return [*value] if isinstance(value, dict) else ()


def _names_classes(columns: collections.abc.Iterable[str]) -> bool:
  columns = {*columns}
  return _METADATA_FILE in columns and not columns.isdisjoint(LABEL_COLUMNS)


def parse_json(content: bytes, file: str) -> Any:
  """Parses JSON in which no key occurs twice.

  Raises:
    UserError: naming the file.
  """

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


def of_json(value: Any, file: str) -> list[Row] | None:
  """The rows of a JSON value, see `read`.

  Raises:
    UserError: if it is no table.
  """
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
  return _checked([(name, label) for name, label in value], file)


def _checked(rows: Sequence[Row], file: str) -> list[Row]:
  """The rows that have a class, which is a number from 0 on, or a name."""
  for name, label in rows:
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
  return [(name, label) for name, label in rows if label not in (None, '')]


def _json_lines(content: bytes, file: str) -> list[tuple[int, dict]]:
  """The objects of a file with one in each line, after their numbers."""
  found = []
  for number, line in enumerate(content.splitlines(), 1):
    if not line.strip():
      continue
    value = parse_json(line, f'{file}, line {number}')
    if not isinstance(value, dict):
      raise UserError(
        f'{file}: line {number} is no object; write '
        '{"file_name": "a.png", "label": 0}'
      )
    found.append((number, value))
  if not found:
    raise UserError(f'{file}: is empty; give it the keys file_name and label')
  return found


def _of_json_lines(
  lines: Sequence[tuple[int, dict]], file: str, file_columns: Sequence[str]
) -> list[Row]:
  keys = list({key: None for _, value in lines for key in value})
  name_key, label_key = _columns(keys, file_columns)
  if name_key is None or label_key is None:
    raise _unknown_columns(file, keys)
  rows = []
  for number, value in lines:
    name = value.get(name_key)
    if not isinstance(name, str):
      raise UserError(
        f'{file}: line {number} has no {name_key} that is a string; name the '
        'image there'
      )
    rows.append((name, value.get(label_key)))
  return _checked(rows, file)


def _columns(
  there: Sequence[str], file_columns: Sequence[str]
) -> list[str | None]:
  """The columns of files and of classes; None for one that is missing."""
  return [
    next((name for name in known if name in there), None)
    for known in (file_columns, LABEL_COLUMNS)
  ]


def _unknown_columns(file: str, there: Sequence[str]) -> UserError:
  return UserError(
    f'{file}: has the columns {", ".join(there)}; call that of the files '
    '"file" and that of the classes "label"'
  )


def _csv_lines(content: bytes, file: str) -> list[tuple[int, list[str]]]:
  """The lines of a CSV file that are not empty, after their numbers."""
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
  return numbered


def _of_csv(
  lines: Sequence[tuple[int, list[str]]],
  file: str,
  file_columns: Sequence[str] = FILE_COLUMNS,
) -> list[Row]:
  header = [name.lower() for name in lines[0][1]]
  columns = [
    None if name is None else header.index(name)
    for name in _columns(header, file_columns)
  ]
  if columns == [None, None] and len(header) == 2:
    if pathlib.PurePath(header[0]).suffix in SUFFIXES:
      columns, lines = [0, 1], [(0, header), *lines]
  if None in columns:
    raise _unknown_columns(file, header)
  table = []
  for line, row in lines[1:]:
    if len(row) <= max(columns):
      raise UserError(f'{file}: line {line} has no column {max(columns) + 1}')
    name, label = (row[i] for i in columns)
    if label:
      table.append((name, label))
  return table
