"""Folders as other projects lay them out, made small: they work as they are.

torchvision's ImageFolder, Hugging Face's imagefolder, StyleGAN's data set.
Where the projects' own reader is installed, it says what is right.
"""

import csv
import gc
import io
import json
import pathlib
import warnings
import zipfile

from encoding import encode
import numpy as np
import PIL.Image
import pytest

from common_flax import data
from common_flax.errors import UserError

SIDE = 8
CLASSES = ('ant', 'bee', 'cat')
ENDINGS = ('jpg', 'jpeg', 'png')


def picture(i, ending='png'):
  """A grey image of the shade i, which no other has."""
  pixels = np.full((SIDE, SIDE), i, np.uint8)
  if ending == 'png':
    return encode(pixels)
  buffer = io.BytesIO()
  PIL.Image.fromarray(pixels).save(buffer, 'JPEG', quality=100)
  return buffer.getvalue()


def write(folder, files):
  for name, content in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return folder


def load(path, split='train'):
  return data.load_source('folder', split, SIDE, path=str(path))


def shades(source):
  """{shade: label}."""
  firsts = source.examples[:, 0, 0, 0].tolist()
  return dict(zip(firsts, source.labels.tolist(), strict=True))


def named(source):
  """{shade: name of its class}."""
  return {x: source.class_names[i] for x, i in shades(source).items()}


def image_folder(tmp_path, splits=('train', 'val', 'test')):
  """A torchvision ImageFolder per split; returns its folder."""
  files = {}
  for split in splits:
    for name in CLASSES:
      for j, ending in enumerate(ENDINGS):
        path = f'{split}/{name}/{j:03d}.{ending}'
        files[path] = picture(len(files) * 5, ending)
  return write(tmp_path / 'photos', files)


