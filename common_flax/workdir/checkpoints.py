"""Checkpoints of a run: the newest few and the best, written by Orbax.

A checkpoint is a folder `<step>` of named items: `state`, everything a run
needs to resume bit for bit; the weights that sampling needs; and `info`, a JSON
object that describes the data, with the run's config and the arrays' checksums.
Orbax writes in the background and renames a checkpoint to its step once it is
complete.
"""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import os
import re
import tempfile
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from common_flax import files
from common_flax.distributed import processes
from common_flax.errors import UserError
from common_flax.workdir import checksums

STATE = 'state'
INFO = 'info'
_INFO_FILE = 'metadata'  # as Orbax's own handler of JSON names it
_CONFIG = 'config'  # a name within `info`
_MAX_INFO_BYTES = 2**28

# Each device that holds a copy of an array writes a part of it. Splitting
# smaller arrays takes longer than writing them whole.
_MIN_BYTES_PER_PART = 1 << 20


class CheckpointStore:
  """The checkpoints in one folder. Close it, or use it in `with`."""

  def __init__(self, directory: epath.PathLike, keep: int | None = None):
    """Opens a folder.

    Args:
      directory: the folder; made if missing, unless `keep` is None.
      keep: number of newest checkpoints to keep; None to only read.
    """
    self._directory = epath.Path(directory)
    if not files.is_remote(directory):
      # Orbax refuses relative paths, but only after it has written everything.
      self._directory = self._directory.resolve()
    self._keep = keep
    self._preserved = ocp.checkpoint_managers.AnyPreservationPolicy([])
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

  def __enter__(self) -> 'CheckpointStore':
    return self

  def __exit__(self, kind, *unused_exception) -> None:
    if kind is None:
      self.close()
      return
    # A save that fails as well must not hide the error that ended the body.
    with contextlib.suppress(Exception):
      self.close()

  def steps(self) -> list[int]:
    """The steps that have a checkpoint, in ascending order."""
    return sorted(self._manager.all_steps()) if self._manager else []

  def whole_steps(self) -> list[int]:
    """The steps whose checkpoints are complete; [] if they cannot be listed."""
    with contextlib.suppress(Exception):  # of a disk or a store that fails
      return sorted(self._manager.all_steps(read=True))
    return []

  def save(
    self,
    step: int,
    items: dict[str, Any],
    info: dict,
    best: int | None = None,
    config: Mapping[str, Any] | None = None,
  ) -> None:
    """Saves a checkpoint; its arrays may be donated once this returns.

    The arrays are written in the background. If that fails, the next `save` or
    `close` raises the error.

    Args:
      step: train steps completed.
      items: pytrees of arrays by name.
      info: JSON object.
      best: step of the best checkpoint, which is kept at any age.
      config: JSON object, the config of the run.
    """
    self._preserved.policies = [
      ocp.checkpoint_managers.LatestN(self._keep),
      ocp.checkpoint_managers.CustomSteps([] if best is None else [best]),
    ]
    self._check_writable()
    arguments = {name: ocp.args.PyTreeSave(x) for name, x in items.items()}
    if config is not None:
      info = {**info, _CONFIG: config}
    arguments[INFO] = _InfoSave(_with_checksums(info, items))
    self._manager.save(step, args=ocp.args.Composite(**arguments), force=True)

  def _check_writable(self) -> None:
    """Raises an OSError at once; Orbax would retry for minutes."""
    if not files.is_remote(self._directory):
      with tempfile.TemporaryFile(dir=self._directory):
        pass

  def restore(self, step: int, item: str, abstract: Any) -> Any:
    """Restores one item of a checkpoint.

    Args:
      step: one of `steps()`.
      item: name of the item.
      abstract: the item's pytree of `jax.ShapeDtypeStruct`, whose shardings the
        restored arrays take.

    Raises:
      DamagedError: if an array is not what was saved; older checkpoints do not
        tell. Orbax's errors have many types.
    """
    expected = self._read_info(step).get(checksums.CHECKSUMS)
    restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
    how = ocp.args.PyTreeRestore(abstract, restore_args=restore_args)
    items = self._manager.restore(step, args=ocp.args.Composite(**{item: how}))
    if expected is not None:
      checksums.check_arrays(items[item], expected[item])
    return items[item]

  def info(self, step: int) -> dict:
    """The `info` of one checkpoint, as it was given to `save`."""
    info = self._read_info(step)
    extra = (_CONFIG, checksums.CHECKSUMS)
    return {name: value for name, value in info.items() if name not in extra}

  def config(self, step: int) -> dict | None:
    """The config of the run; None in older checkpoints."""
    return self._read_info(step).get(_CONFIG)

  def newest_config(self) -> tuple[int, dict] | None:
    """The newest step that keeps a config, and the config, if any does."""
    for step in reversed(self.steps()):
      with contextlib.suppress(Exception):  # damage raises many types
        if (config := self.config(step)) is not None:
          return step, config
    return None

  def _read_info(self, step: int) -> dict:
    path = self._directory / str(step) / INFO / _INFO_FILE
    if not path.exists():  # perhaps it is still being written
      self.wait()
    return checksums.unsealed(files.read_json(path, _MAX_INFO_BYTES))

  def newest(
    self, read: Callable[[int], Any], only: int | None = None
  ) -> tuple[int, Any]:
    """Reads the newest checkpoint that is not damaged.

    Args:
      read: function of a step that reads its checkpoint.
      only: the only step to try; None for any.

    Returns:
      The step and the value that `read` returned.

    Raises:
      UserError: if there is no checkpoint, or all are damaged.
    """
    steps = self.steps()
    if only is not None:
      if only not in steps:
        kept = ', '.join(map(str, steps)) or 'none'
        raise UserError(
          f'--step={only}: {self._directory} has no such checkpoint, only '
          f'{kept}'
        )
      steps = [only]
    reasons = {}
    for step in reversed(steps):
      try:
        result = read(step)
      except Exception as error:  # damage raises many types
        reasons[step] = checksums.why_unreadable(error)
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
    """Refuses to resume on data other than the newest checkpoint's.

    Args:
      info: the `info` that a checkpoint would have now.

    Raises:
      UserError: naming the differences.
    """
    step, old = self.newest(self.info)
    new = json.loads(json.dumps(dict(info)))  # as it is read back
    # Older checkpoints lack some names.
    different = [
      f'{name} (was {old[name]}, now {value})'
      for name, value in new.items()
      if name in old and old[name] != value
    ]
    if different:
      raise UserError(
        f'config.dataset: not the data of checkpoint {step}: '
        f'{", ".join(different)}; use the old data, or another --workdir'
      )

  def discard_after(self, step: int) -> None:
    """Moves later checkpoints to the folder `<directory>_discarded`.

    Orbax saves no step before its newest one, so a rollback moves the later
    checkpoints out of the way; they stay readable.
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
    """Clears the state of a failed save, so that later saves can succeed."""
    with contextlib.suppress(Exception):  # raised by the failed save before
      self._manager.close()
    self._manager = self._open()

  def settle(self) -> None:
    """Waits until everything is written; a save that fails is forgotten."""
    try:
      self.wait()
    except Exception:  # Orbax raises many types
      self.forget_failure()

  def wait(self) -> None:
    """Waits until everything is written; raises the error of a failed save."""
    if self._manager:
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits until everything is written, then closes."""
    if self._manager:
      self.wait()
      self._manager.close()


