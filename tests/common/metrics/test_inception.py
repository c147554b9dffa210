"""The network's weights: where they come from, and that they fit."""

import hashlib
import pathlib
import urllib.request

import numpy as np
import pytest

from common_flax.errors import UserError
from common_flax.metrics import inception
from common_flax.metrics import inception_weights
from common_flax.metrics import torch_weights

CONTENT = b'not a pickle'


@pytest.fixture
def cache(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  return tmp_path


@pytest.fixture
def published(monkeypatch, tmp_path):
  """A file takes the place of the one on the net."""
  file = tmp_path / 'published'
  file.write_bytes(CONTENT)
  monkeypatch.setattr(inception_weights, 'URL', file.as_uri())
  return file


def test_weights_are_fetched_once(cache, published, monkeypatch):
  digest = hashlib.sha256(CONTENT).hexdigest()
  monkeypatch.setattr(inception_weights, '_SHA256_PREFIX', digest[:8])
  monkeypatch.setattr(torch_weights, 'parse', lambda data, name: {'data': data})
  expected = (str(inception_weights.cached()), {'data': CONTENT}, digest)
  assert inception_weights.read(None) == expected
  published.unlink()
  assert inception_weights.read(None) == expected


def test_another_file_is_not_kept(cache, published):
  with pytest.raises(UserError, match='not 6726825d') as error:
    inception_weights.read(None)
  assert '--inception_weights=FILE' in str(error.value)
  assert not list((cache / 'gan_vae_flax').rglob('*.pth'))


def test_without_a_net_there_is_a_way_out(cache, monkeypatch):
  def fail(*unused_arguments, **also_unused):
    raise urllib.request.URLError('no route')

  monkeypatch.setattr(urllib.request, 'urlopen', fail)
  with pytest.raises(UserError, match=r'no route.*--inception_weights=FILE'):
    inception_weights.read(None)


def test_a_file_that_is_given_may_have_any_hash(tmp_path, monkeypatch):
  file = tmp_path / 'mine.pth'
  file.write_bytes(CONTENT)
  monkeypatch.setattr(torch_weights, 'parse', lambda data, name: {})
  _, _, digest = inception_weights.read(str(file))
  assert digest == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
  ('path', 'words'),
  [
    ('nosuch.pth', 'No such file'),
    (__file__, 'not a readable PyTorch weight file'),
  ],
)
def test_what_cannot_be_read_is_named(path, words):
  with pytest.raises(UserError, match=words) as error:
    inception_weights.read(path)
  assert pathlib.Path(path).name in str(error.value)


def test_weights_of_another_network_are_refused():
  with pytest.raises(ValueError, match='lacks Conv2d_1a_3x3'):
    inception.variables_from({})
  name = 'Conv2d_1a_3x3.bn.running_mean'  # the first that is looked for
  with pytest.raises(ValueError, match=rf'{name} has .* \[31\]'):
    inception.variables_from({name: np.zeros(31)})
  wrong = {name: np.full(32, np.nan)}
  with pytest.raises(ValueError, match='not finite'):
    inception.variables_from(wrong)
