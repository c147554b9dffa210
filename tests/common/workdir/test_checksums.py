"""Damaged checkpoints are seen, and older ones still load."""

import json
import random
import zlib

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.workdir import checksums
from common_flax.workdir.checkpoints import abstract_like
from common_flax.workdir.checkpoints import CheckpointStore

# TensorStore may report an unreadable file some time later.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)
INFO = {'image_shape': [8, 8, 1], 'num_examples': 1500}
CONFIG = {'seed': 3, 'dataset': {'name': 'digits'}}


def create(step=0):
  noise = jax.random.normal(jax.random.key(step), (64, 48))
  return {
    'weights': noise,
    'half': noise.astype(jnp.bfloat16)[:5],
    'step': jnp.int32(step),
  }


def saved(folder, *steps):
  place = sharding.create('jit').state_sharding
  with CheckpointStore(folder, len(steps)) as store:
    for step in steps:
      state = jax.device_put(create(step), place)
      items = {'state': state, 'export': {'weights': state['weights']}}
      store.save(step, items, INFO, None, CONFIG)
  return folder


@pytest.fixture
def folder(tmp_path):
  """Checkpoints of the steps 1 and 2."""
  return saved(tmp_path / 'c', 1, 2)


def read(store, item, step):
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = abstract_like(create, one)
  if item == 'export':
    abstract = {'weights': abstract['weights']}
  return store.info(step), store.restore(step, item, abstract)


def newest(folder, item):
  with CheckpointStore(folder) as store:
    step, (info, arrays) = store.newest(lambda step: read(store, item, step))
  return step, info, jax.device_get(arrays)


