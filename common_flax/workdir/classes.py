"""The names of a run's classes, which classes.json keeps in its workdir.

A run's networks know classes by number. The names come from its data: the
sub-folders of a folder, the labels of a public data set, a source's
`class_names`.
"""

from collections.abc import Sequence
import json

from etils import epath

from common_flax import files
from common_flax.data.source import checked_names
from common_flax.errors import UserError
from common_flax.workdir import layout

CLASSES = 'classes.json'
_MAX_BYTES = 2**26  # far more than names of all classes that labels may have


def read(workdir: epath.PathLike) -> tuple[str, ...] | None:
  """The names of the classes, that of class 0 first.

  None if the run's data has no names, or if an earlier version trained it.

  Raises:
    UserError: if the file is damaged.
  """
  path = epath.Path(workdir) / CLASSES
  if not path.exists():
    return None
  try:
    names = files.read_json(path, _MAX_BYTES).get('class_names')
    return checked_names(names, 'class_names')
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: cannot be read: {error}; remove it') from error


def names_of(workdir: epath.PathLike, num_classes: int) -> tuple[str, ...]:
  """The names of a run's classes; their numbers where it recorded no names.

  Raises:
    UserError: if classes.json is damaged or names another number of classes.
  """
  names = read(workdir)
  if names is None:
    return numbered(num_classes)
  if len(names) != num_classes:
    raise UserError(
      f'{epath.Path(workdir) / CLASSES}: names {len(names)} classes, and the '
      f'run has {num_classes}; correct or remove it'
    )
  return names


def are_numbers(names: Sequence[str] | None) -> bool:
  """Whether names, or None, say no more than the numbers of the classes."""
  return names is None or all(
    name == str(number) for number, name in enumerate(names)
  )


def numbered(num_classes: int) -> tuple[str, ...]:
  """The names of classes that have none: '0', '1', ..."""
  return tuple(map(str, range(num_classes)))


def check(workdir: epath.PathLike, names: Sequence[str] | None) -> None:
  """Refuses to resume a run whose classes had other names.

  Args:
    workdir: the run's folder.
    names: of the classes in the data; None if it has no names.

  Raises:
    UserError: naming the first class that differs.
  """
  old = read(workdir)
  if names is None or old is None or old == names:
    return
  for number, pair in enumerate(zip(old, names, strict=False)):
    if pair[0] != pair[1]:
      raise UserError(
        f'config.dataset: class {number} was {pair[0]!r} and is now '
        f'{pair[1]!r}; use the old data, or another --workdir'
      )


def write(workdir: epath.PathLike, names: Sequence[str] | None) -> None:
  """Writes classes.json, if the data has names.

  Raises:
    UserError: if it cannot be written.
  """
  if names is None or _is_written(workdir, names):
    return
  text = json.dumps({'class_names': list(names)}, indent=2) + '\n'
  with layout.writing(f'--workdir={workdir}'):
    files.write_bytes(epath.Path(workdir) / CLASSES, text.encode())


def _is_written(workdir: epath.PathLike, names: Sequence[str]) -> bool:
  try:
    return read(workdir) == names
  except UserError:  # a damaged file is replaced
    return False
