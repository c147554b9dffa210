"""What is shown of images of another shape: dataset.crop."""

import io

import numpy as np
import PIL.Image
import pytest

from common_flax import data
from common_flax import images
from common_flax.data import decode
from common_flax.data.batches import example_batches
from common_flax.data.cropping import stored
from common_flax.data.cropping import wide_images
from common_flax.errors import UserError
from common_flax.training.inputs import Inputs
from gan_flax import config as gan_config


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def stripes(height, width, channels=3):
  """A picture whose columns or rows have values of their own."""
  rows, columns = np.mgrid[:height, :width]
  values = np.stack([4 * rows, 4 * columns, 0 * rows], -1)[..., :channels]
  return values.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
  place = tmp_path / 'pictures'
  place.mkdir()
  for i, size in enumerate([(8, 24), (24, 8), (8, 8), (16, 48), (8, 20)]):
    PIL.Image.fromarray(stripes(*size)).save(place / f'{i}.png')
  (place / '9.png').write_bytes(b'damaged')
  return place


def dataset(folder=None, **changes):
  config = gan_config.default().dataset.unlock()
  if folder:
    config.update(name='folder', path=str(folder), skip_corrupt=True)
  config.update({'image_size': 8, **changes})
  return config


def batches(source, seed=0, start=0, rows=slice(None)):
  options = dict(batch_size=4, batches_per_step=1, num_steps=start + 3)
  return np.stack(
    [
      batch[0]
      for batch in example_batches(
        source, seed=seed, start_step=start, rows=rows, **options
      )
    ]
  )


def test_the_centre_has_the_shape_of_the_size():
  picture = PIL.Image.fromarray(stripes(20, 60))
  cropped = np.asarray(images.crop_and_resize(picture, (20, 30)))
  np.testing.assert_array_equal(cropped, stripes(20, 60)[:, 15:45])
  tall = np.asarray(images.crop_and_resize(picture, (20, 4)))
  np.testing.assert_array_equal(tall, stripes(20, 60)[:, 28:32])
  enlarged = images.crop_and_resize(picture, (48, 24))
  assert enlarged.size == (24, 48)


@pytest.mark.parametrize('size', [(20, 30), (30, 20), (9, 9), (4, 40)])
def test_a_whole_picture_lies_in_the_middle_of_the_background(size):
  picture = PIL.Image.new('RGB', (40, 20), 'blue')
  fitted = np.asarray(images.resize_to_fit(picture, size, (255, 0, 0)))
  assert fitted.shape == (*size, 3)
  is_blue = (fitted == [0, 0, 255]).all(-1)
  assert np.all(is_blue | (fitted == [255, 0, 0]).all(-1))
  rows, columns = is_blue.any(1).sum(), is_blue.any(0).sum()
  assert (rows, columns) == min(
    (size[0], 2 * size[0]), (round(size[1] / 2), size[1])
  )
  assert abs(int(is_blue[0].any()) - int(is_blue[-1].any())) <= 1


def test_pictures_that_fit_keep_their_pixels_and_remember_the_background(
  folder,
):
  config = dataset(folder, crop='fit', background='black')
  source = data.load(config, 'train')
  centred = data.load(dataset(folder, background='black'), 'train')
  by_shape = {}
  for image, centre in zip(source.examples, centred.examples, strict=True):
    by_shape[image.any((1, 2)).sum(), image.any((0, 2)).sum()] = image, centre
  whole, centre = by_shape[8, 8]
  np.testing.assert_array_equal(whole, centre)
  assert len(by_shape) > 1
  assert Inputs(source, 1, 1, 1, False).info['background'] == 'black'
  assert 'background' not in Inputs(centred, 1, 1, 1, False).info


def test_grey_digits_fit_on_a_grey_background():
  config = dataset(crop='fit', background='white', image_size=(16, 32))
  source = data.load(config, 'test')
  assert source.example_shape == (16, 32, 1)
  assert np.all(source.examples[:, :, :8] == 255)
  np.testing.assert_array_equal(
    source.examples[:, :, 8:24],
    data.load_source('digits', 'test', 16).examples,
  )
  config.background = 'red'
  with pytest.raises(UserError, match=r'^config\.dataset\.background=.red'):
    data.load(config, 'test')