@pytest.mark.parametrize('splits', [('train', 'val', 'test'), ('train', 'val')])
def test_torchvisions_image_folder(tmp_path, splits):
  folder = image_folder(tmp_path, splits)
  for i, split in enumerate(splits):
    source = load(folder, split)
    expected = {45 * i + 5 * j: j // 3 for j in range(9)}
    assert shades(source) == expected
    assert source.class_names == CLASSES
    assert not source.report.left_out
  if 'test' not in splits:
    assert shades(load(folder, 'test')) == shades(load(folder, 'val'))
  assert len(load(folder / 'train')) == 8  # a tenth is kept for test


def metadata(kind, rows):
  """A table of Hugging Face's imagefolder: {name of the file: class}."""
  rows = [{'file_name': x, 'text': 'a, b', 'label': y} for x, y in rows.items()]
  if kind == 'jsonl':
    return ''.join(json.dumps(row) + '\n' for row in rows).encode()
  text = io.StringIO()
  table = csv.DictWriter(text, rows[0])
  table.writeheader()
  table.writerows(rows)
  return text.getvalue().encode()


def hugging_face(tmp_path, kind, layout, classes=CLASSES):
  """An imagefolder; returns its folder, and {split: {shade: class}}."""
  splits = {'flat': ('',), 'splits': ('train', 'test')}[layout]
  files, expected = {}, {}
  for split in splits:
    rows = {}
    for j in range(12):
      shade, sub = (len(expected) * 12 + j) * 5, 'more/' * (j % 4 == 0)
      rows[f'{sub}{j:04d}.png'] = classes[j % 3]
      files[f'{split}/{sub}{j:04d}.png'.lstrip('/')] = picture(shade)
      expected.setdefault(split, {})[shade] = classes[j % 3]
    file = f'{split}/metadata.{kind}'.lstrip('/')
    files[file] = metadata(kind, rows)
  return write(tmp_path / 'photos', files), expected


@pytest.mark.parametrize('kind', ['csv', 'jsonl'])
@pytest.mark.parametrize('layout', ['flat', 'splits'])
def test_hugging_faces_image_folder(tmp_path, kind, layout):
  """The same file names in both splits belong to images of their own split."""
  folder, expected = hugging_face(tmp_path, kind, layout)
  sources = {split: load(folder, split) for split in ('train', 'test')}
  found = {split: named(source) for split, source in sources.items()}
  if layout == 'splits':
    assert found == expected
    said = f'{folder}/test/metadata.{kind} and {folder}/train/metadata.{kind} '
    said += 'give the labels.'
  else:
    assert found['train'] | found['test'] == expected['']
    assert len(found['test']) == 1
    said = f'{folder}/metadata.{kind} gives the labels.'
  assert sources['train'].report.notes == (said,)
  assert not sources['train'].report.left_out


@pytest.mark.parametrize('kind', ['csv', 'jsonl'])
def test_hugging_faces_folder_zipped(tmp_path, kind):
  folder, expected = hugging_face(tmp_path, kind, 'splits')
  for top in ('', 'photos'):
    path = tmp_path / f'{top}set.zip'
    with zipfile.ZipFile(path, 'w') as archive:
      for file in sorted(folder.rglob('*.*')):
        archive.write(file, pathlib.Path(top) / file.relative_to(folder))
    for split in ('train', 'test'):
      assert named(load(path, split)) == expected[split]


@pytest.mark.parametrize('kind', ['csv', 'jsonl'])
def test_numbers_in_metadata_are_classes(tmp_path, kind):
  folder, expected = hugging_face(tmp_path, kind, 'splits', classes=(2, 0, 1))
  source = load(folder)
  assert shades(source) == expected['train']
  assert (source.num_classes, source.class_names) == (3, None)


def test_metadata_of_captions_leave_the_class_folders(tmp_path):
  files = {f'{x}/{i}.png': picture(i + 50 * (x == 'bee'))
           for x in ('ant', 'bee') for i in range(5)}  # fmt: skip
  rows = [{'file_name': name, 'text': 'a photo'} for name in files]
  lines = '\n'.join(map(json.dumps, rows)).encode()
  folder = write(tmp_path / 'photos', files | {'metadata.jsonl': lines})
  source = load(folder)
  assert source.class_names == ('ant', 'bee')
  assert [x.kind for x in source.report.left_out] == ['.jsonl']


@pytest.mark.parametrize('content', [b'', b'\xff\xfe', b'[1]\n', b'{"a": 1}\n'])
def test_other_tables_of_that_name_are_left_alone(tmp_path, content):
  files = {f'{x}/{i}.png': picture(i) for x in 'ab' for i in range(3)}
  for name in ('metadata.csv', 'metadata.jsonl'):
    folder = write(tmp_path / name, files | {name: content})
    assert load(folder).class_names == ('a', 'b')


def test_an_image_without_a_row_is_left_out(tmp_path):
  rows = metadata('jsonl', {'0.png': 'ant', '1.png': None, '9.png': 'bee'})
  files = {f'{i}.png': picture(i) for i in range(3)}
  folder = write(tmp_path / 'photos', files | {'metadata.jsonl': rows})
  source = load(folder)
  assert named(source) == {0: 'ant'}
  reasons = [x.reason for x in source.report.left_out]
  assert reasons == ['without a label in metadata.jsonl'] * 2
  assert '1 of 2 rows name no image (first 9.png)' in source.report.notes[1]


def test_the_first_row_may_have_no_class(tmp_path):
  rows = ({'file_name': '0.png'}, {'file_name': '1.png', 'label': 'ant'})
  files = {f'{i}.png': picture(i) for i in range(2)}
  files['metadata.jsonl'] = '\n'.join(map(json.dumps, rows)).encode()
  assert named(load(write(tmp_path / 'photos', files))) == {1: 'ant'}


WRONG = {
  'line': (b'{"file_name": "a.png", "label": 0}\n[1]\n', 'line 2 is no object'),
  'cut': (b'{"file_name": "a.png", "label": 0}\n{"fi', 'line 2: cannot be re'),
  'vector': (b'{"file_name": "a.png", "label": [1]}', 'a.png is a list'),
  'name': (b'{"file_name": 1, "label": 1}', 'line 1 has no file_name that is'),
  'below': (b'{"file_name": "a.png", "label": -1}', 'is -1; number'),
  'none': (b'{"file_name": "b.png", "label": 1}', 'none of its 1 rows names'),
}


@pytest.mark.parametrize('fault', WRONG)
def test_faults_of_metadata_are_named(tmp_path, fault):
  content, message = WRONG[fault]
  files = {'a.png': picture(1), 'metadata.jsonl': content}
  folder = write(tmp_path / 'photos', files)
  with pytest.raises(UserError, match=rf'metadata\.jsonl.*{message}') as caught:
    load(folder)
  assert '\n' not in str(caught.value)


def test_two_tables_in_one_folder_are_refused(tmp_path):
  files = {'a.png': picture(1)}
  for kind in ('csv', 'jsonl'):
    files[f'metadata.{kind}'] = metadata(kind, {'a.png': 'ant'})
  with pytest.raises(UserError, match='remove one of them'):
    load(write(tmp_path / 'photos', files))


@pytest.mark.parametrize('kind', ['csv', 'jsonl', 'classes'])
def test_what_hugging_face_loads_and_saves(tmp_path, kind):
  """Their reader on the folder, saved to disk, gives what the folder gives."""
  datasets = pytest.importorskip('datasets')
  datasets.disable_progress_bars()
  if kind == 'classes':
    folder = image_folder(tmp_path)
  else:
    folder, _ = hugging_face(tmp_path, kind, 'splits')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ResourceWarning)  # it closes no table
    theirs = datasets.load_dataset(
      'imagefolder', data_dir=str(folder), cache_dir=str(tmp_path / 'cache')
    )
    gc.collect()
  theirs.save_to_disk(tmp_path / 'saved')
  for split in ('train', 'test'):
    ours, saved = load(folder, split), load(tmp_path / 'saved', split)
    assert named(saved) == named(ours)
    assert len(ours) == len(theirs[split])
    assert saved.class_names == ours.class_names


def stylegan(labels):
  """The files that dataset_tool.py writes: 1,000 images to a folder."""
  numbers = [*range(4), *range(1000, 1004)]
  names = {i: f'{i:08d}'[:5] + f'/img{i:08d}.png' for i in numbers}
  files = {name: picture(i % 1000 + i // 50) for i, name in names.items()}
  rows = [[name, labels[i % 1000]] for i, name in names.items()]
  if None in labels:
    rows = None
  return files | {'dataset.json': json.dumps({'labels': rows}).encode()}


@pytest.mark.parametrize('is_zip', [True, False])
@pytest.mark.parametrize('labels', [(1, 0, 2, 1), (None,) * 4])
def test_stylegans_data_set(tmp_path, labels, is_zip):
  """Its folders of 1,000 images are no classes, with labels or without."""
  files, path = stylegan(labels), tmp_path / 'dataset.zip'
  if is_zip:
    with zipfile.ZipFile(path, 'w', compression=zipfile.ZIP_STORED) as archive:
      for name, content in files.items():
        archive.writestr(name, content)
  else:
    path = write(tmp_path / 'dataset', files)
  train, test = load(path), load(path, 'test')
  found = shades(train) | shades(test)
  assert (len(train), len(test), len(found)) == (7, 1, 8)
  assert not train.report.left_out
  if None in labels:
    assert train.num_classes is None
    assert train.report.notes[0].endswith('says that there are no labels.')
  else:
    assert found == {j + 20 * k: labels[j] for j in range(4) for k in (0, 1)}
    assert train.class_names is None
    assert train.num_classes == 3
