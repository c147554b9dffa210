"""Sources of images: arrays, digits, folders, and broken files."""

import io
import pathlib
import types

from encoding import encode
import numpy as np
import PIL.Image
import pytest
from sklearn import datasets

from common_flax import data
from common_flax.data import decode as decode_lib
from common_flax.data import decoded_images as decoded
from common_flax.data.decoded_images import load_decoded
from common_flax.data.own import open_images
from common_flax.errors import UserError


def noise(*shape, dtype=np.uint8):
  high = np.iinfo(dtype).max
  return np.random.default_rng(0).integers(0, high, shape, dtype, endpoint=True)


# The places where a user may have given a split.
NAMES_BOTH = r'^config\.dataset\.split=.* \(or --split\): '


@pytest.mark.parametrize('name', ['digits', 'ring', 'folder'])
def test_an_unknown_split_is_refused(name, photographs):
  with pytest.raises(UserError, match=f'{NAMES_BOTH}.* train and test$'):
    data.load_source(name, 'all', 8, path=str(photographs))


class TestArrays:
  def test_images_and_labels_become_a_source(self):
    images, labels = noise(5, 8, 9, 3), np.array([0, 2, 1, 0, 2], np.uint8)
    source = data.from_arrays(images, labels)
    assert len(source) == 5
    assert source.example_shape == (8, 9, 3)
    assert source.num_classes == 3
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source[1]['image'], images[1])
    assert source[1]['label'] == 2

  def test_without_labels_every_label_is_minus_one(self):
    source = data.from_arrays(noise(5, 8, 8, 1))
    assert source.num_classes is None
    assert set(source.labels) == {-1}

  def test_greys_need_no_axis_of_channels(self):
    assert data.from_arrays(noise(5, 8, 8)).example_shape == (8, 8, 1)

  def test_a_memory_mapped_array_stays_mapped(self, tmp_path):
    np.save(tmp_path / 'images.npy', noise(5, 8, 8))
    images = np.load(tmp_path / 'images.npy', mmap_mode='r')
    assert not data.from_arrays(images).is_in_memory

  @pytest.mark.parametrize(
    ('images', 'message'),
    [
      (np.zeros((2, 8, 8, 3)) + 9, r'^images: float64 from 9 to 9; .*uint8'),
      (np.full((2, 8, 8), np.nan), r'^images: holds NaN or infinity; '),
      (np.zeros((2, 8, 8)) - 1.5, r'^images: .*-1.5; .* floats in \[0, 1\]'),
      (np.full((2, 8, 8), None), r'^images: Python objects, .*; give uint8 '),
      (np.zeros((2, 8, 8), complex), r'^images: complex128, '),
      ([[[1], [1, 2]]], r'^images: is no array: '),
      (noise(8, 8, 3), r'^images: shape \[8, 8, 3\], which may be a single '),
      (noise(3, 8, 8), r'^images: shape \[3, 8, 8\], which may be a single '),
      (noise(2, 3, 8, 3), r'^images: .* the second or the last axis; '),
      (noise(2, 5, 8, 8), r'^images: shape \[2, 5, 8, 8\]; '),
      (noise(8, 8), r'^images: shape \[8, 8\]; '),
      (noise(2, 8, 8, 4), r'^images: shape \[2, 8, 8, 4\]; '),
      (noise(0, 8, 8, 3), r'^images: shape \[0, 8, 8, 3\]; '),
      (noise(2, 0, 8, 3), r'^images: shape \[2, 0, 8, 3\]; '),
    ],
  )
  def test_other_images_are_refused(self, images, message):
    with pytest.raises(UserError, match=message):
      data.from_arrays(images)

  @pytest.mark.parametrize(
    ('images', 'expected', 'note'),
    [
      (
        np.array([0, 0.5, 1, 1]),
        [0, 128, 255, 255],
        'float64 from 0 to 1, in [0, 1]',
      ),
      (
        np.array([-1, 0, 1, 0], 'f4'),
        [0, 128, 255, 128],
        'from -1 to 1, in [-1, 1]',
      ),
      (np.array([0, 1], 'f2'), [0, 255], 'float16 from 0 to 1, in [0, 1]'),
      (np.array([False, True]), [0, 255], 'black and white'),
    ],
  )
  def test_other_numbers_are_scaled_and_said(self, images, expected, note):
    images = np.broadcast_to(images[:, None, None], (len(images), 8, 8))
    source = data.from_arrays(images[::-1])
    assert source.dtype == source.examples.dtype == np.uint8
    assert source.examples[::-1, 0, 0, 0].tolist() == expected
    assert source.report.notes[0].endswith(f'{note}.')

  def test_channels_may_come_first(self):
    images = noise(5, 3, 8, 9)
    source = data.from_arrays(images)
    np.testing.assert_array_equal(
      source[2]['image'], np.moveaxis(images[2], 0, -1)
    )
    assert source.report.notes == ('images: read as [N, C, H, W].',)

  def test_names_may_be_labels(self):
    source = data.from_arrays(noise(3, 8, 8, 1), ['dog', 'cat', 'dog'])
    assert source.class_names == ('cat', 'dog')
    assert source.labels.tolist() == [1, 0, 1]

  def test_classes_without_images_are_named(self):
    source = data.from_arrays(noise(3, 8, 8, 1), [0, 3, 3])
    assert source.num_classes == 4
    assert source.report.notes == ('labels: no image has the classes 1, 2.',)

  def test_the_fingerprint_tells_images_and_labels_apart(self):
    images, other = noise(5, 8, 8), noise(5, 8, 8)
    other[4, 7, 7] ^= 1
    prints = [
      data.from_arrays(x, y).fingerprint
      for x in (images, other)
      for y in (None, np.zeros(5, int))
    ]
    assert len({*prints}) == 4
    assert data.from_arrays(images[..., None]).fingerprint == prints[0]

  @pytest.mark.parametrize(
    ('labels', 'message'),
    [
      ([0, 1, 2], r'^labels: int64 \[3\]; .* each of the 2 images$'),
      ([[0, 1], [1, 0]], r'^labels: int64 \[2, 2\]; .*argmax'),
      ([0.0, 1.0], r'^labels: float64 \[2\]; give one integer class '),
      ([-1, 0], r'^labels: from -1 to 0; number the classes from 0 '),
      ([0, 2**16], r'^labels: from 0 to 65536; '),
    ],
  )
  def test_other_labels_are_refused(self, labels, message):
    with pytest.raises(UserError, match=message):
      data.from_arrays(noise(2, 8, 8), np.array(labels))

  def test_classes_may_have_names(self):
    source = data.from_arrays(noise(2, 8, 8), np.array([0, 1]), ['b', 'a', 'c'])
    assert source.class_names == data.class_names(source) == ('b', 'a', 'c')
    assert source.num_classes == 3

  @pytest.mark.parametrize(
    ('labels', 'names', 'message'),
    [
      ([0, 1], ['a'], '1 names, and labels up to 1; name every class'),
      ([0, 1], ['a', 'a'], "two classes are called 'a'"),
      ([0, 1], 'ab', 'list of names'),
      ([0, 1], ['a', 2], 'list of names'),
      (None, ['a'], 'give labels'),
    ],
  )
  def test_other_names_are_refused(self, labels, names, message):
    labels = None if labels is None else np.array(labels)
    with pytest.raises(UserError, match=f'^class_names: .*{message}'):
      data.from_arrays(noise(2, 8, 8), labels, names)

  def test_a_source_of_ones_own_may_name_its_classes(self):
    source = types.SimpleNamespace(num_classes=2)
    assert data.class_names(source) is None
    source.class_names = ['a', 'b']
    assert data.class_names(source) == ('a', 'b')
    source.class_names = ['a', 'b', 'c']
    with pytest.raises(UserError, match='3 names for 2 classes'):
      data.class_names(source)


