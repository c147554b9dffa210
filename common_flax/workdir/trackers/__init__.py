"""Services that show runs, beside the files of the workdir.

`config.trackers` names them. `tensorboard` is the folder of that name, see
`common_flax.workdir.tensorboard`; the others belong to libraries that extras
install. A run goes on in the same run of its tracker when it resumes, which
`tracker_NAME.json` in its workdir remembers. What a tracker has been told of
steps before, it is not told again: services append and do not forget.
"""

from collections.abc import Mapping
import time
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax.cpu import startup
from common_flax.workdir.trackers.background import Background
from common_flax.workdir.trackers.mlflow_run import MLflowRun
from common_flax.workdir.trackers.wandb_run import WandbRun

_FINISHED_SECONDS = 30.0  # to tell what is left
_STOPPED_SECONDS = 10.0  # the same where a kill may follow soon
_KINDS = {'mlflow': MLflowRun, 'wandb': WandbRun}


def check_installed(config: ConfigDict) -> None:
  """Checks that the libraries of the run's trackers are installed.

  Raises:
    UserError: naming the extra that installs what is missing.
  """
  for name in config.trackers:
    config_lib.require(
      name not in _KINDS or startup.is_installed(name),
      config,
      'trackers',
      f'{name} is not installed; install the extra {name} of this package, or '
      f'pip install {name}',
    )


class Trackers:
  """The trackers of a run but TensorBoard, each in a thread of its own."""

  def __init__(
    self,
    config: ConfigDict,
    workdir: epath.PathLike,
    known_until: int | None,
  ):
    """Begins, or goes on with, the run in each tracker.

    Args:
      config: the run's config.
      workdir: the run's folder, which exists.
      known_until: the last step of which an earlier start of the run has told;
        None if there was none.
    """
    path, fields = epath.Path(workdir), config_lib.flatten(config)
    self._num_steps = config.num_steps
    self._last_step = 0
    self._each = [
      Background(name, _KINDS[name](path, fields, known_until))
      for name in config.trackers
      if name in _KINDS
    ]

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Tells numbers of a step, all of them finite."""
    self._last_step = step
    self._tell('scalars', step, dict(values))

  def picture(self, step: int, png: bytes) -> None:
    """Tells a picture of samples, which is encoded."""
    self._tell('picture', step, png)

  def close(self, has_failed: bool) -> None:
    """Ends the runs; waits a little until everything is told."""
    is_finished = not has_failed and self._last_step >= self._num_steps
    self._tell('finish', is_finished, has_failed)
    seconds = _FINISHED_SECONDS if is_finished else _STOPPED_SECONDS
    deadline = time.monotonic() + seconds  # of all
    for each in self._each:
      each.close(deadline)

  def _tell(self, what: str, *arguments: Any) -> None:
    for each in self._each:
      each.tell(what, *arguments)
