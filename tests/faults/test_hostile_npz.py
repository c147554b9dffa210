"""Hostile .npz files are refused in one line; none of their code is run."""

import io
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from common_flax import compare

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), np.uint8)


class Trap:
  """An object that writes a file when it is unpickled."""

  def __reduce__(self):
    return (pathlib.Path.touch, (pathlib.Path('trapped'),))


def npz(**arrays):
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  return buffer.getvalue()


def claiming(shape, descr='|u1', content=b'\0' * 100, **options):
  """An .npz whose array header claims a shape."""
  member = io.BytesIO()
  header = {'descr': descr, 'fortran_order': False, 'shape': shape}
  np.lib.format.write_array_header_1_0(member, header)
  return zipped(member.getvalue() + content, **options)


def zipped(member, name='images.npy', compression=zipfile.ZIP_STORED):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', compression) as archive:
    archive.writestr(name, member)
  return buffer.getvalue()


def claiming_size(size):
  """An .npz whose directory claims a large member."""
  data = bytearray(claiming((10**11,)))
  place = data.rindex(b'PK\x01\x02')
  data[place + 24 : place + 28] = size.to_bytes(4, 'little')
  return bytes(data)


def of_bad_method():
  data = bytearray(npz(images=IMAGES))
  for mark, offset in ((b'PK\x03\x04', 8), (b'PK\x01\x02', 10)):
    data[data.index(mark) + offset] = 99
  return bytes(data)


def encrypted():
  data = bytearray(npz(images=IMAGES))
  for mark, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
    data[data.index(mark) + offset] |= 1
  return bytes(data)


def npy(array):
  buffer = io.BytesIO()
  np.save(buffer, array)
  return buffer.getvalue()


FILES = {
  'empty': b'',
  'random bytes': np.random.default_rng(0).bytes(3000),
  'a pickle': pickle.dumps(Trap()),
  'an npy': npy(IMAGES),
  'an array of objects': npz(images=np.array([Trap()] * 4, object)),
  'labels of objects': npz(
    images=IMAGES, labels=np.array([Trap()] * 4, object)
  ),
  'a pickle as member': zipped(pickle.dumps(Trap())),
  'a trillion images': claiming((10**6, 10**6)),
  'more than there are numbers': claiming((2**62, 2**62)),
  'a shape below zero': claiming((-1, 6, 6, 3)),
  'a large item': claiming((4,), f'|V{2**30}'),
  'a large directory': claiming_size(2**32 - 2),
  'a bomb': claiming(
    (10**12,),
    content=bytes(2**24),
    compression=zipfile.ZIP_DEFLATED,
  ),
  'a header that is code': zipped(
    b'\x93NUMPY\x01\x00\x30\x00'
    + b'__import__("pathlib").Path("trapped").touch()'.ljust(48)
  ),
  'a header of brackets': zipped(b'\x93NUMPY\x01\x00\x00\x20' + b'(' * 8192),
  'another version': zipped(b'\x93NUMPY\x09\x00' + bytes(100)),
  'a bad method': of_bad_method(),
  'encrypted': encrypted(),
  'no images': npz(pictures=IMAGES, drawings=IMAGES),
  'splits': npz(x_train=IMAGES, x_test=IMAGES),
  'no arrays': zipped(b'', 'readme.txt'),
  'floats': npz(images=IMAGES / 2),
  'NaN': npz(images=np.full(IMAGES.shape, np.nan)),
  'strings': npz(images=np.array(['x'] * 4)),
  'records': npz(images=np.zeros(4, [('a', 'u1')])),
  'dates': npz(images=np.zeros((4, 6, 6, 3), 'datetime64[s]')),
  'a number': npz(images=np.uint8(3)),
  'no image': npz(images=IMAGES[:0]),
  'five axes': npz(images=IMAGES[None]),
  'four channels': npz(images=np.zeros((4, 6, 6, 4), np.uint8)),
  'few labels': npz(images=IMAGES, labels=np.arange(3)),
  'labels below zero': npz(images=IMAGES, labels=np.arange(4) - 1),
  'labels of floats': npz(images=IMAGES, labels=np.arange(4) / 2),
  'huge labels': npz(images=IMAGES, labels=np.full(4, 2**60)),
}
FILES |= {
  f'cut at {share} %': npz(images=IMAGES)[
    : len(npz(images=IMAGES)) * share // 100
  ]
  for share in range(10, 100, 10)
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
  """Compares images, by default good ones; returns the error."""
  monkeypatch.chdir(tmp_path)
  good = tmp_path / 'good.npz'
  good.write_bytes(npz(images=IMAGES))

  def run(first=good, second=good, *arguments):
    before = sorted(tmp_path.rglob('*'))
    status = compare.main(
      ['command', str(first), str(second), '--metrics=fid', *arguments]
    )
    error = capfd.readouterr().err
    assert status == 2
    assert error.startswith('error: ')
    assert error[:-1].isprintable()
    assert sorted(tmp_path.rglob('*')) == before
    return error

  return run


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_holds_no_images_is_named(refused, tmp_path, name):
  (tmp_path / 'odd.npz').write_bytes(FILES[name])
  assert 'odd.npz' in refused(tmp_path / 'odd.npz')
  assert 'odd.npz' in refused(second=tmp_path / 'odd.npz')


@pytest.mark.parametrize(
  'name', ['a trillion images', 'a bomb', 'a large item']
)
def test_memory_is_not_allocated_for_missing_bytes(
  refused, tmp_path, monkeypatch, name
):
  def read_array(*unused_arguments, **unused_options):
    raise AssertionError('memory is allocated')

  monkeypatch.setattr(np.lib.format, 'read_array', read_array)
  (tmp_path / 'odd.npz').write_bytes(FILES[name])
  assert 'is shorter than its shape' in refused(tmp_path / 'odd.npz')


def test_more_bytes_than_memory_are_not_read(refused, monkeypatch):
  monkeypatch.setattr('common_flax.cpu.memory.total_bytes', lambda: 100)
  assert 'GiB of memory' in refused()


def test_paths_that_are_no_files_are_named(refused, tmp_path):
  os.mkfifo(tmp_path / 'pipe.npz')
  (tmp_path / 'device.npz').symlink_to('/dev/zero')
  (tmp_path / 'loop.npz').symlink_to('loop.npz')
  (tmp_path / 'folder.npz').mkdir()
  for name in ('pipe', 'device', 'loop', 'folder'):
    assert f'{name}.npz' in refused(tmp_path / f'{name}.npz')


@pytest.mark.parametrize(
  'output',
  [
    '.',
    'good.npz/x.json',
    '/dev/null',
    'folder.json',
    'gs://x/y.json',
  ],
)
def test_an_impossible_output_is_refused(refused, tmp_path, output):
  (tmp_path / 'folder.json').mkdir()
  error = refused(
    tmp_path / 'good.npz', tmp_path / 'good.npz', f'--output={output}'
  )
  assert f'--output={output}' in error
