"""One train step on every device: `jit` over a mesh, or `pmap`.

Both compute the same function. Under `jit` the compiler splits the step by the
shardings of its arguments, so that means over the batch are global as they
stand; under `pmap` each device runs the step on its share with an axis name.

A checkpoint holds what `jit` trains on, arrays replicated over the mesh, so a
run may change from one to the other.

Dimensions: D devices, K steps a call, U batches a step, S runs, B batch.
"""

from collections.abc import Callable
from typing import Any
from typing import Protocol

import jax
from jax import lax
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from common_flax.compiler import Options
from common_flax.data.batches import Batch

AXIS = 'data'

# (state, batch, root, *, axis_name) -> (state, metrics), on arrays [U, B, ...];
# or the same for several steps and [K, U, B, ...]
Step = Callable[..., tuple[Any, dict[str, jax.Array]]]


def create_mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """A line of devices, by default of all processes, those of each together."""
  devices = devices or jax.devices()
  line = sorted(devices, key=lambda device: (device.process_index, device.id))
  return Mesh(np.asarray(line), (AXIS,), axis_types=(AxisType.Auto,))


def in_one_call(
  step: Step, num_steps: int, *, unroll_on_cpu: bool = True
) -> Step:
  """A function that takes `num_steps` steps, on batches [K, U, B, ...].

  Args:
    step: one step.
    num_steps: K.
    unroll_on_cpu: whether a CPU runs all of them written out one after the
      other, as convolutions need: inside a loop of XLA's they run on a single
      thread. Else it loops over pairs, so that what the second one draws can
      fill the gaps of the first.

  Returns:
    (state, batches, root, *, axis_name) -> (state, metrics), the metrics of the
    last step: the others do not compute what only metrics need.
  """
  on_cpu = jax.default_backend() == 'cpu'
  unroll = (unroll_on_cpu or 2) if on_cpu else 1

  def steps(state, batches, root, *, axis_name=None):
    def take(state, batch):
      return step(state, batch, root, axis_name=axis_name)

    if num_steps > 1:
      state = lax.fori_loop(
        0,
        num_steps - 1,
        lambda i, state: take(state, _part(batches, i))[0],
        state,
        unroll=unroll,
      )
    return take(state, _part(batches, -1))

  return steps


def _part(batches: Batch, index: int | jax.Array) -> Batch:
  return jax.tree.map(lambda x: x[index], batches)


def drawn_globally(
  draw: Callable[[int], jax.Array], num: int, axis_name: str | None
) -> jax.Array:
  """This device's `num` of the rows that `draw` gives for all devices.

  So what is drawn does not depend on how many devices there are.
  """
  if axis_name is None:
    return draw(num)
  rows = draw(num * lax.axis_size(axis_name))
  return lax.dynamic_slice_in_dim(rows, lax.axis_index(axis_name) * num, num)


def mean_over(axis_name: str | None, tree: Any) -> Any:
  """Means over a mapped axis, if there is one."""
  return tree if axis_name is None else lax.pmean(tree, axis_name)


class Parallel(Protocol):
  """A way to run a step on a mesh."""

  num_devices: int  # that it runs on
  state_sharding: NamedSharding  # of the states that checkpoints hold

  def compile(self, step: Step, options: Options | None = None) -> Callable:
    """`step` as (state, batches, root) -> (state, metrics), state donated.

    Args:
      step: several steps, see `in_one_call`.
      options: of the compiler, which `pmap` does not take.
    """

  def rows(self, batch_size: int) -> slice:
    """This process's part of a batch."""

  def put_batches(self, batches: Batch) -> Batch:
    """Brings arrays [K, U, B, ...] to the devices, each its share of B.

    Args:
      batches: of each batch the `rows` of this process.
    """

  def spread(self, state: Any) -> Any:
    """From the arrays of a checkpoint to what the compiled step takes."""

  def gather(self, state: Any) -> Any:
    """Back to the arrays of a checkpoint."""

  def local(self, tree: Any) -> Any:
    """From what the compiled step returns to arrays on one device."""


def _rows(mesh: Mesh, batch_size: int) -> slice:
  """The part of a batch that is split over the devices of this process."""
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


class JitOverMesh:
  """The step under `jax.jit`, split by the compiler."""

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


class JitOverSeeds:
  """Steps of several runs under `jax.jit`, each run on one of the devices.

  States have a leading axis of runs, batches one before B: [K, U, S, B, ...].
  All of it is of one process.
  """

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


class PmapOverMesh:
  """The step under `jax.pmap`, one program a device.

  What it takes and returns has a leading axis of this process's devices.
  """

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
      lambda state, batches, root: step(state, batches, root, axis_name=AXIS),
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


def create(parallelism: str, mesh: Mesh) -> Parallel:
  """'jit' or 'pmap' over a mesh."""
  return {'jit': JitOverMesh, 'pmap': PmapOverMesh}[parallelism](mesh)


def over_seeds(num_seeds: int) -> Parallel:
  """Several runs, as many on each of as many devices as that allows."""
  devices = jax.devices()
  count = max(n for n in range(1, len(devices) + 1) if num_seeds % n == 0)
  return JitOverSeeds(create_mesh(devices[:count]))
