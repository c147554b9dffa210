"""What reaches the explorer from outside: files, flags, hosts."""

import socket

import numpy as np
import pytest

from common_flax import images as images_lib
from common_flax.data.rendering import ON_WHITE
from common_flax.errors import UserError
from common_flax.explore import __main__ as explore
from common_flax.explore import uploads

SHAPE = (8, 6, 3)


def png(height, width):
  image = np.full((height, width, 1), 200, np.uint8)
  return images_lib.to_png(image)


def test_an_uploaded_picture_becomes_an_image_of_the_run():
  image = uploads.decode(png(20, 15), SHAPE, ON_WHITE)
  assert image.shape == SHAPE
  np.testing.assert_array_equal(image, 200)
  drawn = uploads.to_url(image)
  again = uploads.decode_drawing(drawn, SHAPE, ON_WHITE)
  np.testing.assert_array_equal(again, image)


@pytest.mark.parametrize(
  ('data', 'sentence'),
  [
    (b'', 'empty'),
    (b'text', 'cannot be read'),
    (png(9, 9)[:50], 'cannot be read'),
    (bytes(uploads.MAX_BYTES + 1), 'more than 16 MB'),
  ],
  ids=['empty', 'text', 'cut', 'large'],
)
def test_other_files_are_refused_with_a_sentence(data, sentence):
  with pytest.raises(UserError, match=sentence):
    uploads.decode(data, SHAPE, ON_WHITE)


@pytest.mark.parametrize(
  'url', [None, 3, 'file:///etc/passwd', 'data:image/png;base64,!']
)
def test_a_drawing_is_a_png_and_nothing_else(url):
  with pytest.raises(UserError, match='did not arrive'):
    uploads.decode_drawing(url, SHAPE, ON_WHITE)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['--workdir', 'missing']),
    (['--workdir={tmp}/no'], ['no such folder']),
    (['--workdir={tmp}'], ['holds no checkpoint']),
    (['--workdir={run}', '--port=99999'], ['--port']),
    (['--workdir={run}', '--host=no.such.host.invalid'], ['--host']),
    (['--workdir={run}', '--port={taken}'], ['--port={taken}']),
  ],
)
def test_wrong_flags_are_refused(refuses, trained, tmp_path, arguments, words):
  pytest.importorskip('nicegui')
  with socket.socket() as other:
    other.bind(('127.0.0.1', 0))
    other.listen()
    names = {
      'tmp': tmp_path,
      'run': trained,
      'taken': other.getsockname()[1],
    }
    refuses(
      explore.main,
      [each.format(**names) for each in arguments],
      *[each.format(**names) for each in words],
      folder=tmp_path,
    )


def test_a_missing_installation_is_named(
  refuses, trained, tmp_path, monkeypatch
):
  monkeypatch.setattr(explore.startup, 'is_installed', lambda name: False)
  arguments = [f'--workdir={trained}']
  refuses(explore.main, arguments, '.[explore]', folder=tmp_path)


def test_only_this_machine_is_local():
  server = pytest.importorskip('common_flax.explore.server')
  assert all(map(server.is_local, ('127.0.0.1', 'localhost', '::1')))
  assert not any(map(server.is_local, ('0.0.0.0', '::', '10.0.0.1', 'a.b')))
