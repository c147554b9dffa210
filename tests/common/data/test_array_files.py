"""Images in .npy and .npz files, with the keys and types that people use."""

import io
import pathlib
import pickle
import re
import zipfile

import numpy as np
import pytest

from common_flax import data
from common_flax.data import decoded_images
from common_flax.data import own
from common_flax.errors import UserError

SIDE = 8
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
LABELS = np.arange(20) % 4


def saved(tmp_path, save=np.savez, **arrays):
  path = tmp_path / 'images.npz'
  save(path, **arrays)
  return str(path)


def load(path, split='train', side=SIDE, **options):
  return data.load_source('folder', split, side, path=path, **options)


def refused(path, message, **options):
  with pytest.raises(UserError, match=message) as caught:
    load(path, **options)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_keras_keys_are_splits(tmp_path, save):
  path = saved(
    tmp_path,
    save,
    x_train=IMAGES[:15],
    y_train=LABELS[:15],
    x_test=IMAGES[15:],
    y_test=LABELS[15:],
  )
  train, test = load(path), load(path, 'test')
  np.testing.assert_array_equal(train.examples, IMAGES[:15])
  np.testing.assert_array_equal(test.examples, IMAGES[15:])
  assert test.labels.tolist() == LABELS[15:].tolist()
  assert train.num_classes == test.num_classes == 4
  assert not train.report.notes
  with pytest.raises(UserError, match=r'no array .*; the splits are train'):
    load(path, 'validation')


def test_medmnist_keys_are_splits(tmp_path):
  path = saved(
    tmp_path,
    train_images=IMAGES[:15],
    train_labels=LABELS[:15, None],
    val_images=IMAGES[15:],
    val_labels=LABELS[15:, None],
  )
  test = load(path, 'test')
  assert test.labels.tolist() == LABELS[15:].tolist()
  assert 'its array validation' in test.report.notes[0]


@pytest.mark.parametrize(
  'keys', [('images', 'labels'), ('X', 'y'), ('arr_0', 'arr_1')]
)
def test_without_splits_a_tenth_is_kept(tmp_path, keys):
  path = saved(tmp_path, **dict(zip(keys, (IMAGES, LABELS), strict=True)))
  train, test = load(path), load(path, 'test')
  assert (len(train), len(test)) == (18, 2)
  together = np.concatenate([train.examples, test.examples])
  assert {x.tobytes() for x in together} == {x.tobytes() for x in IMAGES}
  by_image = {x.tobytes(): y for x, y in zip(IMAGES, LABELS, strict=True)}
  for source in (train, test):
    for image, label in zip(source.examples, source.labels, strict=True):
      assert by_image[image.tobytes()] == label


def test_the_only_images_need_no_known_name(tmp_path):
  path = saved(tmp_path, faces=IMAGES, ids=np.arange(20))
  source = load(path)
  assert source.num_classes is None
  assert source.report.notes == (f'{path}: not used: ids.',)


def test_an_npy_holds_images_and_its_labels_lie_beside_it(tmp_path):
  np.save(tmp_path / 'a.npy', np.moveaxis(IMAGES, -1, 1))
  np.save(tmp_path / 'labels.npy', LABELS)
  labels = str(tmp_path / 'labels.npy')
  source = load(str(tmp_path / 'a.npy'), labels=labels)
  assert source.num_classes == 4
  assert source.example_shape == (SIDE, SIDE, 3)
  assert '[N, C, H, W]' in source.report.notes[0]
  refused(str(tmp_path / 'a.npy'), r'labels=no\.npy: no such', labels='no.npy')


def test_labels_in_their_own_file_are_of_all_images(tmp_path):
  np.save(tmp_path / 'labels.npy', LABELS[:15])
  path = saved(tmp_path, x_train=IMAGES[:15], x_test=IMAGES[15:])
  labels = str(tmp_path / 'labels.npy')
  refused(path, r'^config\.dataset\.labels=.*splits train, test', labels=labels)


