"""Hostile folders of images are refused by name; nothing hangs."""

import io
import os
import pathlib
import signal
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from common_flax.data import image_sets
from common_flax.data import load_source
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode
from common_flax.errors import UserError
from gan_flax import main as gan_main

SIZE = 8
SECONDS = 20  # limit of a test


@pytest.fixture(autouse=True)
def alarm():
  def hang(*unused):
    pytest.fail('it hangs')  # no error handler catches this

  previous = signal.signal(signal.SIGALRM, hang)
  signal.alarm(SECONDS)
  yield
  signal.alarm(0)
  signal.signal(signal.SIGALRM, previous)


def image(kind='PNG', mode='RGB', size=(9, 7), **options):
  """The content of an image file."""
  pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3))
  picture = PIL.Image.fromarray(pixels.astype(np.uint8)).convert(mode)
  buffer = io.BytesIO()
  picture.save(buffer, kind, **options)
  return buffer.getvalue()


def frames(kind):
  """An image file of many frames."""
  first, *rest = (PIL.Image.new('L', (9, 9), i) for i in range(200))
  buffer = io.BytesIO()
  first.save(buffer, kind, save_all=True, append_images=rest)
  return buffer.getvalue()


def chunk(name, content):
  checksum = zlib.crc32(name + content)
  return (
    struct.pack('>I', len(content))
    + name
    + content
    + struct.pack('>I', checksum)
  )


def png(width, height, rows=b'', *more):
  """A grey PNG whose header claims a size."""
  header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
  parts = [chunk(b'IHDR', header), *more, chunk(b'IDAT', zlib.compress(rows))]
  return b'\x89PNG\r\n\x1a\n' + b''.join([*parts, chunk(b'IEND', b'')])


def sixteen_bits():
  buffer = io.BytesIO()
  greys = np.linspace(0, 65535, 63).astype(np.uint16).reshape(7, 9)
  PIL.Image.fromarray(greys).save(buffer, 'PNG')
  return buffer.getvalue()


ODD = {
  '16 bits': sixteen_bits(),
  'CMYK': image('JPEG', 'CMYK'),
  'palette': image('PNG', 'P', transparency=b'\0\1\2'),
  'two colours': image('PNG', '1'),
  'grey and alpha': image('PNG', 'LA'),
  'alpha': image('WEBP', 'RGBA'),
  'one pixel': image(size=(1, 1)),
  'a column': image(size=(1, 10_000)),
  'a row': image(size=(10_000, 1)),
  'frames of WebP': frames('WEBP'),
  'frames of PNG': frames('PNG'),
  'a GIF': image('GIF', 'P'),
  'a TIFF': image('TIFF'),
  'pages of TIFF': frames('TIFF'),
}
BROKEN = {
  'nothing': b'',
  'random bytes': np.random.default_rng(0).bytes(5000),
  'text': b'<html>no image</html>',
  'a header of 60000 x 60000': png(60_000, 60_000),
  'a header of the largest size': png(2**31 - 1, 2**31 - 1),
  'a header of no size': png(0, 0),
  'many pixels in few bytes': png(10_000, 10_000, bytes(10_001) * 10_000),
  'no rows': png(9, 9),
  'a text of 100 MB': png(
    9, 9, bytes(90), chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(10**8)))
  ),
  'a program': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'
  b'%%EndComments\n{} loop\n',
  'an icon': image('ICO', size=(16, 16)),
  'a JPEG named WebP, cut': image('JPEG')[:100],
}


@pytest.mark.parametrize('name', ODD)
def test_an_odd_image_is_decoded(name):
  for channels in (1, 3):
    pixels = decode(ODD[name], SIZE, channels)
    assert pixels.shape == (SIZE, SIZE, channels)
    whole = decode(ODD[name], None, channels)
    assert whole.shape[-1] == channels


@pytest.mark.filterwarnings('ignore')  # the default outside of tests
@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_image_is_refused(name):
  for broken in (
    lambda data: decode(data, SIZE, 3),
    lambda data: decode(data, None, 1),
  ):
    with pytest.raises(CorruptImageError) as error:
      broken(BROKEN[name])
    assert str(error.value)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP', 'GIF', 'BMP', 'TIFF'])
def test_a_cut_image_is_decoded_or_refused(kind):
  data, refused = image(kind), 0
  for length in range(len(data)):
    try:
      assert decode(data[:length], SIZE, 3).shape == (SIZE, SIZE, 3)
    except CorruptImageError:
      refused += 1
  assert refused > len(data) / 2


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP', 'TIFF'])
def test_an_image_with_wrong_bytes_is_decoded_or_refused(kind, seed):
  data, random = image(kind), np.random.default_rng(seed)
  for _ in range(50):
    wrong = np.frombuffer(data, np.uint8).copy()
    places = random.integers(len(wrong), size=random.integers(1, 6))
    wrong[places] = random.integers(0, 256, len(places))
    try:
      assert decode(wrong.tobytes(), SIZE, 3).shape == (SIZE, SIZE, 3)
    except CorruptImageError as error:
      assert str(error)


@pytest.fixture
def folder(tmp_path):
  """A folder of ten good images."""
  folder = tmp_path / 'images'
  folder.mkdir()
  for number in range(10):
    (folder / f'{number}.png').write_bytes(image())
  return folder


