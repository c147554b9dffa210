"""The metrics of a run as arrays, to plot or to compare."""

import os

from etils import epath
import numpy as np

from common_flax.errors import UserError
from common_flax.workdir import writers
from common_flax.workdir.layout import METRICS


def read_metrics(workdir: epath.PathLike) -> dict[str, np.ndarray]:
  """Reads the metrics of a run, which may still be training.

  Args:
    workdir: folder of the run.

  Returns:
    Arrays of one length N by name: `step`, int64 [N], which rises, and float64
    [N] for every other name. A metric that a step lacks, or whose value was not
    finite, is NaN there.

  Raises:
    UserError: if the folder has no metrics.jsonl, or it cannot be read.
  """
  path = epath.Path(os.path.expanduser(workdir)) / METRICS
  try:
    if not path.exists():
      raise UserError(f'{path}: there is no such file; is this a workdir?')
    rows = writers.read_rows(path.parent)
  except OSError as error:
    raise UserError(f'{path}: cannot be read: {error}') from error
  names = dict.fromkeys(name for row in rows for name in row)
  metrics = {'step': np.array([row['step'] for row in rows], np.int64)}
  for name in names:
    if name != 'step':
      values = [row.get(name) for row in rows]
      metrics[name] = np.array(values, np.float64)  # None becomes NaN
  return metrics