@pytest.mark.parametrize('side', [SIDE, SIDE // 2])
def test_bytes_far_below_white_are_named(tmp_path, side):
  path = saved(tmp_path, images=IMAGES // 200)
  (note,) = load(path, side=side).report.notes
  assert 'values up to 1 where 255 is white' in note
  assert note.endswith('set --config.dataset.white_level=1.')
  rendering = data.Rendering(white_level=1.0)
  source = load(path, side=side, rendering=rendering)
  assert source.examples.max() > 100
  assert 'where 1 is white' in ''.join(source.report.notes)


@pytest.mark.parametrize('side', [SIDE, SIDE // 2])
def test_dark_floats_are_told_no_level_of_bytes(tmp_path, side):
  """They were told one of 51, and their white is 1."""
  path = saved(tmp_path, images=IMAGES / np.float32(255 * 5))
  (note,) = load(path, side=side).report.notes
  assert note.endswith('read as float32 from 0 to 0.2, in [0, 1].')


@pytest.mark.skipif(not pathlib.Path('/proc/self/status').exists(), reason='')
def test_what_was_read_of_a_large_file_is_no_memory(tmp_path, monkeypatch):
  def megabytes(kind):
    status = pathlib.Path('/proc/self/status').read_text()
    return int(re.search(rf'{kind}:\s*(\d+) kB', status)[1]) / 1024

  size, path = (4000, 128, 128, 1), tmp_path / 'a.npy'  # 62 MB
  stored = np.lib.format.open_memmap(path, 'w+', np.uint8, size)
  stored[::100] = 255
  del stored
  monkeypatch.setattr(data, 'IN_MEMORY_BYTES', 10**6)
  before = megabytes('RssFile'), megabytes('RssAnon')
  source = load(str(path), side=128)
  assert not source.is_in_memory
  assert megabytes('RssFile') - before[0] < 16
  assert megabytes('RssAnon') - before[1] < 32
  again = data.load_source('folder', 'train', 128, path=str(path))
  assert again.fingerprint == source.fingerprint


def test_another_array_can_be_the_labels(tmp_path):
  path = saved(tmp_path, images=IMAGES, labels=LABELS, kinds=LABELS // 2)
  assert load(path, labels='kinds').num_classes == 2
  refused(path, r'config\.dataset\.labels=sort: no array', labels='sort')


def test_names_are_classes_in_every_split(tmp_path):
  names = np.array(['cat', 'dog', 'emu', 'fox'])
  path = saved(
    tmp_path,
    x_train=IMAGES[:15],
    y_train=names[LABELS[:15]],
    x_test=IMAGES[15:17],
    y_test=names[LABELS[15:17]],
  )
  test = load(path, 'test')
  assert test.class_names == ('cat', 'dog', 'emu', 'fox')
  assert test.labels.tolist() == LABELS[15:17].tolist()


def test_samples_of_a_command_keep_their_names(tmp_path):
  names = np.array(['a', 'b', 'c', 'd'])
  path = saved(tmp_path, images=IMAGES, labels=LABELS, class_names=names)
  assert load(path).class_names == ('a', 'b', 'c', 'd')


@pytest.mark.parametrize('order', ['C', 'F'])
def test_large_files_stay_on_the_disk(tmp_path, monkeypatch, order):
  monkeypatch.setattr(data, 'IN_MEMORY_BYTES', 0)
  images = np.array(IMAGES, order=order)
  path = saved(tmp_path, x_train=images)
  whole = load(path)
  assert isinstance(whole.examples, np.memmap)
  np.testing.assert_array_equal(whole.examples, IMAGES)
  np.save(tmp_path / 'a.npy', images)
  part = load(str(tmp_path / 'a.npy'))
  assert not part.is_in_memory
  monkeypatch.setattr(data, 'IN_MEMORY_BYTES', 2**30)
  held = load(str(tmp_path / 'a.npy'))
  np.testing.assert_array_equal(np.asarray(part.examples), held.examples)
  np.testing.assert_array_equal(part[3]['image'], held[3]['image'])
  some = np.array([4, 0])
  for index in (2, some, slice(3), (some, slice(None), 1, 0), (1, 2)):
    np.testing.assert_array_equal(part.examples[index], held.examples[index])
  assert part.fingerprint and part.fingerprint == held.fingerprint
  assert held.is_in_memory


@pytest.mark.parametrize('dtype', [np.uint8, np.int32])
@pytest.mark.parametrize('side', [SIDE, SIDE // 2])
def test_a_white_level_counts_once(tmp_path, dtype, side):
  path = saved(tmp_path, x_train=np.full((9, SIDE, SIDE, 3), 20, dtype))
  rendering = data.Rendering(white_level=50.0)
  source = load(path, side=side, rendering=rendering)
  assert np.unique(source.examples).tolist() == [102]


def test_what_is_compressed_must_fit_into_memory(tmp_path, monkeypatch):
  path = saved(tmp_path, np.savez_compressed, images=IMAGES)
  monkeypatch.setattr('common_flax.cpu.memory.total_bytes', lambda: 100)
  refused(path, r'images\.npz: images: is compressed, .* np\.savez ')


def test_images_of_another_size_are_resized_as_files_are(tmp_path):
  path = saved(tmp_path, images=np.repeat(np.repeat(IMAGES, 2, 1), 2, 2))
  source = load(path)
  assert np.abs(source.examples[0].astype(int) - load_same(path)).max() < 90
  assert source.example_shape == (SIDE, SIDE, 3)
  again = load(path)
  np.testing.assert_array_equal(source.examples, again.examples)
  assert source.fingerprint and source.fingerprint == again.fingerprint


def load_same(path):
  """The first image of a file whose images are twice as large."""
  return load(path, side=2 * SIDE).examples[0][::2, ::2].astype(int)


def test_decoding_keeps_the_bytes(tmp_path):
  for images in (IMAGES, IMAGES[..., :1]):
    encoded = own.open_images(saved(tmp_path, x_train=images), 'train')
    source = decoded_images.load_decoded(
      encoded, SIDE, skip_corrupt=False, in_memory_bytes=2**30
    )
    np.testing.assert_array_equal(source.examples, images)


def test_floats_are_read_and_said(tmp_path):
  path = saved(tmp_path, x_train=IMAGES.astype(np.float32) / 255)
  source = load(path)
  np.testing.assert_array_equal(source.examples, IMAGES)
  assert source.report.notes[0].endswith('float32 from 0 to 1, in [0, 1].')


def test_a_white_level_reads_other_numbers(tmp_path):
  path = saved(tmp_path, x_train=IMAGES.astype(np.int32))
  refused(path, r'x_train: int32 from 0 to 255; .*astype\(np\.uint8\)')
  source = data.load_source(
    'folder',
    'train',
    SIDE,
    path=path,
    rendering=data.Rendering(white_level=255.0),
  )
  np.testing.assert_array_equal(source.examples, IMAGES)


def test_held_out_copies_are_left_out(tmp_path):
  path = saved(tmp_path, x_train=IMAGES[:15], x_test=IMAGES[12:])
  test = load(path, 'test')
  np.testing.assert_array_equal(test.examples, IMAGES[15:])
  assert '3 images of the split test' in test.report.notes[0]
  path = saved(tmp_path, x_train=IMAGES, x_test=IMAGES[12:])
  assert len(load(path, 'test')) == 8


class Trap:
  """An object that writes a file when it is unpickled."""

  def __reduce__(self):
    return (pathlib.Path.touch, (pathlib.Path('trapped'),))


def npy(array):
  buffer = io.BytesIO()
  np.save(buffer, array)
  return buffer.getvalue()


def zipped(content, name='images.npy', compression=zipfile.ZIP_STORED):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', compression) as archive:
    archive.writestr(name, content)
  return buffer.getvalue()


def npz(**arrays):
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  return buffer.getvalue()


def claiming(shape):
  header = io.BytesIO()
  about = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
  np.lib.format.write_array_header_1_0(header, about)
  return header.getvalue() + bytes(100)


HOSTILE = {
  'empty.npz': b'',
  'empty.npy': b'',
  'random.npz': bytes(range(256)) * 9,
  'pickle.npy': pickle.dumps(Trap()),
  'member.npz': zipped(pickle.dumps(Trap())),
  'objects.npy': npy(np.array([Trap()] * 4, object)),
  'objects.npz': npz(images=np.array([Trap()] * 4, object)),
  'labels.npz': npz(images=IMAGES, labels=np.array([Trap()] * 20, object)),
  'trillion.npy': claiming((10**6, 10**6)),
  'trillion.npz': zipped(claiming((10**6, 10**6))),
  'negative.npy': claiming((-1, 8, 8)),
  'bomb.npz': zipped(claiming((10**12,)), compression=zipfile.ZIP_DEFLATED),
  'code.npy': b'\x93NUMPY\x01\x00\x30\x00'
  + b'__import__("pathlib").Path("trapped").touch()'.ljust(48),
  'cut.npz': npz(images=IMAGES)[:1000],
  'cut.npy': npy(IMAGES)[:1000],
  'text.npz': zipped(b'', 'readme.txt'),
  'no images.npz': npz(pictures=np.arange(3), names=np.array(['x'])),
  'two.npz': npz(a=IMAGES, b=IMAGES),
  'mixed.npz': npz(images=IMAGES, x_test=IMAGES),
  'few labels.npz': npz(images=IMAGES, labels=np.arange(3)),
  'one hot.npz': npz(images=IMAGES, labels=np.eye(20)),
  'half.npz': npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES),
  'NaN.npy': npy(np.full(IMAGES.shape, np.nan)),
  'strings.npy': npy(np.array(['x'] * 4)),
  'channels.npy': npy(np.zeros((4, 8, 8, 5), np.uint8)),
  'no image.npy': npy(IMAGES[:0]),
  'one.npy': npy(IMAGES[0]),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_file_that_holds_no_images_is_named(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  (tmp_path / name).write_bytes(HOSTILE[name])
  refused(name, f'^{name}: ')
  assert [x.name for x in tmp_path.iterdir()] == [name]


def test_other_paths_are_named(tmp_path):
  (tmp_path / 'a.tar').write_bytes(b'x')
  refused(str(tmp_path / 'a.tar'), 'neither a folder .* ends in .zip, .npz')
  refused(str(tmp_path / 'b.npz'), 'no such folder or file')
  refused('gs://bucket/b.npz', 'from local disks only')
