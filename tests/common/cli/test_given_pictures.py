"""Pictures of one's own become what images of a data set are."""

import numpy as np
import PIL.Image
import pytest

from common_flax.cli import given_pictures
from common_flax.data.decode import decode
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
  """Pictures of all kinds of files, and a text."""
  image = PIL.Image.fromarray(PIXELS)
  (tmp_path / 'sub').mkdir()
  for name in ('a.png', 'b.jpg', 'c.webp', 'd.gif', 'e.tiff', 'sub/f.bmp'):
    image.save(tmp_path / name)
  PIL.Image.new('RGBA', (8, 8), (0, 0, 0, 0)).save(tmp_path / 'g.png')
  (tmp_path / 'notes.txt').write_text('text')
  return tmp_path


def read(path, size=8, channels=3, rendering=ON_WHITE):
  return given_pictures.read(str(path), size, channels, rendering)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_folder_is_decoded_as_a_data_set_is(folder, channels, capsys):
  images, names = read(folder, channels=channels)
  files = ['a.png', 'b.jpg', 'c.webp', 'd.gif', 'e.tiff', 'g.png', 'sub/f.bmp']
  assert names == files
  for image, name in zip(images, names, strict=True):
    expected = decode((folder / name).read_bytes(), 8, channels)
    np.testing.assert_array_equal(image, expected)
  said = capsys.readouterr().out
  assert 'Left out 1 file' in said
  assert '6 of 7 pictures resized to 8x8 pixels' in said
  assert '1 of 7 pictures with transparency, rendered by' in said
  assert ('7 of 7 pictures in colour, made grey' in said) == (channels == 1)


def test_the_background_is_that_of_the_run(folder):
  (white,), _ = read(folder / 'g.png')
  (black,), names = read(folder / 'g.png', rendering=Rendering('black'))
  assert names == ['g.png']
  assert (white == 255).all()
  assert (black == 0).all()


def test_an_npz_of_samples_is_read(folder, capsys):
  images = np.stack([PIXELS[:8, :8], PIXELS[8:16, :8]])
  np.savez(folder / 'x.npz', images=images)
  # Its images are 8 bits deep, whatever the run's files are.
  found, names = read(folder / 'x.npz', rendering=Rendering('white', 15.0))
  np.testing.assert_array_equal(found, images)
  assert names == ['x.npz[0]', 'x.npz[1]']
  assert not capsys.readouterr().out
  assert read(folder / 'x.npz', size=4, channels=1)[0].shape == (2, 4, 4, 1)
  assert '2 of 2 pictures resized to 4x4 pixels' in capsys.readouterr().out


def test_pictures_on_their_side_keep_their_size(folder, capsys):
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  image = PIL.Image.fromarray(PIXELS[:8, :8])
  image.save(folder / 'turned.jpg', exif=exif)
  read(folder / 'turned.jpg')
  assert not capsys.readouterr().out


@pytest.mark.parametrize(
  ('name', 'content', 'words'),
  [
    ('notes.txt', b'text', '^--images=.*notes.txt: is no image; give a folder'),
    ('broken.png', b'text', '^--images: .*broken.png: .*not an image.*repair'),
    ('cut.png', 'CUT', '^--images: .*cut.png: cannot be decoded'),
    ('empty.png', b'', '^--images: .*empty.png: cannot be decoded .empty.'),
    ('x.npz', b'text', '^--images: .*x.npz: cannot be read'),
    ('nosuch.png', None, '^--images=.*nosuch.png: there is no such file'),
  ],
)
def test_other_files_are_refused(folder, name, content, words):
  if content == 'CUT':
    content = (folder / 'a.png').read_bytes()[:200]
  if content is not None:
    (folder / name).write_bytes(content)
  with pytest.raises(UserError, match=words):
    read(folder / name)
  if name.endswith('.png') and content is not None:
    with pytest.raises(UserError, match=name):
      read(folder)


def test_an_empty_folder_is_refused(tmp_path):
  with pytest.raises(UserError, match=r'^--images=.*: contains no images'):
    read(tmp_path)
