"""Checkpoints of a run: the newest few steps, written in the background.

A checkpoint is a folder `<step>` of named items: `state`, all that a run needs
to go on with the same bits; what sampling needs, as an item of its own; and
`info`, a JSON object that says what the arrays are for. Orbax writes them, and
makes them appear under their step only when they are whole.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import os
import re
import tempfile
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from common_flax import files
from common_flax import processes
from common_flax.config import UserError

STATE = 'state'
INFO = 'info'

# Devices that hold the same array write a part of it each. To cut smaller ones
# up takes longer than to write them whole.
_MIN_BYTES_PER_PART = 1 << 20


class Checkpoints:
  """The checkpoints in one folder. Close it, or use it in `with`."""

  def __init__(self, directory: epath.PathLike, keep: int | None = None):
    """Opens a folder.

    Args:
      directory: the folder; it is made if there is anything to keep.
      keep: how many of the newest checkpoints saving leaves there; None to read
        only.
    """
    self._directory = epath.Path(directory)
    if not files.is_remote(directory):
      # Orbax refuses relative paths, but only when it has written everything.
      self._directory = self._directory.resolve()
    self._keep = keep
    self._preserved = None if keep is None else _Preserved(keep)
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager | None:
    if self._keep is None and not self._directory.is_dir():
      return None
    options = ocp.CheckpointManagerOptions(
      preservation_policy=self._preserved,
      create=self._keep is not None,
      cleanup_tmp_directories=self._keep is not None,
    )
    return ocp.CheckpointManager(
      self._directory, options=options, handler_registry=_handlers()
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *unused_exception) -> None:
    self.close()

  def steps(self) -> list[int]:
    """The steps that have a checkpoint, rising."""
    return sorted(self._manager.all_steps()) if self._manager else []

  def save(
    self,
    step: int,
    items: dict[str, Any],
    info: dict,
    best: int | None = None,
  ) -> None:
    """Saves pytrees of arrays by name; they may be donated once it returns.

    Writing goes on in the background; an error it meets is raised by the next
    `save` or by `close`.

    Args:
      step: of the checkpoint.
      items: pytrees by name.
      info: JSON.
      best: the step of a checkpoint that is kept however old it is.
    """
    self._preserved.best = best
    self._check_writable()
    arguments = {name: ocp.args.PyTreeSave(x) for name, x in items.items()}
    arguments[INFO] = ocp.args.JsonSave(info)
    self._manager.save(step, args=ocp.args.Composite(**arguments), force=True)

  def _check_writable(self) -> None:
    """Raises an OSError at once, where Orbax would wait for minutes."""
    if not files.is_remote(self._directory):
      with tempfile.TemporaryFile(dir=self._directory):
        pass

  def restore(self, step: int, item: str, abstract: Any) -> Any:
    """One item of one checkpoint.

    Args:
      step: one of `steps()`.
      item: its name.
      abstract: the item's pytree with `jax.ShapeDtypeStruct`s that carry the
        shardings to restore to.
    """
    how = ocp.checkpoint_utils.construct_restore_args(abstract)
    arguments = {item: ocp.args.PyTreeRestore(abstract, restore_args=how)}
    return self._manager.restore(step, args=ocp.args.Composite(**arguments))[
      item
    ]

  def info(self, step: int) -> dict:
    """The info of one checkpoint."""
    arguments = {INFO: ocp.args.JsonRestore()}
    return self._manager.restore(step, args=ocp.args.Composite(**arguments))[
      INFO
    ]

  def newest(
    self, read: Callable[[int], Any], only: int | None = None
  ) -> tuple[int, Any]:
    """Reads from the newest checkpoint that can be read.

    Args:
      read: reads what is wanted from the checkpoint of a step.
      only: the step of the one to take; None for any.

    Returns:
      The step, and what `read` returned.

    Raises:
      UserError: if there is no checkpoint, or none can be read.
    """
    steps = self.steps()
    if only is not None:
      if only not in steps:
        kept = ', '.join(map(str, steps)) or 'none'
        raise UserError(
          f'--step={only}: {self._directory} holds no such checkpoint; it has '
          f'{kept}'
        )
      steps = [only]
    reasons = {}
    for step in reversed(steps):
      try:
        result = read(step)
      except Exception as error:  # damage shows itself in many types
        reasons[step] = ' '.join(str(error).split()) or repr(error)
        continue
      for bad, reason in reasons.items():
        print(
          f'Checkpoint {bad} cannot be read ({reason[:200]}); '
          f'taking {step} instead.'
        )
      return step, result
    if not reasons:
      raise UserError(f'{self._directory}: holds no checkpoint; train first')
    newest = max(reasons)
    raise UserError(
      f'{self._directory}: none of its checkpoints can be read; {newest}: '
      f'{reasons[newest][:200]}'
    )

  def check_info(self, info: Mapping[str, Any]) -> None:
    """Refuses to go on with other data than that of the newest checkpoint.

    Args:
      info: what a checkpoint's info would be now.

    Raises:
      UserError: naming what differs.
    """
    step, old = self.newest(self.info)
    new = json.loads(json.dumps(dict(info)))  # as JSON gives it back
    # What an older checkpoint does not tell cannot differ.
    different = [
      f'{name} (was {old[name]}, now {value})'
      for name, value in new.items()
      if name in old and old[name] != value
    ]
    if different:
      raise UserError(
        f'config.dataset: other data than that of checkpoint {step}: '
        f'{", ".join(different)}; take the old data, or another --workdir'
      )

  def discard_after(self, step: int) -> None:
    """Moves later checkpoints to the folder `<directory>_discarded`.

    Orbax saves nothing at a step before its newest, so what a run goes back
    beyond has to leave; as evidence it is kept.
    """
    later = [other for other in self.steps() if other > step]
    if not later:
      return
    self._manager.close()
    if processes.is_first():
      self._put_aside(later)
    processes.wait_for_all('discarded')
    self._manager = self._open()

  def _put_aside(self, steps: list[int]) -> None:
    discarded = self._directory.with_name(f'{self._directory.name}_discarded')
    for step in steps:
      target, count = discarded / str(step), 1
      while target.exists():
        target, count = discarded / f'{step}-{count}', count + 1
      files.move_folder(self._directory / str(step), target)

  def forget_failure(self) -> None:
    """Removes what a save left that failed, so that others can follow."""
    with contextlib.suppress(Exception):  # it is known
      self._manager.close()
    self._manager = self._open()

  def wait(self) -> None:
    """Waits until everything is written; raises what went wrong with it."""
    if self._manager:
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits until everything is written."""
    if self._manager:
      self.wait()
      self._manager.close()