def load(folder, skip_corrupt=False):
  return load_source(
    'folder', 'train', SIZE, path=str(folder), skip_corrupt=skip_corrupt
  )


@pytest.mark.parametrize('ending', ['png', 'JPG', 'tiff'])
@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_file_is_named_and_can_be_left_out(folder, name, ending):
  (folder / 'train').mkdir()
  for path in folder.glob('*.png'):
    path.rename(folder / 'train' / path.name)
  broken = folder / 'train' / f'broken.{ending}'
  broken.write_bytes(BROKEN[name])
  with pytest.raises(UserError, match=f'broken.{ending}.*skip_corrupt'):
    load(folder)
  source = load(folder, skip_corrupt=True)
  assert len(source) == 10
  assert [x.name for x in source.report.left_out] == [str(broken)]
  with pytest.raises(UserError, match=f'broken.{ending}'):
    image_sets.read(str(folder))


def make_pipe(path):
  os.mkfifo(path)


def link_to(target):
  return lambda path: path.symlink_to(target)


NO_FILES = {
  'a pipe': make_pipe,
  'a link to a device': link_to('/dev/zero'),
  'a link outside': link_to('../outside.png'),
  'a link to a system file': link_to('/etc/passwd'),
  'a link to the folder above': link_to('..'),
}
BROKEN_LINKS = {
  'a link to itself': lambda path: path.symlink_to(path.name),
  'a link to nothing': link_to('nothing.png'),
}


@pytest.mark.parametrize('skip_corrupt', [False, True])
@pytest.mark.parametrize('kind', NO_FILES)
def test_a_path_named_like_an_image_that_is_none_is_named(
  folder, kind, skip_corrupt
):
  (folder.parent / 'outside.png').write_bytes(image())
  NO_FILES[kind](folder / 'odd.png')
  with pytest.raises(UserError, match=r'odd\.png'):
    load(folder, skip_corrupt)
  with pytest.raises(UserError, match=r'odd\.png'):
    image_sets.read(str(folder))


@pytest.mark.parametrize('kind', BROKEN_LINKS)
def test_a_broken_link_is_named_and_can_be_left_out(folder, kind):
  BROKEN_LINKS[kind](folder / 'odd.png')
  with pytest.raises(UserError, match=r'odd\.png.*skip_corrupt'):
    load(folder)
  source = load(folder, skip_corrupt=True)
  assert [(x.name, x.reason) for x in source.report.left_out] == [
    (str(folder / 'odd.png'), 'a broken link')
  ]


@pytest.mark.parametrize('name', ['class', 'train'])
def test_a_link_to_a_folder_outside_is_named(folder, name):
  outside = folder.parent / 'outside'
  outside.mkdir()
  (outside / 'image.png').write_bytes(image())
  (folder / name).symlink_to(outside)
  with pytest.raises(UserError, match=f'{name}: is a link to .*outside'):
    load(folder)


def test_links_inside_and_a_link_to_the_folder_itself_are_followed(folder):
  (folder / 'again.png').symlink_to(folder / '0.png')
  (folder.parent / 'link').symlink_to(folder)
  assert len(load(folder.parent / 'link')) == 10


def test_a_folder_named_like_an_image_is_a_class(folder):
  (folder / 'x.png').mkdir()
  (folder / 'x.png' / 'y.png').write_bytes(image())
  assert len(load(folder)) == 10


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read anything')
@pytest.mark.parametrize('name', ['0.png', '.'])
def test_an_unreadable_path_is_named(folder, name):
  (folder / name).chmod(0)
  try:
    with pytest.raises(UserError, match='cannot be read'):
      load(folder)
  finally:
    (folder / name).chmod(0o700)


@pytest.mark.parametrize(
  'name',
  ['a\nb', '-rf', '$(touch x)', '; touch x', 'x' * 250, 'é漢', b'\xff\xfe'],
  ids=range(7),
)
def test_an_oddly_named_file_is_left_out_in_one_line(folder, name):
  name = os.fsdecode(name)
  for number in range(5):  # enough for one to be in the training split
    (folder / f'{name}{number}.png').write_bytes(b'broken')
  report = load(folder, skip_corrupt=True).report
  lines = report.text().splitlines()
  assert len(lines) == len(report.left_out) > 0
  assert all(line.isprintable() for line in [*lines, *report.lines()])
  assert not pathlib.Path('x').exists()


@pytest.mark.parametrize('name', ['a\nb.png', os.fsdecode(b'\xff.png')])
def test_training_on_an_oddly_named_broken_file_ends_in_one_line(
  folder, capfd, in_the_repository, name
):
  for path in folder.iterdir():
    path.unlink()
  (folder / name).write_bytes(b'broken')
  workdir = folder.parent / 'run'
  status = gan_main.main(
    [
      'command',
      '--config=configs/dcgan.py:smoke',
      '--config.dataset.name=folder',
      f'--config.dataset.path={folder}',
      f'--workdir={workdir}',
    ]
  )
  assert status == 2
  error = capfd.readouterr().err
  assert error.startswith('error: ')
  assert error.count('\n') == 1
  assert not workdir.exists()
