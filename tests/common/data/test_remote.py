"""Remote folders are copied to the cache once, and never outside it."""

import io
import sys

import fsspec
import PIL.Image
import pytest

from common_flax import config
from common_flax import data
from common_flax.data import remote
from common_flax.data.own import open_images
from common_flax.errors import UserError


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
  copy = remote.local_copy('memory://photos', keep)
  return copy, {
    str(file.relative_to(copy)): file.read_bytes()
    for file in copy.rglob('*')
    if file.is_file()
  }


def test_a_local_folder_is_taken_as_it_is(tmp_path):
  assert remote.local_copy(str(tmp_path)) == tmp_path


def test_a_copy_holds_every_object(store):
  names = ('a.png', 'cats/b.PNG', 'cats/notes.txt')
  assert copied()[1] == {name: name.encode() for name in names}


def test_a_copy_holds_only_the_wanted_suffixes(store):
  assert {*copied(keep=('.png',))[1]} == {'a.png', 'cats/b.PNG'}


def test_a_copy_is_not_fetched_again(store, monkeypatch):
  first = copied()
  monkeypatch.setattr(remote, '_fetch', None)
  assert copied() == first


def test_a_changed_object_makes_another_copy(store):
  first, _ = copied()
  store.pipe('/photos/a.png', b'A.png')
  second, objects = copied()
  assert second != first
  assert objects['a.png'] == b'A.png'


@pytest.mark.parametrize('name', ['../out.png', 'cats/../../out.png'])
def test_a_name_outside_the_folder_is_refused(store, monkeypatch, name):
  about = {'size': 1, 'mtime': 0}
  found = {f'/photos/{name}': about}
  with monkeypatch.context() as patch:
    patch.setattr(type(store), 'find', lambda *_, **__: found)
    with pytest.raises(UserError, match='leads outside the folder'):
      copied()


def test_a_missing_folder_is_named(store):
  with pytest.raises(UserError, match='memory://none: no such folder'):
    remote.local_copy('memory://none')


def test_a_store_of_an_unknown_kind_is_named(store):
  with pytest.raises(UserError, match='unknown://x: cannot be reached'):
    remote.local_copy('unknown://x')


def test_a_failed_copy_leaves_no_files(store, tmp_path, monkeypatch):
  def fail(*unused):
    raise OSError('gone')

  monkeypatch.setattr(type(store), 'get', fail)
  with pytest.raises(UserError, match=r'cannot be copied to .*: gone'):
    copied()
  assert not [file for file in tmp_path.rglob('*') if file.is_file()]


def test_a_broken_image_is_named_by_its_remote_path(store):
  images = open_images('memory://photos', 'train')
  assert {images.name(i) for i in range(len(images))} <= {
    'memory://photos/a.png',
    'memory://photos/cats/b.PNG',
  }
  with pytest.raises(UserError, match=r'memory://photos/.*cannot be decoded'):
    data.load_source('folder', 'train', 8, path='memory://photos')


def test_a_store_whose_library_is_missing_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, 'gcsfs', None)
  with pytest.raises(UserError, match=r'^gs://b/x: .*pip install gcsfs google'):
    remote.local_copy('gs://b/x')
  with pytest.raises(
    UserError, match=r'^--workdir=gs://b/x: .*pip install gcsfs google'
  ):
    config.require_reachable('--workdir', 'gs://b/x')


@pytest.mark.parametrize('labels', [None, 'tables/Kinds.csv'])
def test_a_remote_folder_keeps_its_tables_of_labels(store, labels):
  content = io.BytesIO()
  PIL.Image.new('L', (8, 8)).save(content, 'PNG')
  for i in range(12):
    store.pipe(f'/marked/{i}.png', content.getvalue() + bytes([i]))
  table = b'{"labels": [["0.png", 0], ["1.png", 2]]}'
  store.pipe('/marked/dataset.json', table)
  rows = '\n'.join(f'{i}.png,{i % 4}' for i in range(12))
  store.pipe('/marked/tables/Kinds.csv', f'file,label\n{rows}'.encode())
  images = open_images('memory://marked', 'train', labels=labels)
  assert (images.num_classes, len(images)) == ((4, 11) if labels else (3, 2))
