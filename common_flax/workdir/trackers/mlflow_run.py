"""A run in MLflow.

Its settings are the environment variables of the library: MLFLOW_TRACKING_URI
names a server or a database, by default mlflow.db in the current folder;
MLFLOW_EXPERIMENT_NAME says where runs belong.
"""

from collections.abc import Mapping
import io
import os
import time
from typing import Any

from etils import epath
import numpy as np
import PIL.Image

from common_flax.workdir.trackers import stored_id

_NAME = 'mlflow'
_EXPERIMENT = 'gan_vae_flax'
_MAX_PARAMETERS = 100  # that the library takes at once
_MAX_LENGTH = 500  # of a parameter, for old servers


class MLflowRun:
  """Logs to a run of MLflow, which keeps every value that it is told."""

  def __init__(
    self, workdir: epath.Path, fields: Mapping[str, Any], known: int | None
  ):
    """Prepares a run.

    Args:
      workdir: the run's folder.
      fields: its config by name.
      known: the last step that an earlier start told; None if there was none.
    """
    self._workdir = workdir
    self._fields = fields
    self._known = known

  def start(self) -> None:
    """Begins the run, or goes on with it."""
    from mlflow import entities  # which takes seconds
    from mlflow.tracking import MlflowClient

    self._entities, self._client = entities, MlflowClient()
    name = stored_id.read(self._workdir, _NAME)
    if name is None:
      self._known = None
      name = self._create()
      stored_id.write(self._workdir, _NAME, name)
    else:
      self._client.update_run(name, status='RUNNING')
    self._id = name

  def _create(self) -> str:
    experiment = os.environ.get('MLFLOW_EXPERIMENT_NAME', _EXPERIMENT)
    found = self._client.get_experiment_by_name(experiment)
    number = (
      found.experiment_id
      if found
      else self._client.create_experiment(experiment)
    )
    run = self._client.create_run(number, run_name=self._workdir.name)
    parameters = [
      self._entities.Param(name, str(value)[:_MAX_LENGTH])
      for name, value in self._fields.items()
    ]
    for start in range(0, len(parameters), _MAX_PARAMETERS):
      part = parameters[start : start + _MAX_PARAMETERS]
      self._client.log_batch(run.info.run_id, params=part)
    return run.info.run_id

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Adds numbers of a step."""
    if self._known is None or step > self._known:
      now = int(1000 * time.time())
      metrics = [
        self._entities.Metric(name, value, now, step)
        for name, value in values.items()
      ]
      self._client.log_batch(self._id, metrics=metrics)

  def picture(self, step: int, png: bytes) -> None:
    """Adds a picture of samples."""
    if self._known is None or step > self._known:
      image = np.asarray(PIL.Image.open(io.BytesIO(png)).convert('RGB'))
      self._client.log_image(self._id, image, key='samples', step=step)

  def finish(self, is_finished: bool, has_failed: bool) -> None:
    """Ends the run; it may go on later."""
    status = 'FINISHED' if is_finished else 'KILLED'
    self._client.set_terminated(self._id, 'FAILED' if has_failed else status)
