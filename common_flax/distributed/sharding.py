"""One train step on every device: `jit` over a mesh, or `pmap`.

Both compute the same function. Under `jit` the compiler splits the step by the
shardings of its arguments, so means over the batch are global. Under `pmap`
each device runs the step on its share of the batch; the step uses a `BatchAxis`
for means and random draws over the whole batch.

Checkpoints hold arrays replicated over the mesh, as `jit` trains on, so a run
may switch between the two.

Dimensions: K steps per call, U batches per step, S runs, B batch.
"""

from collections.abc import Callable
import dataclasses
from typing import Any
from typing import Protocol

import jax
from jax import lax
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from common_flax.cpu.compiler import Options
from common_flax.data.batches import Batch

AXIS = 'data'

# (state, batch, root) -> (state, metrics), on arrays [U, B, ...]; or the same
# for several steps and [K, U, B, ...]
Step = Callable[..., tuple[Any, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class BatchAxis:
  """The axis that splits a batch over devices.

  Attributes:
    name: name of the axis that `jax.pmap` maps; None if the step sees the whole
      batch.
  """

  name: str | None = None

  def draw(self, draw: Callable[[int], jax.Array], num: int) -> jax.Array:
    """Draws for the whole batch and returns this device's `num` rows.

    The draws do not depend on the number of devices.
    """
    if self.name is None:
      return draw(num)
    rows = draw(self.total(num))
    start = lax.axis_index(self.name) * num
    return lax.dynamic_slice_in_dim(rows, start, num)

  def total(self, num: int) -> int:
    """The rows of the whole batch, of which this device has `num`."""
    return num if self.name is None else num * lax.axis_size(self.name)

  def gather(self, tree: Any) -> Any:
    """The rows of the whole batch, of arrays that hold this device's."""
    if self.name is None:
      return tree
    return lax.all_gather(tree, self.name, tiled=True)

  def mean(self, tree: Any) -> Any:
    """The mean of each array over the shares of the batch."""
    return tree if self.name is None else lax.pmean(tree, self.name)


WHOLE_BATCH = BatchAxis()


def create_mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """A 1-D mesh of devices in process order, by default of all processes."""
  devices = devices or jax.devices()
  line = sorted(devices, key=lambda device: (device.process_index, device.id))
  return Mesh(np.asarray(line), (AXIS,), axis_types=(AxisType.Auto,))


class Parallel(Protocol):
  """A way to run a step on a mesh."""

  axis: BatchAxis  # models and steps are built for it
  num_devices: int  # number of devices in the mesh
  state_sharding: NamedSharding  # sharding of states in checkpoints

  def describe(self) -> str:
    """Describes the devices in a few words."""
    devices = f'{self.num_devices} x {jax.devices()[0].device_kind}'
    if jax.process_count() > 1:
      devices += f' of {jax.process_count()} processes'
    return devices

  def compile(self, step: Step, options: Options | None = None) -> Callable:
    """Compiles (state, batches, root) -> (state, metrics); donates the state.

    Args:
      step: the function to compile, see `loop.chain_steps`.
      options: compiler options, which `pmap` ignores.
    """

  def rows(self, batch_size: int) -> slice:
    """This process's rows of a batch."""

  def put_batches(self, batches: Batch) -> Batch:
    """Puts arrays [K, U, B, ...] on the devices, split along B.

    Args:
      batches: this process's `rows` of each batch.
    """

  def spread(self, state: Any) -> Any:
    """Converts the arrays of a checkpoint to arguments of the compiled step."""

  def gather(self, state: Any) -> Any:
    """Converts a state back to the arrays of a checkpoint."""

  def local(self, tree: Any) -> Any:
    """Converts results of the compiled step to arrays on one device."""


def _rows(mesh: Mesh, batch_size: int) -> slice:
  """The rows of a batch that the devices of this process take."""
  owners = [device.process_index for device in mesh.devices.flat]
  first = owners.index(jax.process_index())
  share = batch_size // mesh.size
  return slice(first * share, (first + len(mesh.local_devices)) * share)


def _put(sharding: NamedSharding, tree: Any) -> Any:
  """Puts this process's parts of arrays on its devices."""
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    tree,
  )


class JitOverMesh(Parallel):
  """The step under `jax.jit`, split by the compiler."""

  axis = WHOLE_BATCH

  def __init__(self, mesh: Mesh):
    self._mesh = mesh
    self.num_devices = mesh.size
    self.state_sharding = NamedSharding(mesh, PartitionSpec())
    self._split = NamedSharding(mesh, PartitionSpec(None, None, AXIS))

  def compile(self, step: Step, options: Options | None = None) -> Callable:
    return jax.jit(
      step,
      donate_argnums=0,
      out_shardings=self.state_sharding,
      compiler_options=options,
    )

  def rows(self, batch_size: int) -> slice:
    return _rows(self._mesh, batch_size)

  def put_batches(self, batches: Batch) -> Batch:
    return _put(self._split, batches)

  def spread(self, state: Any) -> Any:
    return jax.device_put(state, self.state_sharding)

  def gather(self, state: Any) -> Any:
    return state

  def local(self, tree: Any) -> Any:
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


class JitOverSeeds(Parallel):
  """Steps of several runs under `jax.jit`, each run on one of the devices.

  States have a leading axis S; batches are [K, U, S, B, ...]. All runs belong
  to one process.
  """

  axis = WHOLE_BATCH

  def __init__(self, mesh: Mesh):
    self.num_devices = mesh.size
    self.state_sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    self._split = NamedSharding(mesh, PartitionSpec(None, None, AXIS))
    self._replicated = NamedSharding(mesh, PartitionSpec())

  def compile(self, step: Step, options: Options | None = None) -> Callable:
    return jax.jit(
      step,
      donate_argnums=0,
      out_shardings=(self.state_sharding, self._replicated),
      compiler_options=options,
    )

  def rows(self, batch_size: int) -> slice:
    return slice(batch_size)

  def put_batches(self, batches: Batch) -> Batch:
    return jax.device_put(batches, self._split)

  def spread(self, state: Any) -> Any:
    return jax.device_put(state, self.state_sharding)

  def gather(self, state: Any) -> Any:
    return state

  def local(self, tree: Any) -> Any:
    return jax.device_put(tree, jax.devices()[0])


class PmapOverMesh(Parallel):
  """The step under `jax.pmap`, one program per device.

  Arguments and results have a leading axis of this process's devices.
  """

  axis = BatchAxis(AXIS)

  def __init__(self, mesh: Mesh):
    self._mesh = mesh
    self.num_devices = mesh.size
    self.state_sharding = NamedSharding(mesh, PartitionSpec())
    self._devices = list(mesh.devices.flat)
    self._num_local = len(mesh.local_devices)
    local = create_mesh(list(mesh.local_devices))
    self._split = NamedSharding(local, PartitionSpec(AXIS))

  def compile(self, step: Step, options: Options | None = None) -> Callable:
    del options
    return jax.pmap(
      step,
      axis_name=AXIS,
      in_axes=(0, 0, None),
      devices=self._devices,
      donate_argnums=0,
    )

  def rows(self, batch_size: int) -> slice:
    return _rows(self._mesh, batch_size)

  def put_batches(self, batches: Batch) -> Batch:
    def share(x):
      calls, updates, _, *rest = x.shape
      shares = x.reshape(calls, updates, self._num_local, -1, *rest)
      return jax.device_put(np.moveaxis(shares, 2, 0), self._split)

    return jax.tree.map(share, batches)

  def spread(self, state: Any) -> Any:
    def stack(x):
      one = x.addressable_data(0) if isinstance(x, jax.Array) else x
      copies = np.broadcast_to(one, (self._num_local, *x.shape))
      return jax.device_put(copies, self._split)

    return jax.tree.map(stack, state)

  def gather(self, state: Any) -> Any:
    return _put(self.state_sharding, self.local(state))

  def local(self, tree: Any) -> Any:
    return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)


def create(parallelism: str, num_seeds: int = 1) -> Parallel:
  """Chooses how to train on all devices.

  Args:
    parallelism: 'jit' or 'pmap'.
    num_seeds: number of runs trained at once. Several runs take the largest
      number of devices that divides them evenly, each run on one device.
  """
  if num_seeds == 1:
    kinds = {'jit': JitOverMesh, 'pmap': PmapOverMesh}
    return kinds[parallelism](create_mesh())
  devices = jax.devices()
  num = max(n for n in range(1, len(devices) + 1) if num_seeds % n == 0)
  return JitOverSeeds(create_mesh(devices[:num]))
