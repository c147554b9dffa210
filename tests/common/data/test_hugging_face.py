"""Data sets of Hugging Face's library, from files alone."""

import sys

from encoding import encode
import numpy as np
import pytest

from common_flax import data
from common_flax.errors import UserError

datasets = pytest.importorskip('datasets')

SIDE = 8
NUM = 20
NAMES = ['cat', 'dog']


@pytest.fixture(autouse=True)
def offline(monkeypatch):
  """Any use of the network fails."""
  datasets.disable_progress_bars()
  monkeypatch.setattr('socket.socket.connect', None)


def picture(i):
  pixels = np.full((SIDE, SIDE, 3), i, np.uint8)
  pixels[-1, -1] = 255
  return encode(pixels)


def dataset(numbers=range(NUM), image='image', **columns):
  """Pictures of these numbers, by default with classes of one name."""
  numbers = list(numbers)
  features = {image: datasets.Image()}
  values = {image: [{'bytes': picture(i), 'path': None} for i in numbers]}
  if not columns:
    columns = {'label': ([i % 2 for i in numbers], NAMES)}
  for name, (cells, names) in columns.items():
    values[name] = cells
    kind = 'int64' if isinstance(cells[0], int) else 'string'
    features[name] = datasets.Value(kind)
    if names:
      features[name] = datasets.ClassLabel(names=names)
  return datasets.Dataset.from_dict(values, datasets.Features(features))


def load(path, split='train', **options):
  return data.load_source('folder', split, SIDE, path=str(path), **options)


def refused(path, message, **options):
  with pytest.raises(UserError, match=message) as caught:
    load(path, **options)
  assert '\n' not in str(caught.value)


def shades(source):
  firsts = source.examples[:, 0, 0, 0].tolist()
  return dict(zip(firsts, source.labels.tolist(), strict=True))


def in_splits(tmp_path, kind):
  """A data set with splits, whose test split has a copy of the other."""
  parts = {'train': dataset(range(15)), 'test': dataset(range(14, NUM))}
  if kind == 'saved':
    datasets.DatasetDict(parts).save_to_disk(tmp_path / 'set')
  else:
    (tmp_path / 'set' / 'data').mkdir(parents=True)
    for name, part in parts.items():
      file = f'{name}-00000-of-00001.parquet'
      part.to_parquet(tmp_path / 'set' / 'data' / file)
  return tmp_path / 'set'


@pytest.mark.parametrize('kind', ['saved', 'parquet'])
def test_splits_and_class_names_are_read(tmp_path, kind):
  path = in_splits(tmp_path, kind)
  train, test = load(path), load(path, 'test')
  assert shades(train) == {i: i % 2 for i in range(15)}
  assert shades(test) == {i: i % 2 for i in range(15, NUM)}
  assert train.class_names == test.class_names == ('cat', 'dog')
  (copy,) = test.report.left_out
  assert copy.reason == 'also trained on'
  refused(path, 'the splits are train, test|test, train', split='validation')


@pytest.mark.parametrize('kind', ['saved', 'parquet'])
def test_without_splits_a_tenth_is_kept(tmp_path, kind):
  path = tmp_path / 'a.parquet'
  if kind == 'saved':
    path = tmp_path / 'set'
    dataset().save_to_disk(path)
  else:
    dataset().to_parquet(path)
  train, test = shades(load(path)), shades(load(path, 'test'))
  assert (len(train), len(test)) == (18, 2)
  assert train | test == {i: i % 2 for i in range(NUM)}


def test_a_file_that_is_replaced_is_read_anew(tmp_path):
  for numbers in (range(10), range(30, 40)):
    dataset(numbers).to_parquet(tmp_path / 'a.parquet')
    assert shades(load(tmp_path / 'a.parquet')).keys() <= {*numbers}


def test_columns_have_many_names(tmp_path):
  fine = [i % 4 for i in range(NUM)]
  table = dataset(
    image='img',
    coarse_label=([i // 2 for i in fine], ['a', 'b']),
    fine_label=(fine, ['w', 'x', 'y', 'z']),
  )
  table.save_to_disk(tmp_path / 'set')
  source = load(tmp_path / 'set')
  assert source.class_names == ('w', 'x', 'y', 'z')
  (note,) = source.report.notes
  assert note.endswith('for others, set dataset.labels=coarse_label.')
  source = load(tmp_path / 'set', labels='coarse_label')
  assert source.class_names == ('a', 'b')
  refused(
    tmp_path / 'set', 'it has img, coarse_label, fine_label', labels='kind'
  )


def test_numbers_and_names_may_be_labels(tmp_path):
  numbers = [i % 2 * 2 for i in range(NUM)]
  dataset(label=(numbers, None)).save_to_disk(tmp_path / 'a')
  source = load(tmp_path / 'a')
  assert (source.num_classes, source.class_names) == (3, None)
  assert source.report.notes[0].endswith('no image has the class 1.')
  names = [NAMES[1 - i % 2] for i in range(NUM)]
  dataset(label=(names, None)).save_to_disk(tmp_path / 'b')
  source = load(tmp_path / 'b')
  assert source.class_names == ('cat', 'dog')
  assert all(label == 1 - i % 2 for i, label in shades(source).items())


def test_plain_bytes_are_images(tmp_path):
  table = datasets.Dataset.from_dict(
    {'image': [picture(i) for i in range(NUM)]}
  )
  table.to_parquet(tmp_path / 'a.parquet')
  source = load(tmp_path / 'a.parquet')
  assert len(source) == 18
  assert source.num_classes is None


def test_other_columns_are_named(tmp_path):
  for name, columns, message in (
    ('a', {'x': [1], 'y': [2]}, 'which column has the images. It has x, y'),
    ('b', {'image': [[1, 2]]}, 'row 0: holds a list, not an encoded image'),
    ('c', {'image': [picture(1)], 'label': [None]}, 'row 0 has no label'),
    ('d', {'image': [picture(1)], 'label': [0.5]}, 'label: float64 '),
  ):
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / name)
    refused(tmp_path / name, message)


def test_paths_are_no_images(tmp_path):
  cells = [{'bytes': None, 'path': '/etc/passwd'}]
  table = datasets.Dataset.from_dict({'image': cells})
  table.save_to_disk(tmp_path / 'set')
  refused(tmp_path / 'set', 'row 0: holds the path of an image')


def test_damaged_files_are_named(tmp_path):
  (tmp_path / 'a.parquet').write_bytes(b'PAR1')
  refused(tmp_path / 'a.parquet', r'a\.parquet: cannot be read: ')
  dataset().save_to_disk(tmp_path / 'set')
  (tmp_path / 'set' / 'state.json').write_text('{}')
  refused(tmp_path / 'set', 'set: cannot be read: ')


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
  (tmp_path / 'a.parquet').write_bytes(b'PAR1')
  monkeypatch.setitem(sys.modules, 'datasets', None)
  refused(tmp_path / 'a.parquet', 'pip install datasets')


def test_images_beside_a_parquet_file_are_a_folder(tmp_path):
  (tmp_path / 'a.png').write_bytes(picture(1))
  (tmp_path / 'b.parquet').write_bytes(b'PAR1')
  source = load(tmp_path)
  assert len(source) == 1
  assert source.report.left_out[0].kind == '.parquet'