class TestDigits:
  @pytest.mark.parametrize('size', [8, 28, 32, 64])
  def test_they_are_real_digits_of_any_size(self, size):
    source = data.load_source('digits', 'train', size)
    assert len(source) == 1500
    assert source.example_shape == (size, size, 1)
    assert source[0]['image'].shape == (size, size, 1)
    assert source.examples.dtype == np.uint8
    assert np.bincount(source.labels).min() > 140
    assert source.examples.min() == 0
    assert source.examples.max() == 255

  def test_a_part_of_a_split_is_its_first_images(self):
    whole = data.load_source('digits', 'test', 8)
    part = data.load_source('digits', 'test[:20]', 8)
    np.testing.assert_array_equal(part.examples, whole.examples[:20])
    np.testing.assert_array_equal(part.labels, whole.labels[:20])
    for split in ('test[:0]', 'test[:x]', 'test[2:4]'):
      with pytest.raises(UserError, match=NAMES_BOTH):
        data.load_source('digits', split, 8)

  def test_they_equal_those_of_scikit_learn(self):
    expected = datasets.load_digits()
    sources = [data.load_source('digits', s, 8) for s in ('train', 'test')]
    images = np.concatenate([source.examples for source in sources])
    np.testing.assert_array_equal(
      images[..., 0], np.round(expected.images * (255 / 16))
    )
    labels = np.concatenate([source.labels for source in sources])
    np.testing.assert_array_equal(labels, expected.target)

  def test_the_splits_share_no_image(self):
    train, test = (
      data.load_source('digits', split, 8) for split in ('train', 'test')
    )
    assert len(test) == 297
    seen = {image.tobytes() for image in train.examples}
    assert not seen & {image.tobytes() for image in test.examples}


