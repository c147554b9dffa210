"""Reads PyTorch weight files without PyTorch, and without executing their code.

A weight file is a pickle, and a pickle can call any function. This unpickler
resolves only the names that PyTorch uses for dictionaries and tensors, and
resolves them to records of this module that say where a tensor's numbers are in
the file. Arrays are then created from the records, with their bounds checked,
so memory use is bounded by a multiple of the file's size.

Both formats are supported: the ZIP archive of PyTorch 1.6 and later, and the
older sequence of pickles followed by the numbers, in which the published
weights of InceptionV3 are stored.
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

from common_flax.errors import UserError

# Dtypes by PyTorch's names of typed storages.
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
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # first pickle of the older format
_PROTOCOL_VERSION = 1001  # second pickle
_COUNT_BYTES = 8  # size of the count before each storage, older format

_Parts = Mapping[str, memoryview]  # the bytes of each storage, by key


class _Storage(NamedTuple):
  """A flat array of numbers; its key locates it in the file."""

  dtype: str
  key: str
  num: int

  @property
  def num_bytes(self) -> int:
    return self.num * np.dtype(self.dtype).itemsize


class _Tensor(NamedTuple):
  """A strided view of a storage; offset and strides are in elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Dict(dict):
  """A dictionary that discards the attributes PyTorch sets on it."""

  __slots__ = ()

  def __setstate__(self, state: Any) -> None:
    pass


class _Function:
  """A function that a pickle may call but not modify."""

  __slots__ = ('_call',)

  def __init__(self, call: Callable):
    self._call = call

  def __call__(self, *args: Any) -> Any:
    return self._call(*args)


class _RefusedError(Exception):
  """The file is not supported; the message says why."""


class _Unpickler(pickle.Unpickler):
  """Resolves only the names that weight files need."""

  def __init__(self, content: io.BytesIO):
    super().__init__(content)
    self.storages: dict[str, _Storage] = {}  # all that were referenced

  def find_class(self, module: str, name: str) -> Any:
    full_name = f'{module}.{name}'
    if full_name == 'collections.OrderedDict':
      # Ignores arguments, so repeated copies of a list cannot exhaust memory.
      return _Function(lambda: _Dict())  # noqa: PLW0108
    if full_name == 'torch._utils._rebuild_tensor_v2':
      return _Function(lambda *args: _Tensor(*args[:4]))
    if full_name == 'torch._utils._rebuild_parameter':
      return _Function(lambda *args: args[0])
    if module == 'torch' and name in _DTYPES:
      return _DTYPES[name]
    raise _RefusedError(f'it asks for {full_name!r}, which is not allowed')

  def persistent_load(self, pid: Any) -> _Storage:
    kind, dtype, key, _, num, *view = pid
    # In the older format a storage may be a view of another one.
    if kind != 'storage' or view not in ([], [None]):
      raise _RefusedError('its storage type is not known')
    if dtype not in _DTYPES.values() or not isinstance(num, int):
      raise ValueError(pid)
    return self.storages.setdefault(key, _Storage(dtype, key, num))


def _unpickled(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
  """The next pickle of a stream, and the storages it references."""
  start = stream.tell()
  for i, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
    # The unpickler allocates a memo as long as the largest index.
    if opcode.name in ('PUT', 'LONG_BINPUT') and arg > i:
      raise ValueError(opcode.name)
  content = io.BytesIO(stream.getbuffer()[start : stream.tell()])
  unpickler = _Unpickler(content)
  return unpickler.load(), unpickler.storages


def _read_archive(data: bytes) -> tuple[Any, _Parts]:
  """The content of a ZIP archive, and the bytes of its storages."""
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    if sum(info.file_size for info in archive.infolist()) > len(data):
      raise _RefusedError('it is compressed, and torch.save never compresses')
    entries = {
      # All entries are in one folder of arbitrary name.
      info.filename.partition('/')[2]: memoryview(archive.read(info))
      for info in archive.infolist()
    }
  if entries.get('byteorder', b'little') != b'little':
    raise _RefusedError('its numbers are big-endian')
  content, storages = _unpickled(io.BytesIO(entries['data.pkl']))
  return content, {key: entries[f'data/{key}'] for key in storages}


def _read_older(data: bytes) -> tuple[Any, _Parts]:
  """The content of a file in the older format, and its storages' bytes."""
  stream = io.BytesIO(data)
  if _unpickled(stream)[0] != _MAGIC_NUMBER:
    raise _RefusedError('it does not begin with the magic number')
  if _unpickled(stream)[0] != _PROTOCOL_VERSION:
    raise _RefusedError('its protocol version is not known')
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
  """A view of a tensor's numbers in the file."""
  storage, offset, shape, strides = tensor
  part = parts[storage.key]
  if len(part) != storage.num_bytes or math.prod(shape) > storage.num:
    raise ValueError(tensor)
  size = np.dtype(storage.dtype).itemsize
  # NumPy checks that the view stays within the buffer.
  return np.ndarray(
    shape, storage.dtype, part, offset * size, [size * x for x in strides]
  )


def _arrays(content: Any, parts: _Parts) -> dict[str, np.ndarray]:
  if not isinstance(content, dict):
    raise _RefusedError('it is not a dictionary of tensors by name')
  for name, tensor in content.items():
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
      raise _RefusedError(f'its entry {name!r:.80} is not a tensor')
  return {name: _array(tensor, parts) for name, tensor in content.items()}


def parse(data: bytes, name: str) -> dict[str, np.ndarray]:
  """Parses a weight file.

  Args:
    data: the whole file.
    name: of the file, for error messages.

  Returns:
    Arrays by PyTorch's names, in the order of the file. They are read-only and
    may be non-contiguous.

  Raises:
    UserError: if it is not a PyTorch weight file, is damaged, or contains
      anything but a dictionary of tensors.
  """
  read_content = _read_archive if data[:2] == b'PK' else _read_older
  try:
    return _arrays(*read_content(data))
  except _RefusedError as error:
    why = str(error)
  except Exception as error:  # damaged files raise almost any exception
    why = f'it is damaged: {type(error).__name__}'
  raise UserError(
    f'{name}: not a readable PyTorch weight file: {why}; pass a state_dict '
    'saved by torch.save'
  )


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Reads and parses a weight file, see `parse`.

  Raises:
    UserError: if the file cannot be read or parsed.
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror})') from None
  return parse(data, str(path))