def _handlers() -> ocp.handlers.CheckpointHandlerRegistry:
  arrays = ocp.type_handlers.ArrayHandler(
    min_slice_bytes_for_replica_parallel=_MIN_BYTES_PER_PART
  )
  registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
  trees = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
  handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for arguments in (ocp.args.PyTreeSave, ocp.args.PyTreeRestore):
    handlers.add(None, arguments, trees)
  handlers.add(None, _InfoSave, _InfoHandler())
  return handlers


def _with_checksums(
  info: dict[str, Any], items: dict[str, Any]
) -> Callable[[], dict[str, Any]] | None:
  """A function that adds the checksums; None where another process writes."""
  if not processes.is_first():
    return None
  of_all = checksums.of_items(items)
  return lambda: checksums.sealed({**info, checksums.CHECKSUMS: of_all()})


class _InfoHandler(ocp.handlers.JsonCheckpointHandler):
  """Writes `info`, which a function makes in the thread that writes."""

  async def async_save(self, directory, item=None, args=None):
    del item
    write = self._write(directory, args.create)
    return [ocp.future.CommitFutureAwaitingContractedSignals(write, name=INFO)]

  async def _write(self, directory, create):
    if create is not None:
      (directory / _INFO_FILE).write_text(json.dumps(create()))


@ocp.args.register_with_handler(_InfoHandler, for_save=True)
@dataclasses.dataclass
class _InfoSave(ocp.args.CheckpointArgs):
  """What `_InfoHandler` saves: a function that returns a JSON object."""

  create: Callable[[], dict[str, Any]] | None


def reason(error: Exception) -> str:
  """A short reason why a write failed."""
  number = re.search(r"os_error_code='(\d+)'", str(error))  # by TensorStore
  if number:
    return os.strerror(int(number[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return ' '.join(str(error).split())[:300] or repr(error)


def abstract_like(
  create: Callable[[], Any], sharding: jax.sharding.Sharding
) -> Any:
  """The shapes and dtypes that `create` returns, on a sharding."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    jax.eval_shape(create),
  )
