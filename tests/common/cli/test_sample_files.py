"""Samples as pictures, animations, arrays and folders."""

import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from common_flax import data
from common_flax.cli import animations
from common_flax.cli import plotting
from common_flax.cli import sample_files
from common_flax.errors import UserError

NUM = 10
LABELS = np.array([1] * 8 + [0] * 2, np.int32)
NAMES = ('cats', 'dogs')


@pytest.fixture
def images():
  random = np.random.default_rng(0)
  return random.integers(0, 256, (NUM, 12, 12, 3), np.uint8)


def write(path, images, **options):
  chunks = (images[start : start + 4] for start in range(0, len(images), 4))
  sample_files.write(str(path), chunks, images.shape, **options)


@pytest.mark.parametrize('ending', ['png', 'webp', 'jpg', 'JPEG'])
def test_pictures_show_the_same_grid(tmp_path, images, ending):
  smooth = np.broadcast_to(images[:, :1, :1], images.shape)
  write(tmp_path / f'x.{ending}', smooth, columns=8)
  with PIL.Image.open(tmp_path / f'x.{ending}') as picture:
    grid = np.asarray(picture).astype(int)
  assert grid.shape == (2 * 14 + 2, 8 * 14 + 2, 3)
  lossy = 12 if ending[0] in 'jJ' else 0
  assert np.abs(grid[8, 8] - smooth[0, 6, 6]).max() <= lossy
  assert np.abs(grid[22, 22] - smooth[9, 6, 6]).max() <= lossy


def test_arrays_hold_images_and_what_they_show(tmp_path, images):
  for name in ('x.npz', 'x.npy'):
    write(tmp_path / name, images, labels=LABELS, class_names=NAMES)
  np.testing.assert_array_equal(np.load(tmp_path / 'x.npy'), images)
  with np.load(tmp_path / 'x.npz', allow_pickle=False) as file:
    np.testing.assert_array_equal(file['images'], images)
    np.testing.assert_array_equal(file['labels'], LABELS)
    assert file['class_names'].tolist() == list(NAMES)


def test_an_npz_holds_the_latents_of_its_images(tmp_path, images):
  z = np.random.default_rng(1).normal(size=(NUM, 5)).astype(np.float32)
  for name in ('x.npz', 'x.npy'):
    write(tmp_path / name, images, latents=np.array_split(z, 3))
  with np.load(tmp_path / 'x.npz', allow_pickle=False) as file:
    np.testing.assert_array_equal(file['latents'], z)
    np.testing.assert_array_equal(file['images'], images)
  np.testing.assert_array_equal(np.load(tmp_path / 'x.npy'), images)


def test_a_folder_bears_the_names_and_can_be_trained_on(tmp_path, images):
  write(tmp_path / 'x', images, labels=LABELS, class_names=NAMES)
  found = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob('*.png'))
  expected = [f'x/cats/{i:06d}.png' for i in (8, 9)]
  expected += [f'x/dogs/{i:06d}.png' for i in range(8)]
  assert list(map(str, found)) == expected
  source = data.load_source('folder', 'train', 12, path=str(tmp_path / 'x'))
  assert source.class_names == NAMES


def test_rows_of_a_grid_bear_the_names(tmp_path, images):
  options = dict(columns=8, labels=LABELS)
  write(tmp_path / 'plain.png', images, columns=8)
  write(tmp_path / 'names.png', images, **options, class_names=NAMES)
  write(tmp_path / 'swapped.png', images, **options, class_names=NAMES[::-1])
  write(tmp_path / 'numbers.png', images, **options, class_names=('0', '1'))
  plain, names, swapped, numbers = (
    np.asarray(PIL.Image.open(tmp_path / f'{name}.png'))
    for name in ('plain', 'names', 'swapped', 'numbers')
  )
  np.testing.assert_array_equal(numbers, plain)  # which say no more
  width = plain.shape[1]
  np.testing.assert_array_equal(names[:, -width:], plain)
  column, other = (grid[:, :-width] for grid in (names, swapped))
  assert (column != 128).any()
  # The names of the rows, dogs and cats, change places.
  np.testing.assert_array_equal(column[2:14], other[16:28])
  np.testing.assert_array_equal(column[16:28], other[2:14])
  assert not np.array_equal(column[2:14], column[16:28])


def test_a_row_of_several_classes_bears_no_name(tmp_path, images):
  write(tmp_path / 'plain.png', images, columns=8)
  mixed = dict(columns=8, labels=LABELS[::-1], class_names=NAMES)
  write(tmp_path / 'mixed.png', images, **mixed)
  same = [(tmp_path / f'{x}.png').read_bytes() for x in ('plain', 'mixed')]
  assert same[0] == same[1]


