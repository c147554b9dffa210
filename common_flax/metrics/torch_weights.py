"""Weight files of PyTorch, read without PyTorch and without running anything.

A weight file is a pickle, and a pickle can call any function there is. Here it
can only ask for a dictionary and for tensors, by the names that PyTorch has for
them, and what it gets is this module's own: notes of where numbers lie. Arrays
are made of the notes afterwards, within the bounds of the file, so that no file
asks for more memory than a multiple of its own size.

Both formats are known: the ZIP archive that PyTorch 1.6 and later write, and
the one before, a row of pickles and then the numbers. The published weights of
InceptionV3 are of that time.
"""

from collections.abc import Callable
from collections.abc import Mapping
import io
import math
import pathlib
import pickle
import pickletools
from typing import Any
from typing import NamedTuple
import zipfile

import numpy as np

from common_flax.config import UserError

# Kinds of numbers, by PyTorch's names for a row of them.
_DTYPES = {
  'HalfStorage': '<f2',
  'FloatStorage': '<f4',
  'DoubleStorage': '<f8',
  'BoolStorage': '?',
  'ByteStorage': 'u1',
  'CharStorage': 'i1',
  'ShortStorage': '<i2',
  'IntStorage': '<i4',
  'LongStorage': '<i8',
}
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
_PROTOCOL_VERSION = 1001  # the second
_COUNT_BYTES = 8  # before each storage, in the older format

_Parts = Mapping[str, memoryview]  # the bytes of each storage, by key


class _Storage(NamedTuple):
  """A row of numbers, to be found in the file by its key."""

  dtype: str
  key: str
  num: int

  @property
  def num_bytes(self) -> int:
    return self.num * np.dtype(self.dtype).itemsize


class _Tensor(NamedTuple):
  """Some of a storage's numbers; offset and strides count numbers."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Dict(dict):
  """A dictionary without attributes, which PyTorch's has some of."""

  __slots__ = ()

  def __setstate__(self, state: Any) -> None:
    pass


class _Function:
  """What a pickle may call; it cannot set attributes of it."""

  __slots__ = ('_call',)

  def __init__(self, call: Callable):
    self._call = call

  def __call__(self, *args: Any) -> Any:
    return self._call(*args)


class _RefusedError(Exception):
  """The file is not what this module reads; the message says why."""


class _Unpickler(pickle.Unpickler):
  """Knows the few names that weights need, and no others."""

  def __init__(self, content: io.BytesIO):
    super().__init__(content)
    self.storages: dict[str, _Storage] = {}  # that were asked for

  def find_class(self, module: str, name: str) -> Any:
    full_name = f'{module}.{name}'
    if full_name == 'collections.OrderedDict':
      # Without arguments: copies of a long list would take more and more room.
      return _Function(lambda: _Dict())  # noqa: PLW0108
    if full_name == 'torch._utils._rebuild_tensor_v2':
      return _Function(lambda *args: _Tensor(*args[:4]))
    if full_name == 'torch._utils._rebuild_parameter':
      return _Function(lambda *args: args[0])
    if module == 'torch' and name in _DTYPES:
      return _DTYPES[name]
    raise _RefusedError(f'it asks for {full_name!r}, which weights do without')

  def persistent_load(self, pid: Any) -> _Storage:
    kind, dtype, key, _, num, *view = pid
    # In the older format a storage could be a part of another one.
    if kind != 'storage' or view not in ([], [None]):
      raise _RefusedError('it has numbers of a kind that is not known')
    if dtype not in _DTYPES.values() or not isinstance(num, int):
      raise ValueError(pid)
    return self.storages.setdefault(key, _Storage(dtype, key, num))


def _unpickled(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
  """The next pickle of a stream, and the storages that it speaks of."""
  start = stream.tell()
  for i, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
    # The unpickler makes room for as many objects as the largest number says.
    if opcode.name in ('PUT', 'LONG_BINPUT') and arg > i:
      raise ValueError(opcode.name)
  content = io.BytesIO(stream.getbuffer()[start : stream.tell()])
  unpickler = _Unpickler(content)
  return unpickler.load(), unpickler.storages


def _read_archive(data: bytes) -> tuple[Any, _Parts]:
  """The content of an archive."""
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    if sum(info.file_size for info in archive.infolist()) > len(data):
      raise _RefusedError('it is compressed, which PyTorch does not do')
    entries = {
      # All of them are in one folder, whose name is anything.
      info.filename.partition('/')[2]: memoryview(archive.read(info))
      for info in archive.infolist()
    }
  if entries.get('byteorder', b'little') != b'little':
    raise _RefusedError('its numbers are big-endian')
  content, storages = _unpickled(io.BytesIO(entries['data.pkl']))
  return content, {key: entries[f'data/{key}'] for key in storages}


def _read_older(data: bytes) -> tuple[Any, _Parts]:
  """The content of a file of the older format."""
  stream = io.BytesIO(data)
  if _unpickled(stream)[0] != _MAGIC_NUMBER:
    raise _RefusedError('it begins otherwise')
  if _unpickled(stream)[0] != _PROTOCOL_VERSION:
    raise _RefusedError('its version is not known')
  if not _unpickled(stream)[0]['little_endian']:
    raise _RefusedError('its numbers are big-endian')
  content, storages = _unpickled(stream)
  keys, _ = _unpickled(stream)
  parts = {}
  place = stream.tell()
  for key in keys:
    count = int.from_bytes(data[place : place + _COUNT_BYTES], 'little')
    if count != storages[key].num:
      raise ValueError(key)
    place += _COUNT_BYTES
    parts[key] = memoryview(data)[place : place + storages[key].num_bytes]
    place += storages[key].num_bytes
  return content, parts


def _array(tensor: _Tensor, parts: _Parts) -> np.ndarray:
  """The numbers of a tensor, as they lie in the file."""
  storage, offset, shape, strides = tensor
  part = parts[storage.key]
  if len(part) != storage.num_bytes or math.prod(shape) > storage.num:
    raise ValueError(tensor)
  size = np.dtype(storage.dtype).itemsize
  # NumPy checks that no number lies outside of the part.
  return np.ndarray(
    shape, storage.dtype, part, offset * size, [size * x for x in strides]
  )


def _arrays(content: Any, parts: _Parts) -> dict[str, np.ndarray]:
  if not isinstance(content, dict):
    raise _RefusedError('it has no table of tensors by name')
  for name, tensor in content.items():
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
      raise _RefusedError(f'its entry {name!r:.80} is not a tensor')
  return {name: _array(tensor, parts) for name, tensor in content.items()}


def parse(data: bytes, name: str) -> dict[str, np.ndarray]:
  """The tensors of a weight file.

  Args:
    data: the whole file.
    name: of the file, for messages.

  Returns:
    Arrays by PyTorch's names, in the order of the file. They cannot be written
    to, and need not be contiguous.

  Raises:
    UserError: if it is no weight file of PyTorch, is damaged, or has anything
      but tensors by name in it.
  """
  read_content = _read_archive if data[:2] == b'PK' else _read_older
  try:
    return _arrays(*read_content(data))
  except _RefusedError as error:
    why = str(error)
  except Exception as error:  # what is damaged raises almost anything
    why = f'it is damaged: {type(error).__name__}'
  raise UserError(
    f'{name}: not weights of PyTorch that can be read: {why}; give a file that '
    'torch.save made of a state_dict'
  )


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a weight file on the disk, see `parse`.

  Raises:
    UserError: as of `parse`, or if there is no such file.
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror})') from None
  return parse(data, str(path))
