"""The name that a service gave to a run, kept in the run's workdir."""

from etils import epath

from common_flax import files


def read(workdir: epath.Path, tracker: str) -> str | None:
  """The run's name; None if the tracker does not know the run yet.

  Raises:
    ValueError: if the file is damaged.
  """
  path = _path(workdir, tracker)
  if not path.exists():
    return None
  try:
    name = files.read_json(path)['id']
  except (ValueError, KeyError) as error:
    raise ValueError(f'{path}: cannot be read: {error}; remove it') from error
  if not (isinstance(name, str) and name.isalnum()):
    raise ValueError(f'{path}: holds no name of a run; remove it')
  return name


def write(workdir: epath.Path, tracker: str, name: str) -> None:
  """Keeps the run's name."""
  text = f'{{"id": "{name}"}}\n'
  files.write_bytes(_path(workdir, tracker), text.encode())


def _path(workdir: epath.Path, tracker: str) -> epath.Path:
  return workdir / f'tracker_{tracker}.json'