def test_any_name_can_be_drawn():
  grid = np.zeros((30, 20, 1), np.uint8)
  for name in ('$x$', 'a\nb', 'книги', '\udcff', 'w' * 5000):
    drawn = plotting.name_rows(grid, [name])
    assert drawn.shape[0] == 30
    assert 20 < drawn.shape[1] < 2000


def test_names_of_folders_are_safe_and_different():
  names = ['../x', 'T-shirt/top', '..', 'train', 'Cat', 'cat', 'w' * 300, 'a\0']
  found = sample_files.folder_names(names)
  assert found[:2] == ['_._x', 'T-shirt_top']
  assert found[3] == 'train_'
  assert found[4:6] == ['Cat', 'cat_5']
  assert len({*found}) == len(names)
  for name in found:
    assert not name.startswith('.')
    assert not {*name} & {*'/\\\0'}
    assert len(name) < 200


def test_a_failed_folder_leaves_nothing(tmp_path, images):
  def failing():
    yield images[:4]
    raise UserError('drawing failed')

  for folder in (tmp_path / 'new', tmp_path):
    with pytest.raises(UserError, match='drawing failed'):
      sample_files.write(str(folder), failing(), images.shape)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_command_left_is_not_mixed_in(tmp_path, images):
  (tmp_path / '.partial').mkdir()
  (tmp_path / '.partial' / '000099.png').touch()
  write(tmp_path, images)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == [f'{i:06d}.png' for i in range(NUM)]


def test_a_gif_shows_one_image_after_another(tmp_path, images):
  images = np.broadcast_to(images[:, :1, :1], images.shape)
  write(tmp_path / 'x.gif', images)
  with PIL.Image.open(tmp_path / 'x.gif') as gif:
    assert gif.n_frames == NUM
    for i, image in enumerate(images):
      gif.seek(i)
      frame = np.asarray(gif.convert('RGB')).astype(int)
      assert min(frame.shape[:2]) > 200  # enlarged
      assert np.abs(frame[100, 100] - image[0, 0]).max() <= 8


@pytest.mark.parametrize('has_pause', [False, True])
@pytest.mark.parametrize('ending', ['webp', 'gif'])
def test_a_walk_is_an_animation_of_its_frames(
  tmp_path, images, ending, has_pause
):
  path = tmp_path / f'x.{ending}'
  write(path, images, timing=animations.Timing(25, has_pause))
  with PIL.Image.open(path) as walk:
    assert walk.n_frames == NUM
    durations = []
    for i, image in enumerate(images):
      walk.seek(i)
      walk.load()
      durations.append(walk.info['duration'])
      frame = np.asarray(walk.convert('RGB'))[::21, ::21]
      if ending == 'webp':
        np.testing.assert_array_equal(frame, image)
  assert durations == [40] * (NUM - 1) + [2000 if has_pause else 40]


@pytest.mark.parametrize('shape', [(12, 12, 3), (15, 12, 1)])
def test_an_mp4_shows_one_image_after_another(tmp_path, shape):
  ffmpeg = pytest.importorskip('imageio_ffmpeg', reason='an extra')
  images = np.empty((NUM, *shape), np.uint8)
  images[:] = np.arange(NUM).reshape(-1, 1, 1, 1) * 25
  write(tmp_path / 'x.mp4', images)
  assert [path.name for path in tmp_path.iterdir()] == ['x.mp4']
  command = [ffmpeg.get_ffmpeg_exe(), '-i', tmp_path / 'x.mp4']
  command += ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']
  video = subprocess.run(command, check=True, capture_output=True).stdout
  frames = np.frombuffer(video, np.uint8).reshape(NUM, -1)
  found = frames.mean(axis=1)
  np.testing.assert_allclose(found, images.mean(axis=(1, 2, 3)), atol=4)


def test_without_its_package_mp4_is_refused(monkeypatch):
  monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
  animations.check_available('x.gif')
  with pytest.raises(
    UserError, match=r'x\.mp4: .*pip install imageio-ffmpeg, .*FILE\.gif'
  ):
    animations.check_available('x.mp4')


def test_a_grid_too_large_for_its_format_is_refused():
  sample_files.check_size('x.png', 10**6, (28, 28, 1), None)
  sample_files.check_size('x.webp', 10**4, (28, 28, 1), None)
  with pytest.raises(UserError, match=r'30,002 .*16,383.*FILE\.png'):
    sample_files.check_size('x.webp', 10**6, (28, 28, 1), None)


def test_a_walk_may_have_more_frames_than_a_grid_has_columns():
  timing = animations.Timing(25, has_pause=False)
  sample_files.check_size('x.webp', 2000, (28, 28, 1), 1000, timing)
  with pytest.raises(UserError, match=r'30,002 .*16,383'):
    sample_files.check_size('x.webp', 2000, (28, 28, 1), 1000)
  with pytest.raises(UserError, match=r'90,002 .*65,500'):
    sample_files.check_size('x.jpg', 6000, (28, 28, 1), 3000, timing)