class _Preserved:
  """The newest few checkpoints, and the best.

  Orbax's own `best_fn` would leave the best few and delete the newest.
  """

  def __init__(self, num_newest: int):
    self._num_newest = num_newest
    self.best: int | None = None

  def should_preserve(
    self,
    checkpoints: Sequence[Any],
    *,
    context: ocp.checkpoint_managers.PreservationContext,
  ) -> Sequence[bool]:
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    newest = set(sorted(steps)[-self._num_newest :])
    return [step in newest or step == self.best for step in steps]


def _handlers() -> ocp.handlers.CheckpointHandlerRegistry:
  arrays = ocp.type_handlers.ArrayHandler(
    min_slice_bytes_for_replica_parallel=_MIN_BYTES_PER_PART
  )
  registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
  trees = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
  handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for arguments in (ocp.args.PyTreeSave, ocp.args.PyTreeRestore):
    handlers.add(None, arguments, trees)
  for arguments in (ocp.args.JsonSave, ocp.args.JsonRestore):
    handlers.add(None, arguments)
  return handlers


def reason(error: Exception) -> str:
  """Why something could not be written, in a few words."""
  number = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's
  if number:
    return os.strerror(int(number[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return ' '.join(str(error).split())[:300] or repr(error)


def abstract_like(
  create: Callable[[], Any], sharding: jax.sharding.Sharding
) -> Any:
  """What `create` would return, as shapes and types on a sharding."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    jax.eval_shape(create),
  )
