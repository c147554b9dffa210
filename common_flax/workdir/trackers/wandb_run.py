"""A run in Weights & Biases.

Its settings are the environment variables of the library: WANDB_MODE=offline
writes to the workdir, for `wandb sync`; WANDB_PROJECT and WANDB_ENTITY say
where runs belong.
"""

from collections.abc import Mapping
import io
import os
import secrets
from typing import Any

from etils import epath
import PIL.Image

from common_flax import files
from common_flax.workdir.trackers import stored_id

_NAME = 'wandb'
_PROJECT = 'gan_vae_flax'


class WandbRun:
  """Logs to a run of W&B, whose steps must rise."""

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
    self._fields = dict(fields)
    self._known = known
    self._newest = 0

  def start(self) -> None:
    """Begins the run, or goes on with it.

    Raises:
      RuntimeError: if nobody is logged in.
    """
    import wandb  # takes seconds

    is_online = os.environ.get('WANDB_MODE', 'online') == 'online'
    if is_online and not wandb.api.api_key:  # it would ask on the terminal
      raise RuntimeError(
        'nobody is logged in; call `wandb login` before training, or set '
        'WANDB_MODE=offline'
      )
    self._wandb = wandb
    name = stored_id.read(self._workdir, _NAME)
    if name is None:
      name, self._known = secrets.token_hex(4), None
    self._run = wandb.init(
      id=name,
      resume='allow',
      project=os.environ.get('WANDB_PROJECT', _PROJECT),
      name=self._workdir.name,
      config=self._fields,
      dir=None if files.is_remote(self._workdir) else str(self._workdir),
      settings=wandb.Settings(console='off', silent=True),
    )
    stored_id.write(self._workdir, _NAME, name)

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Adds numbers of a step."""
    if self._known is None or step > self._known:
      self._newest = step
      self._run.log(values, step=step)

  def picture(self, step: int, png: bytes) -> None:
    """Adds a picture of samples; its caption says the step."""
    if self._known is None or step > self._known:
      # That of the start is drawn after the first call of the step.
      self._newest = max(self._newest, step)
      picture = PIL.Image.open(io.BytesIO(png))
      image = self._wandb.Image(picture, caption=f'step {step:,}')
      self._run.log({'samples': image}, step=self._newest)

  def finish(self, is_finished: bool, has_failed: bool) -> None:
    """Ends the run; it may go on later."""
    del is_finished
    self._run.finish(exit_code=int(has_failed))