def test_random_crops_are_parts_of_the_pictures_and_differ(folder):
  source = data.load(dataset(folder, crop='random'), 'train', for_training=True)
  assert len(source) == 4  # one is damaged, and one of 6 kept for testing
  seen = batches(source)
  # The crop of a wide picture of stripes says where it was taken.
  places = {int(x[0, 0, 1]) // 4 for x in seen.reshape(-1, 8, 8, 3)}
  assert len(places) > 2
  np.testing.assert_array_equal(seen, batches(source))
  np.testing.assert_array_equal(seen[2:], batches(source, start=2)[:1])
  assert not np.array_equal(seen, batches(source, seed=1))
  halves = [batches(source, rows=rows) for rows in (slice(2), slice(2, 4))]
  np.testing.assert_array_equal(seen, np.concatenate(halves, axis=1))


def test_without_training_a_random_crop_is_the_centre(folder):
  config = dataset(folder, crop='random')
  random, centre = (
    data.load(config, 'train'),
    data.load(dataset(folder), 'train'),
  )
  np.testing.assert_array_equal(random.examples, centre.examples)
  assert random.wide is None


def test_crops_are_streamed_from_a_cache_that_exceeds_memory(
  folder, monkeypatch
):
  config = dataset(folder, crop='random')
  held = batches(data.load(config, 'train', for_training=True))
  monkeypatch.setattr(data, 'IN_MEMORY_BYTES', 0)
  source = data.load(config, 'train', for_training=True)
  assert not source.is_in_memory
  np.testing.assert_array_equal(batches(source), held)


def test_a_damaged_cache_of_wide_pictures_is_made_again(tmp_path, capsys):
  pictures = [stripes(8, 12), stripes(10, 8)]
  shape = (2, 8, 8, 3)
  entry = tmp_path / 'cache' / 'entry'
  first = stored.load(entry, pictures, shape, 2**20)
  for damage in (b'short', bytes(first.pixels.size)):
    (entry / 'pixels').write_bytes(damage)
    again = stored.load(entry, pictures, shape, 2**20)
    assert 'damaged' in capsys.readouterr().out
    np.testing.assert_array_equal(again.pixels, first.pixels)


def test_places_of_crops_are_equally_likely():
  wide = wide_images.join([stripes(8, 11)], (8, 8, 3))
  words = wide_images.random_words(0, 4000, 0)
  crops = wide.crops(np.zeros(4000, int), words)
  counts = np.bincount(crops[:, 0, 0, 1] // 4)
  assert len(counts) == 4
  assert np.all(np.abs(counts - 1000) < 150)


def test_the_order_of_crops_never_changes():
  # Written down once: a change here would change every resumed run.
  words = wide_images.random_words(1, 4, 2)
  assert (words >> np.uint64(48)).tolist() == [9927, 2188, 25956, 24558]


def test_a_run_says_that_there_is_nothing_to_crop():
  config = dataset(crop='random')
  source = data.load(config, 'test', for_training=True)
  (note,) = source.report.lines()
  assert 'dataset.crop=random changes nothing' in note
  config.image_size = (8, 16)
  source = data.load(config, 'test', for_training=True)
  assert source.report.lines() == []
  assert source.wide.can_differ


def test_cached_pictures_of_other_crops_and_sizes_are_kept_apart(
  folder, tmp_path
):
  for changes in (
    {},
    {'crop': 'fit'},
    {'crop': 'fit', 'background': 'black'},
    {'image_size': (8, 9)},
    {'image_size': (9, 8)},
  ):
    data.load(dataset(folder, **changes), 'train')
  entries = tmp_path / 'cache' / 'gan_vae_flax' / 'images'
  assert len([*entries.iterdir()]) == 5
  data.load(dataset(folder, image_size=(8, 8)), 'train')  # that of 8
  assert len([*entries.iterdir()]) == 5


def test_pictures_decode_to_rectangles_at_a_lower_resolution():
  buffer = io.BytesIO()
  PIL.Image.fromarray(stripes(64, 60)).save(buffer, 'JPEG', quality=95)
  whole = PIL.Image.fromarray(stripes(64, 60))

  pixels = decode.decode(buffer.getvalue(), (8, 4), 3)
  expected = np.asarray(images.crop_and_resize(whole, (8, 4)))
  assert pixels.shape == (8, 4, 3)
  assert np.abs(pixels.astype(int) - expected).mean() < 4


@pytest.mark.parametrize('side', [8, 16])
def test_arrays_are_cropped_at_random_where_their_shape_allows(tmp_path, side):
  path = tmp_path / 'wide.npy'
  np.save(path, np.stack([stripes(16, 48), stripes(16, 16).repeat(3, 1)] * 5))
  config = dataset(crop='random', image_size=side)
  config.update(name='folder', path=str(path))
  source = data.load(config, 'train', for_training=True)
  assert source.wide.can_differ
  assert len({x.tobytes() for x in batches(source).reshape(12, -1)}) > 3
  config.image_size = (16, 48)  # as they are
  source = data.load(config, 'train', for_training=True)
  assert batches(source).shape == (3, 4, 16, 48, 3)
  assert [x[:40] for x in source.report.lines()] == [
    'dataset.crop=random changes nothing: all'
  ]
  assert not data.load(config, 'train').report.lines()
