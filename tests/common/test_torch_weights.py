"""PyTorch's files, made by hand: nothing that they hold is run."""

import io
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest

from common_flax.metrics import torch_weights
from common_flax.metrics.torch_weights import WeightsError

NUMBERS = np.arange(6, dtype='<f4')


class Named:
  """Pickles as a call of what has this name."""

  def __init__(self, module, name, *arguments):
    self.module, self.name, self.arguments = module, name, arguments


class Storage:
  """Pickles as a reference to numbers outside of the pickle."""

  def __init__(self, key, num, dtype='FloatStorage'):
    self.pid = ('storage', Class('torch', dtype), key, 'cpu', num)


class Class:
  """Pickles as the name of a class."""

  def __init__(self, module, name):
    self.module, self.name = module, name


class Pickler(pickle._Pickler):
  """Writes what names things that need not exist here."""

  def persistent_id(self, obj):
    return obj.pid if isinstance(obj, Storage) else None

  def save(self, obj, save_persistent_id=True):
    if isinstance(obj, Class):
      self.write(f'c{obj.module}\n{obj.name}\n'.encode())
    elif isinstance(obj, Named):
      self.save(Class(obj.module, obj.name))
      self.save(obj.arguments)
      self.write(pickle.REDUCE)
    else:
      super().save(obj, save_persistent_id)


def pickled(value):
  file = io.BytesIO()
  Pickler(file, protocol=2).dump(value)
  return file.getvalue()


def tensor(offset=0, shape=(2, 3), strides=(3, 1), num=6):
  return Named(
    'torch._utils',
    '_rebuild_tensor_v2',
    Storage('0', num),
    offset,
    shape,
    strides,
    False,
    {},
  )


def write_zip(path, value, numbers=NUMBERS):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', pickled(value))
    archive.writestr('archive/data/0', numbers.tobytes())


def write_old(path, value, numbers=NUMBERS):
  head = [0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}]
  parts = [pickled(x) for x in (*head, value, ['0'])]
  path.write_bytes(
    b''.join(parts) + struct.pack('<q', len(numbers)) + numbers.tobytes()
  )


WRITERS = pytest.mark.parametrize('write', [write_zip, write_old])


@WRITERS
def test_tensors_are_read(tmp_path, write):
  write(
    tmp_path / 'w.pth',
    {
      'whole': tensor(),
      'turned': tensor(shape=(3, 2), strides=(1, 3)),
      'part': tensor(offset=4, shape=(2,), strides=(1,)),
      'epoch': 7,
    },
  )
  found = torch_weights.read(tmp_path / 'w.pth')
  assert set(found) == {'whole', 'turned', 'part'}
  np.testing.assert_array_equal(found['whole'], NUMBERS.reshape(2, 3))
  np.testing.assert_array_equal(found['turned'], NUMBERS.reshape(2, 3).T)
  np.testing.assert_array_equal(found['part'], [4, 5])


@WRITERS
@pytest.mark.parametrize(
  ('module', 'name', 'arguments'),
  [
    ('builtins', 'eval', ("__import__('pathlib').Path(PATH).touch()",)),
    ('os', 'system', ('touch PATH',)),
    ('torch', 'load', ('PATH',)),
  ],
)
def test_code_is_refused_and_not_run(tmp_path, write, module, name, arguments):
  proof = tmp_path / 'proof'
  arguments = [x.replace('PATH', str(proof)) for x in arguments]
  write(tmp_path / 'w.pth', {'w': Named(module, name, *arguments)})
  with pytest.raises(WeightsError, match=rf'asks for {module}\.{name}'):
    torch_weights.read(tmp_path / 'w.pth')
  assert not proof.exists()


@WRITERS
@pytest.mark.parametrize(
  'bad',
  [
    tensor(offset=1),
    tensor(shape=(3, 3)),
    tensor(shape=(10**9, 10**9), strides=(0, 0)),
    tensor(strides=(3, -1)),
    tensor(shape=(2,)),
  ],
  ids=['offset', 'shape', 'absurd', 'backwards', 'strides'],
)
def test_a_tensor_stays_within_its_numbers(tmp_path, write, bad):
  write(tmp_path / 'w.pth', {'w': bad})
  with pytest.raises(WeightsError, match='damaged'):
    torch_weights.read(tmp_path / 'w.pth')


@WRITERS
@pytest.mark.parametrize('share', [0.0, 0.3, 0.7, 0.95])
def test_a_file_that_was_cut_off_is_refused(tmp_path, write, share):
  path = tmp_path / 'w.pth'
  write(path, {'w': tensor()})
  data = path.read_bytes()
  path.write_bytes(data[: int(share * len(data))])
  with pytest.raises(WeightsError):
    torch_weights.read(path)


@WRITERS
def test_something_else_than_tensors_is_refused(tmp_path, write):
  write(tmp_path / 'w.pth', [1, 2])
  with pytest.raises(WeightsError, match='no dictionary'):
    torch_weights.read(tmp_path / 'w.pth')


def test_any_other_file_is_refused(tmp_path):
  path = tmp_path / 'w.pth'
  path.write_bytes(pathlib.Path(__file__).read_bytes())
  with pytest.raises(WeightsError, match='PyTorch'):
    torch_weights.read(path)
