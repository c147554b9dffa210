"""Damage of checkpoints: checksums by which it is seen, and words for it.

The file formats of a checkpoint find files that are missing or cut short, but
not every changed bit: one in an array would be read as another number. So the
`info` of a checkpoint keeps a checksum of each array, and one of itself.

Each array is folded by exclusive or, along the rows and along the columns of a
table, and the folds are summed by CRC-32. A changed bit changes one bit of
each fold, and CRC-32 finds every change of one or two bits. Other damage is
missed once in 2^32, or where it cancels in both folds. CRC-32 of the whole
array, which older checkpoints have, takes several times as long, and a
cryptographic hash of Python's standard library longer than reading the array.
"""

from collections.abc import Callable
from collections.abc import Mapping
import json
import os
import re
from typing import Any
import zlib

import jax
import numpy as np

CHECKSUM = 'checksum'  # of everything else in `info`
CHECKSUMS = 'checksums'  # of the arrays: item -> path in the item -> checksum
_FOLDED = 'xor-'  # in checksums of folded arrays
_ROW_BYTES = 8192  # of the table that is folded


class DamagedError(ValueError):
  """What a checkpoint holds is not what was saved."""


def of_items(
  items: Mapping[str, Any],
) -> Callable[[], dict[str, dict[str, str]]]:
  """Prepares the checksums of pytrees of arrays.

  Args:
    items: pytrees by name. Their arrays may be donated once this returns.

  Returns:
    A function for another thread: the checksums by item and path. An array of
    which this process has only a part gets none.
  """
  arrays = {
    (name, jax.tree_util.keystr(path)): leaf
    for name, tree in items.items()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    if _is_whole(leaf)
  }
  # Items share arrays; each is fetched from its device once. On a CPU nothing
  # is copied: JAX keeps a donated buffer as long as NumPy sees it.
  unique = {id(leaf): leaf for leaf in arrays.values()}
  on_host = dict(
    zip(unique, jax.device_get(list(unique.values())), strict=True)
  )

  def checksums() -> dict[str, dict[str, str]]:
    known = {key: of_array(array) for key, array in on_host.items()}
    result = {name: {} for name in items}
    for (name, path), leaf in arrays.items():
      result[name][path] = known[id(leaf)]
    return result

  return checksums


def _is_whole(leaf: Any) -> bool:
  """Whether this process can read the whole array."""
  return (
    not isinstance(leaf, jax.Array)
    or leaf.is_fully_addressable
    or leaf.is_fully_replicated
  )


def of_array(array: np.ndarray, *, is_folded: bool = True) -> str:
  """An array's type, and the checksum of its shape and elements.

  Args:
    array: of any type and shape.
    is_folded: whether the elements are folded first. Those of older
      checkpoints are not.
  """
  array = np.asarray(array)
  checksum = zlib.crc32(str(array.shape).encode())
  data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
  for part in _folds(data) if is_folded else (data,):
    checksum = zlib.crc32(part, checksum)
  return f'{array.dtype.name} {_FOLDED if is_folded else ""}{checksum:08x}'


def _folds(data: np.ndarray) -> tuple[np.ndarray, ...]:
  """Folds bytes, and leaves those that fill no row of the table as they are."""
  num_whole = data.size // _ROW_BYTES * _ROW_BYTES
  table = data[:num_whole].view(np.uint64).reshape(-1, _ROW_BYTES // 8)
  xor = np.bitwise_xor.reduce
  return xor(table, axis=0), xor(table, axis=1), data[num_whole:]


def check_arrays(item: Any, expected: Mapping[str, str]) -> None:
  """Compares restored arrays with their checksums.

  An array that is restored as another type than was saved has other bits, and
  is not compared.

  Args:
    item: pytree of arrays.
    expected: checksums by path.

  Raises:
    DamagedError: naming the first array that differs.
  """
  leaves = jax.tree_util.tree_leaves_with_path(item)
  whole = [(path, leaf) for path, leaf in leaves if _is_whole(leaf)]
  values = jax.device_get([leaf for _, leaf in whole])
  for (path, _), value in zip(whole, values, strict=True):
    name = jax.tree_util.keystr(path)
    saved = expected.get(name, '')
    is_older = f' {_FOLDED}' not in saved
    restored = of_array(value, is_folded=not is_older)
    is_same_type = saved.partition(' ')[0] in ('', restored.partition(' ')[0])
    if is_same_type and saved != restored:
      raise DamagedError(f'the array {name} is not what was saved')


def sealed(info: Mapping[str, Any]) -> dict[str, Any]:
  """Adds a checksum of `info` itself, a JSON object."""
  return {**info, CHECKSUM: _of_json(info)}


def unsealed(info: Mapping[str, Any]) -> dict[str, Any]:
  """Checks and removes the checksum that `sealed` added.

  Older checkpoints have no checksums.

  Raises:
    DamagedError: if the checksum is wrong, or missing beside others.
  """
  content = {name: value for name, value in info.items() if name != CHECKSUM}
  is_older = CHECKSUM not in info and CHECKSUMS not in info
  if not is_older and info.get(CHECKSUM) != _of_json(content):
    raise DamagedError('its info is not what was saved')
  return content


def _of_json(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return f'{zlib.crc32(text.encode()):08x}'


def why_unreadable(error: Exception) -> str:
  """A short reason why a checkpoint cannot be read, in the user's words."""
  text = ' '.join(str(error).split()) or repr(error)
  text = text.partition(' See full TensorStore details')[0]  # those of C++
  number = re.search(r"os_error_code='(\d+)'", text)  # by TensorStore
  if isinstance(error, FileNotFoundError) or 'NOT_FOUND' in text:
    return 'a file in it is missing'
  if number:
    return os.strerror(int(number[1]))
  # C++ refuses absurd sizes by the names of its methods.
  is_damaged = 'DATA_LOSS' in text or re.search(r'std::|\b_M_|::\w+', text)
  if is_damaged or isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
    return 'a file in it is damaged'
  if isinstance(error, LookupError | TypeError | AttributeError):
    return f'its description is damaged: {error!r}'
  return text