def flip(path, bit):
  data = bytearray(path.read_bytes())
  data[bit // 8] ^= 1 << bit % 8
  path.write_bytes(bytes(data))


def test_no_flipped_bit_of_any_file_is_read_as_a_number(folder, capsys):
  choose = random.Random(0)
  files = sorted(path for path in (folder / '2').rglob('*') if path.is_file())
  fallbacks = 0
  # The largest files hold the arrays.
  largest = sorted(files, key=lambda path: path.stat().st_size)[-4:]
  for path in files + largest:
    whole = path.read_bytes()
    flip(path, choose.randrange(8 * len(whole)))
    part = path.relative_to(folder / '2').parts[0]
    for item in [part] if part in ('state', 'export') else ['state', 'export']:
      step, info, arrays = newest(folder, item)
      assert info == INFO
      for name, array in arrays.items():
        np.testing.assert_array_equal(array, create(step)[name], str(path))
      output = capsys.readouterr().out
      assert output.count('\n') == (step == 1)
      fallbacks += step == 1
    path.write_bytes(whole)
  assert fallbacks >= 5


@pytest.mark.parametrize('item', ['state', 'export'])
def test_an_array_that_was_changed_is_named(folder, capsys, monkeypatch, item):
  path = folder / '2' / 'info' / 'metadata'
  info = json.loads(path.read_text())
  del info[checksums.CHECKSUM]
  info[checksums.CHECKSUMS][item]["['weights']"] = 'float32 00000000'
  path.write_text(json.dumps(checksums.sealed(info)))
  step, _, _ = newest(folder, item)
  assert step == 1
  assert capsys.readouterr().out == (
    "Checkpoint 2 cannot be read (the array ['weights'] is not what was "
    'saved); taking 1 instead.\n'
  )


def test_every_flipped_bit_of_info_is_seen():
  text = json.dumps(checksums.sealed({**INFO, checksums.CHECKSUMS: {'a': {}}}))
  content = checksums.unsealed(json.loads(text))
  for bit in range(8 * len(text)):
    data = bytearray(text.encode())
    data[bit // 8] ^= 1 << bit % 8
    try:
      # A flipped space is none, or another space.
      assert checksums.unsealed(json.loads(data)) == content
    except ValueError:
      pass


def test_checkpoints_without_checksums_are_read(folder, capsys):
  path = folder / '2' / 'info' / 'metadata'
  path.write_text(json.dumps(INFO))
  step, info, _ = newest(folder, 'state')
  assert (step, info) == (2, INFO)
  with CheckpointStore(folder) as store:
    assert store.config(2) is None
    assert store.newest_config() == (1, CONFIG)
  assert capsys.readouterr().out == ''


def test_the_config_is_kept_and_is_no_part_of_info(folder):
  with CheckpointStore(folder) as store:
    assert store.info(2) == INFO
    assert store.newest_config() == (2, CONFIG)


def test_several_runs_are_checked_wherever_they_are_restored(tmp_path):
  mesh = Mesh(np.asarray(jax.devices()[:4]), ('data',))
  split = NamedSharding(mesh, PartitionSpec('data'))
  runs = jax.device_put({'w': jnp.arange(8.0).reshape(4, 2)}, split)
  with CheckpointStore(tmp_path / 'c', 1) as store:
    store.save(1, {'state': runs}, INFO)
    store.wait()
    for place in (split, sharding.create('jit').state_sharding):
      abstract = abstract_like(lambda: {'w': jnp.zeros((4, 2))}, place)
      restored = store.restore(1, 'state', abstract)
      np.testing.assert_array_equal(restored['w'], runs['w'])
    whole = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert store._read_info(1)[checksums.CHECKSUMS]['state']["['w']"] == (
      checksums.of_array(whole)
    )


@pytest.mark.parametrize('num_bytes', [0, 5, 8192, 3 * 8192 + 13])
def test_every_changed_bit_changes_a_checksum(num_bytes):
  rng = np.random.default_rng(num_bytes)
  data = rng.integers(0, 256, num_bytes, np.uint8)
  known = {checksums.of_array(data)}
  bits = rng.permutation(8 * num_bytes)[:500]
  for bit in bits:
    data[bit // 8] ^= 1 << bit % 8
    known.add(checksums.of_array(data))
    data[bit // 8] ^= 1 << bit % 8
  assert len(known) == 1 + len(bits)


def test_exchanged_and_cleared_parts_change_a_checksum():
  data = np.random.default_rng(0).integers(0, 256, 4 * 8192, np.uint8)
  rows, words = data.reshape(4, -1), data.reshape(-1, 8)
  others = [rows[[1, 0, 2, 3]], rows[:, ::-1], words[::-1]]
  others += [np.where(np.arange(4)[:, None] == 2, 0, rows), rows[:3], rows.T]
  known = {checksums.of_array(np.ascontiguousarray(x)) for x in [rows, *others]}
  assert len(known) == 1 + len(others)


def test_the_checksum_of_a_table_is_that_of_its_folds():
  data = np.arange(2500, dtype=np.float64)  # two rows of 1,024, and a rest
  bits, rest = data[:2048].view(np.uint64).reshape(2, 1024), data[2048:]
  columns = bits[0] ^ bits[1]
  rows = [np.uint64(0)] * 2
  for word in bits.T:
    rows = [row ^ bit for row, bit in zip(rows, word, strict=True)]
  text = columns.tobytes() + np.array(rows).tobytes() + rest.tobytes()
  expected = zlib.crc32(b'(2500,)' + text)
  assert checksums.of_array(data) == f'float64 xor-{expected:08x}'


def test_checksums_of_whole_arrays_that_earlier_versions_wrote_are_checked():
  array = np.arange(8, dtype=np.float32).reshape(4, 2)
  earlier = f'float32 {zlib.crc32(b"(4, 2)" + array.tobytes()):08x}'
  checksums.check_arrays({'w': array}, {"['w']": earlier})
  array[2, 1] += 1
  with pytest.raises(checksums.DamagedError, match=r"\['w'\]"):
    checksums.check_arrays({'w': array}, {"['w']": earlier})


def test_an_array_may_be_restored_as_another_type(folder):
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  other = jax.ShapeDtypeStruct((64, 48), jnp.bfloat16, sharding=one)
  with CheckpointStore(folder) as store:
    restored = store.restore(2, 'export', {'weights': other})['weights']
  expected = create(2)['weights'].astype(jnp.bfloat16)
  np.testing.assert_array_equal(restored, expected)


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (FileNotFoundError(2, 'No such file'), 'a file in it is missing'),
    (ValueError('NOT_FOUND: Error opening "zarr"'), 'a file in it is missing'),
    (ValueError('DATA_LOSS: checksum'), 'a file in it is damaged'),
    (RuntimeError('vector::_M_default_append'), 'a file in it is damaged'),
    (UnicodeDecodeError('utf-8', b'', 0, 1, 'x'), 'a file in it is damaged'),
    (KeyError('key_type'), "its description is damaged: KeyError('key_type')"),
    (ValueError("PERMISSION_DENIED [os_error_code='13'"), 'Permission denied'),
    (UserError('a\n b'), 'a b'),
    (ValueError('bad. See full TensorStore details: <bound>'), 'bad.'),
  ],
)
def test_reasons_are_in_the_users_words(error, words):
  assert checksums.why_unreadable(error) == words
