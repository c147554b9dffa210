"""Remote folders are copied once, and never out of the cache."""

import sys

import fsspec
import pytest

from common_flax import config
from common_flax import data
from common_flax.config import UserError
from common_flax.data import remote
from common_flax.data.folder import FolderImages
from common_flax.data.source import unseen


@pytest.fixture
def store(tmp_path, monkeypatch):
  """A store in memory, with something in it; the cache is empty."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  store = fsspec.filesystem('memory')
  for name in ('a.png', 'cats/b.PNG', 'cats/notes.txt'):
    store.pipe(f'/photos/{name}', name.encode())
  yield store
  store.rm('/', recursive=True)


def copied(keep=None):
  copy = remote.local_copy('memory://photos', unseen, keep)
  return copy, {
    str(file.relative_to(copy)): file.read_bytes()
    for file in copy.rglob('*')
    if file.is_file()
  }


def test_a_local_folder_is_taken_as_it_is(tmp_path):
  assert remote.local_copy(str(tmp_path), unseen) == tmp_path


def test_a_copy_holds_every_object(store):
  names = ('a.png', 'cats/b.PNG', 'cats/notes.txt')
  assert copied()[1] == {name: name.encode() for name in names}


def test_a_copy_holds_what_is_asked_for(store):
  assert {*copied(keep=('.png',))[1]} == {'a.png', 'cats/b.PNG'}


def test_what_was_copied_is_not_fetched_again(store, monkeypatch):
  first = copied()
  monkeypatch.setattr(remote, '_fetch', None)
  assert copied() == first


def test_other_objects_make_another_copy(store):
  first, _ = copied()
  store.pipe('/photos/a.png', b'A.png')
  second, objects = copied()
  assert second != first
  assert objects['a.png'] == b'A.png'


@pytest.mark.parametrize('name', ['../out.png', 'cats/../../out.png'])
def test_a_name_that_leads_out_of_the_folder_is_refused(
  store, monkeypatch, name
):
  about = {'size': 1, 'mtime': 0}
  found = {f'/photos/{name}': about}
  with monkeypatch.context() as patch:
    patch.setattr(type(store), 'find', lambda *_, **__: found)
    with pytest.raises(UserError, match='leads out of the folder'):
      copied()


def test_a_folder_that_is_not_there_is_named(store):
  with pytest.raises(UserError, match='memory://none: there is no such folder'):
    remote.local_copy('memory://none', unseen)


def test_a_store_of_an_unknown_kind_is_named(store):
  with pytest.raises(UserError, match='unknown://x: cannot be reached'):
    remote.local_copy('unknown://x', unseen)


def test_nothing_remains_of_a_copy_that_failed(store, tmp_path, monkeypatch):
  def fail(*unused):
    raise OSError('gone')

  monkeypatch.setattr(type(store), 'get', fail)
  with pytest.raises(UserError, match=r'cannot be copied to .*: gone'):
    copied()
  assert not [file for file in tmp_path.rglob('*') if file.is_file()]


def test_an_image_that_is_broken_is_called_by_its_own_name(store):
  images = FolderImages('memory://photos', 'train')
  assert {images.name(i) for i in range(len(images))} <= {
    'memory://photos/a.png',
    'memory://photos/cats/b.PNG',
  }
  with pytest.raises(UserError, match=r'memory://photos/.*cannot be decoded'):
    data.load_source('folder', 'train', 8, path='memory://photos')


def test_a_store_whose_library_is_missing_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, 'gcsfs', None)
  with pytest.raises(
    UserError, match=r"^gs://b/x: .*pip install -e '.\[gcs\]'"
  ):
    remote.local_copy('gs://b/x', unseen)
  with pytest.raises(UserError, match=r"^--workdir=gs://b/x: .*'.\[gcs\]'"):
    config.require_reachable('--workdir', 'gs://b/x')
