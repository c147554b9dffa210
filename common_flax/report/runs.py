"""What a report knows of a run, read from its workdir."""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import math
import re
from typing import Any

from etils import epath

from common_flax import config as config_lib
from common_flax import files
from common_flax import log
from common_flax.errors import UserError
from common_flax.workdir import classes
from common_flax.workdir import layout
from common_flax.workdir import provenance
from common_flax.workdir import writers
from common_flax.workdir.provenance import Provenance

_MAX_LOG_BYTES = 2**28
_MAX_REMARKS = 200
_COUNTS = ('num_steps', 'batch_size', 'seed', 'num_seeds')
_TOO_MANY = 2**63
# Lines of the log that tell of trouble. Scores are told in the same form.
_REMARK = re.compile(
  r'(?i)step [\d,]+: |'
  r'(?!config\.).*\b(cannot be (read|written)|damaged|left out)\b|'
  r'Going back to|Resuming from|Stopped|error: |Repeating steps|'
  r'config\.trackers: .* going on without it'
)
_SCORES = re.compile(r'Step [\d,]+: \w+ [-\d.,e+naif]+(, \w+ [-\d.,e+naif]+)*$')
_STAMPED = re.compile(r'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (.*)')


@dataclasses.dataclass(frozen=True)
class Remark:
  """A line of the log."""

  time: str
  text: str


@dataclasses.dataclass(frozen=True)
class Run:
  """A run: its config, what it recorded, its pictures and its evaluation."""

  workdir: epath.Path
  name: str
  config: Mapping[str, Any]  # 'dataset.name' -> value
  rows: Sequence[Mapping[str, float | None]]
  pictures: Sequence[tuple[int, epath.Path]]  # by step
  data: Mapping[str, Any]  # see `Provenance.data`
  record: Provenance | None  # None if an earlier version trained the run
  evaluation: Mapping[str, Any] | None
  remarks: Sequence[Remark] | None  # None if there is no log
  class_names: Sequence[str] | None
  faults: Sequence[str]  # what could not be read

  @property
  def step(self) -> int:
    """The last step that is known."""
    starts = self.record.starts if self.record else []
    steps = [start.reached or start.step for start in starts]
    steps += [row['step'] for row in self.rows[-1:]]
    steps += [step for step, _ in self.pictures[-1:]]
    return max(steps, default=0)

  @property
  def is_finished(self) -> bool:
    """Whether the last step is that of the config."""
    return self.step >= self.config.get('num_steps', 0)

  def series(self, metric: str) -> list[tuple[int, float]]:
    """The steps at which a metric was recorded, with its values."""
    values = [(row['step'], row.get(metric)) for row in self.rows]
    return [
      (step, value)
      for step, value in values
      if value is not None and math.isfinite(value)
    ]


def read(workdir: epath.PathLike) -> Run:
  """Reads a workdir, whose run may still be training.

  What cannot be read is left out, and named in `faults`.

  Raises:
    UserError: if the folder holds no config of a run.
  """
  path = epath.Path(workdir)
  faults: list[str] = []
  config = _read_config(path)
  record = _or_fault(faults, path / provenance.FILE, provenance.read, path)
  return Run(
    path,
    path.name or str(path),
    config,
    _or_fault(faults, path / layout.METRICS, writers.read_rows, path) or [],
    _or_fault(faults, path / 'samples', _pictures, path) or [],
    record.data if record else _data_of_checkpoints(path),
    record,
    _or_fault(faults, path / layout.EVALUATION, _read_evaluation, path),
    _or_fault(faults, path / log.NAME, _remarks, path),
    _or_fault(faults, path / classes.CLASSES, classes.read, path),
    faults,
  )


def told_apart(runs: Sequence[Run]) -> list[Run]:
  """The runs; those in folders of the same name are named by their paths."""
  counts = collections.Counter(run.name for run in runs)
  return [
    dataclasses.replace(run, name=str(run.workdir))
    if counts[run.name] > 1
    else run
    for run in runs
  ]


def _or_fault(faults: list[str], file: epath.Path, read, path: epath.Path):
  """What `read(path)` returns; None, and a fault, if it raises."""
  try:
    return read(path)
  except Exception as error:  # each store raises its own types
    if not (files.is_file_error(error) or isinstance(error, ValueError)):
      raise
    if isinstance(error, UserError):  # which names the file
      faults.append(str(error))
    else:
      faults.append(f'{file}: cannot be read: {error}')
    return None


def _read_config(workdir: epath.Path) -> dict[str, Any]:
  """The flat config of config.json, or of the newest checkpoint's copy.

  Raises:
    UserError: if there is none, or it is damaged.
  """
  path = workdir / layout.CONFIG
  try:
    if path.exists():
      return _checked(config_lib.flatten(files.read_json(path)))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{path}: cannot be read: {error}') from error
  with layout.open_checkpoints(workdir) as checkpoints:
    saved = checkpoints.newest_config()
  if saved is None:
    raise UserError(f'{path}: no such file; is {workdir} a workdir?')
  try:
    return _checked(config_lib.flatten(saved[1]))
  except ValueError as error:
    raise UserError(
      f"{workdir}: the newest checkpoint's config cannot be used: {error}"
    ) from error


def _checked(config: dict[str, Any]) -> dict[str, Any]:
  """Refuses a config whose counts are no numbers.

  Raises:
    ValueError: naming the field.
  """
  for name in _COUNTS:
    value = config.get(name, 0)
    if type(value) is not int or not 0 <= value < _TOO_MANY:
      raise ValueError(f'{name}={value!r:.100} is no count')
  return config


def _pictures(workdir: epath.Path) -> list[tuple[int, epath.Path]]:
  """The pictures of samples by step."""
  found = []
  folder = workdir / 'samples'
  if folder.is_dir():
    for path in folder.iterdir():
      if match := re.fullmatch(r'step_(\d{1,18})\.png', path.name):
        found.append((int(match[1]), path))
  return sorted(found, key=lambda pair: pair[0])


def _data_of_checkpoints(workdir: epath.Path) -> dict[str, Any]:
  """What the newest checkpoint says of the data; {} if nothing."""
  with layout.open_checkpoints(workdir) as checkpoints:
    for step in reversed(checkpoints.steps()):
      with contextlib.suppress(Exception):  # damage raises many types
        return checkpoints.info(step)
  return {}


def _read_evaluation(workdir: epath.Path) -> dict[str, Any] | None:
  path = workdir / layout.EVALUATION
  return files.read_json(path) if path.exists() else None


def _remarks(workdir: epath.Path) -> list[Remark] | None:
  """What the run said of trouble; of a long list, its ends."""
  path = workdir / log.NAME
  if not path.exists():
    return None
  text = files.read_bytes(path, _MAX_LOG_BYTES).decode(errors='replace')
  remarks = []
  for line in text.splitlines():
    stamped = _STAMPED.match(line)
    if stamped and _REMARK.match(stamped[2]) and not _SCORES.match(stamped[2]):
      remarks.append(Remark(*stamped.groups()))
  if len(remarks) > _MAX_REMARKS:
    half = _MAX_REMARKS // 2
    left_out = f'... {len(remarks) - 2 * half:,} more lines in {log.NAME} ...'
    remarks = [*remarks[:half], Remark('', left_out), *remarks[-half:]]
  return remarks