class TestDecoding:
  @pytest.mark.parametrize('ending', ['PNG', 'WEBP'])
  def test_an_image_of_the_right_size_is_unchanged(self, ending):
    pixels = noise(16, 16, 3)
    encoded = encode(pixels, ending, lossless=True)
    np.testing.assert_array_equal(decode_lib.decode(encoded, 16, 3), pixels)

  def test_the_centre_is_cropped(self):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 8:24] = 200
    assert (decode_lib.decode(encode(pixels), 16, 3) == 200).all()
    turned = pixels.swapaxes(0, 1)
    assert (decode_lib.decode(encode(turned), 16, 3) == 200).all()

  def test_shrinking_is_antialiased(self):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show
    small = decode_lib.decode(encode(stripes), 8, 1)
    assert np.abs(small.astype(int) - 127).max() < 20

  def test_sixteen_bit_greys_are_scaled(self):
    pixels = noise(8, 8, dtype=np.uint16)
    result = decode_lib.decode(encode(pixels), 8, 1)
    np.testing.assert_array_equal(result[..., 0], pixels >> 8)

  def test_photographs_are_turned_upright(self):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = 3  # upside down
    result = decode_lib.decode(encode(pixels, exif=exif), 16, 3)
    assert (result[8:] == 255).all()
    assert (result[:8] == 0).all()

  @pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGBA', 'CMYK', 'RGB'])
  @pytest.mark.parametrize('channels', [1, 3])
  def test_every_mode_becomes_grey_or_colour(self, mode, channels):
    buffer = io.BytesIO()
    ending = 'JPEG' if mode == 'CMYK' else 'PNG'
    PIL.Image.new(mode, (9, 9)).save(buffer, ending)
    result = decode_lib.decode(buffer.getvalue(), 8, channels)
    assert result.shape == (8, 8, channels)

  def test_truncated_images_are_corrupt(self):
    for ending in ('PNG', 'JPEG', 'WEBP'):
      encoded = encode(noise(24, 24, 3), ending)
      for length in range(0, len(encoded) - 20, 97):
        with pytest.raises(decode_lib.CorruptImageError):
          decode_lib.decode(encoded[:length], 8, 3)

  def test_an_image_of_absurdly_many_pixels_is_refused(self, monkeypatch):
    monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(decode_lib.CorruptImageError, match='exceeds limit'):
      decode_lib.decode(encode(noise(12, 12)), 8, 1)


