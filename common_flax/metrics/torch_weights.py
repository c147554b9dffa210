"""Reads the tensors of a file that PyTorch saved, without running its code.

Such a file is a pickle, which may call any function it names. Here it can name
none but the few that describe tensors, and gets our own in their place: what it
asks for is looked at, never run. Both of PyTorch's formats are read, the zip
archive of version 1.6 and later, and the older one of pickles one after the
other with the numbers behind them.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import io
import math
import pathlib
import pickle
from typing import Any
import zipfile

import numpy as np

_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
  'DoubleStorage': np.dtype('<f8'),
  'FloatStorage': np.dtype('<f4'),
  'HalfStorage': np.dtype('<f2'),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ShortStorage': np.dtype('<i2'),
  'CharStorage': np.dtype('i1'),
  'ByteStorage': np.dtype('u1'),
  'BoolStorage': np.dtype('?'),
}


class WeightsError(ValueError):
  """A file is not one of PyTorch's, is damaged, or asks for more than tensors.

  The message is one line that does not name the file.
  """


@dataclasses.dataclass(frozen=True)
class _Storage:
  """Numbers that tensors are views of, by the name they have in the file."""

  key: str
  dtype: np.dtype
  num: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A view of a storage; sizes in numbers."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a state dict, by name.

  Args:
    path: of a file that `torch.save` wrote of a dictionary of tensors.

  Raises:
    WeightsError: if it is none such, or not whole.
    OSError: if it cannot be read.
  """
  data = path.read_bytes()
  try:
    if zipfile.is_zipfile(io.BytesIO(data)):
      tensors, numbers = _read_zip(data)
    else:
      tensors, numbers = _read_old(data)
    return {
      name: _view(tensor, numbers)
      for name, tensor in tensors.items()
      if isinstance(tensor, _Tensor)
    }
  except WeightsError:
    raise
  except Exception as error:  # a damaged pickle fails in any way there is
    raise WeightsError(
      f'is no file of weights that PyTorch saved, or is damaged ({error!r})'
    ) from error


class _Unpickler(pickle.Unpickler):
  """Knows nothing but what describes tensors."""

  def __init__(self, file: io.BytesIO):
    super().__init__(file)
    self.storages: dict[str, _Storage] = {}  # that were named, by key

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return _Dictionary
    if (module, name) in _FUNCTIONS:
      return _FUNCTIONS[module, name]
    if module == 'torch' and name in _DTYPES:
      return _DTYPES[name]
    raise WeightsError(
      f'asks for {module}.{name}, which no file of weights needs'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    kind, dtype, key, _, num, *_ = pid
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise WeightsError('has a storage of an unknown type')
    storage = _Storage(str(key), dtype, int(num))
    return self.storages.setdefault(storage.key, storage)


class _Dictionary(dict):
  """Takes and forgets the attributes that a state dict's dictionary has."""

  def __setstate__(self, state: Any) -> None:
    del state


def _rebuild(
  storage: _Storage,
  offset: int,
  shape: tuple[int, ...],
  strides: tuple[int, ...],
  *unused: Any,
) -> _Tensor:
  return _Tensor(storage, int(offset), tuple(shape), tuple(strides))


_FUNCTIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
  ('torch._utils', '_rebuild_tensor_v2'): _rebuild,
  ('torch._utils', '_rebuild_parameter'): lambda tensor, *unused: tensor,
}


def _state_dict(value: Any) -> dict[str, _Tensor]:
  if not isinstance(value, dict):
    raise WeightsError('holds no dictionary of tensors')
  return value


def _read_zip(
  data: bytes,
) -> tuple[dict[str, _Tensor], Callable[[_Storage], bytes]]:
  archive = zipfile.ZipFile(io.BytesIO(data))
  (pickled,) = (n for n in archive.namelist() if n.endswith('/data.pkl'))
  folder = pickled.removesuffix('data.pkl')
  tensors = _state_dict(_Unpickler(io.BytesIO(archive.read(pickled))).load())
  return tensors, lambda storage: archive.read(f'{folder}data/{storage.key}')


def _read_old(
  data: bytes,
) -> tuple[dict[str, _Tensor], Callable[[_Storage], bytes]]:
  file = io.BytesIO(data)
  if _Unpickler(file).load() != _OLD_MAGIC:
    raise WeightsError('is no file of weights that PyTorch saved')
  for _ in ('version', 'system'):
    _Unpickler(file).load()
  unpickler = _Unpickler(file)
  tensors = _state_dict(unpickler.load())
  numbers = {}
  for key in _Unpickler(file).load():
    num = int.from_bytes(file.read(8), 'little')
    storage = unpickler.storages[str(key)]
    if num != storage.num:
      raise WeightsError('is damaged: a storage has another size')
    numbers[storage.key] = file.read(num * storage.dtype.itemsize)
  return tensors, lambda storage: numbers[storage.key]


def _view(tensor: _Tensor, numbers: Callable[[_Storage], bytes]) -> np.ndarray:
  """The tensor's numbers, a copy.

  Raises:
    WeightsError: if it reaches beyond its storage.
  """
  storage = tensor.storage
  array = np.frombuffer(numbers(storage), storage.dtype)
  sizes = (*tensor.shape, *tensor.strides, tensor.offset)
  if len(tensor.shape) != len(tensor.strides) or min(sizes) < 0:
    raise WeightsError('is damaged: a tensor has an impossible shape')
  last = tensor.offset + sum(
    (size - 1) * stride
    for size, stride in zip(tensor.shape, tensor.strides, strict=True)
  )
  is_empty = math.prod(tensor.shape) == 0
  # No more numbers than there are: strides of 0 could ask for any amount.
  if not is_empty and max(last + 1, math.prod(tensor.shape)) > len(array):
    raise WeightsError('is damaged: a tensor reaches beyond its numbers')
  view = np.lib.stride_tricks.as_strided(
    array[tensor.offset :],
    tensor.shape,
    [stride * storage.dtype.itemsize for stride in tensor.strides],
    writeable=False,
  )
  return view.copy()