class TestFolder:
  def test_photographs_of_mixed_sizes(self, photographs):
    source = data.load_source('folder', 'train', 64, path=str(photographs))
    assert source.example_shape == (64, 64, 3)
    assert len(source) == 43  # nine tenths of 48
    assert source.num_classes == 2
    assert source.class_names == ('china', 'flower')
    assert set(source.labels) == {0, 1}

  def test_the_two_splits_make_the_whole(self, photographs):
    splits = [
      open_images(str(photographs), split) for split in ('train', 'test')
    ]
    names = [{split.name(i) for i in range(len(split))} for split in splits]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 48

  def test_labels_follow_the_sub_folders(self, photographs):
    images = open_images(str(photographs), 'train')
    for i in range(len(images)):
      ((_, label),) = images.read([i])
      assert label == ['china', 'flower'].index(
        pathlib.Path(images.name(i)).parent.name
      )

  def test_a_label_means_the_same_in_every_split(self, tmp_path):
    for name, number in (('a', 1), ('b', 30), ('c', 30)):
      (tmp_path / name).mkdir()
      for i in range(number):
        (tmp_path / name / f'{i}.png').write_bytes(encode(noise(8, 8)))
    for split in ('train', 'test'):
      images = open_images(str(tmp_path), split)
      assert images.num_classes == 3
      for i in range(len(images)):
        ((_, label),) = images.read([i])
        assert 'abc'[label] == pathlib.Path(images.name(i)).parent.name

  def test_a_missing_sub_folder_is_refused(self, tmp_path):
    (tmp_path / 'train').mkdir()
    with pytest.raises(
      UserError, match=f'{NAMES_BOTH}no folder .*test; .*train$'
    ):
      open_images(str(tmp_path), 'test')

  def test_sub_folders_train_and_test_are_the_splits(self, tmp_path):
    for split, number in (('train', 3), ('test', 2)):
      (tmp_path / split).mkdir()
      for i in range(number):
        (tmp_path / split / f'{i}.png').write_bytes(encode(noise(8, 8)))
    for split, number in (('train', 3), ('test', 2)):
      source = data.load_source('folder', split, 8, path=str(tmp_path))
      assert len(source) == number
      assert source.num_classes is None
      assert source.class_names is None
      assert set(source.labels) == {-1}
      assert source.example_shape == (8, 8, 1)  # all grey

  def test_one_image_in_colour_makes_all_colour(self, tmp_path):
    (tmp_path / 'grey.png').write_bytes(encode(noise(8, 8)))
    (tmp_path / 'colour.JPG').write_bytes(encode(noise(8, 8, 3), 'JPEG'))
    source = data.load_source('folder', 'train', 8, path=str(tmp_path))
    assert source.example_shape == (8, 8, 3)

  @pytest.fixture
  def broken(self, tmp_path):
    for i in range(20):
      (tmp_path / f'{i:02d}.png').write_bytes(encode(noise(8, 8) // (i + 1)))
    (tmp_path / '07.png').write_bytes(b'no image')
    (tmp_path / '11.png').write_bytes(encode(noise(8, 8))[:60])
    return open_images(str(tmp_path), 'train')

  @pytest.mark.parametrize('in_memory_bytes', [0, 10**6])
  def test_a_broken_image_stops_before_training(self, broken, in_memory_bytes):
    with pytest.raises(UserError, match=r'07\.png.*skip_corrupt'):
      load(broken, False, in_memory_bytes)

  @pytest.mark.parametrize('in_memory_bytes', [0, 10**6])
  def test_broken_images_can_be_skipped(self, broken, in_memory_bytes):
    for _ in range(2):  # the second time from the cache
      source = load(broken, True, in_memory_bytes)
      assert len(source) == len(broken) - 2
      reasons = {x.name[-6:]: x.reason for x in source.report.left_out}
      assert reasons == {'07.png': 'not an image', '11.png': 'truncated'}

  def test_only_broken_images_are_refused(self, tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(UserError, match=r'a\.png'):
      load(open_images(str(tmp_path), 'train'), True, 0)


def load(encoded, skip_corrupt, in_memory_bytes):
  return load_decoded(
    encoded,
    8,
    skip_corrupt=skip_corrupt,
    in_memory_bytes=in_memory_bytes,
  )


def test_large_sources_are_read_when_needed(photographs):
  encoded = open_images(str(photographs), 'train')
  held, streamed = load(encoded, False, 10**9), load(encoded, False, 0)
  assert held.is_in_memory
  assert not streamed.is_in_memory
  assert len(held) == len(streamed)
  assert held.example_shape == streamed.example_shape
  for i in (0, 5, 42):
    np.testing.assert_array_equal(held[i]['image'], streamed[i]['image'])
    assert held[i]['label'] == streamed[i]['label']


class TestCache:
  @pytest.fixture(autouse=True)
  def cache(self, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))

  @pytest.fixture
  def folder(self, tmp_path):
    (tmp_path / 'images').mkdir()
    for i in range(5):
      image = encode(np.full((9, 9), 20 * i, np.uint8))
      (tmp_path / 'images' / f'{i}.png').write_bytes(image)
    return tmp_path / 'images'

  def load(self, folder, in_memory_bytes=10**6):
    return load(open_images(str(folder), 'train'), False, in_memory_bytes)

  def test_images_are_decoded_once(self, folder, monkeypatch):
    first = self.load(folder)

    def fail(*unused):
      raise AssertionError('decoded again')

    monkeypatch.setattr(decoded, 'decode_with_facts', fail)
    for again in (self.load(folder), self.load(folder, 0)):
      np.testing.assert_array_equal(again.examples, first.examples)
      np.testing.assert_array_equal(again.labels, first.labels)

  def test_a_changed_image_is_decoded_anew(self, folder):
    before = self.load(folder)
    for file in folder.iterdir():
      file.write_bytes(encode(np.full((9, 9), 77, np.uint8)))
    after = self.load(folder)
    assert (after.examples == 77).all()
    assert not (before.examples == 77).any()

  def test_without_a_cache_small_images_stay_in_memory(self, folder, tmp_path):
    (tmp_path / 'cache').write_text('no folder')
    assert self.load(folder).is_in_memory
    with pytest.raises(UserError, match='XDG_CACHE_HOME'):
      self.load(folder, 0)

  def test_images_that_do_not_fit_on_the_disk_are_refused(
    self, folder, monkeypatch
  ):
    monkeypatch.setattr(
      decoded.shutil, 'disk_usage', lambda _: types.SimpleNamespace(free=3)
    )
    with pytest.raises(UserError, match='free'):
      self.load(folder, 0)

  @pytest.mark.parametrize('in_memory_bytes', [10**6, 0])
  @pytest.mark.parametrize(
    'name', ['images.npy', 'labels.npy', 'report.json', 'checksums.json']
  )
  @pytest.mark.parametrize('harm', ['cut', 'emptied', 'one bit'])
  def test_a_damaged_entry_is_made_again(
    self, folder, tmp_path, capsys, harm, name, in_memory_bytes
  ):
    if (harm, name, in_memory_bytes) == ('one bit', 'images.npy', 0):
      pytest.skip('images that stay on the disk are not compared')
    before = self.load(folder)
    (path,) = (tmp_path / 'cache').rglob(name)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    damaged = {'cut': whole[:-1], 'emptied': b'', 'one bit': flipped}
    path.write_bytes(damaged[harm])
    for _ in range(2):
      after = self.load(folder, in_memory_bytes)
      np.testing.assert_array_equal(after.examples, before.examples)
      np.testing.assert_array_equal(after.labels, before.labels)
    output = capsys.readouterr().out
    assert output.count('decoding the images again') == 1
    assert path.read_bytes() == whole

  def test_a_broken_set_is_not_cached(self, folder, tmp_path):
    (folder / '2.png').write_bytes(b'broken')
    with pytest.raises(UserError, match=r'2\.png'):
      self.load(folder)
    assert not list((tmp_path / 'cache').rglob('*.npy'))
