"""Zip files of images, and labels from tables."""

import io
import json
import pathlib
import zipfile

from encoding import encode
import numpy as np
import pytest

from common_flax import data
from common_flax.data import own
from common_flax.data.own import zips
from common_flax.errors import UserError

SIDE = 8


def picture(i):
  """A grey image that no other number has, with a white corner."""
  pixels = np.full((SIDE, SIDE), i, np.uint8)
  pixels[-1, -1] = 255
  return encode(pixels)


def files_of(*names):
  return {name: picture(i) for i, name in enumerate(names)}


def folder_of(tmp_path, files):
  folder = tmp_path / 'photos'
  for name, content in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
  return str(folder)


def zip_of(tmp_path, files):
  path = tmp_path / 'photos.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return str(path)


PLACES = pytest.mark.parametrize('place', [folder_of, zip_of])


def load(path, split='train', **options):
  return data.load_source('folder', split, SIDE, path=path, **options)


def refused(path, message, **options):
  with pytest.raises(UserError, match=message) as caught:
    load(path, **options)
  assert '\n' not in str(caught.value)


def shades(source):
  """{grey level: label}, the greys being the numbers of `picture`."""
  firsts = source.examples[:, 0, 0, 0].tolist()
  return dict(zip(firsts, source.labels.tolist(), strict=True))


FOLDERS = {
  'classes': [f'{c}/{i}.png' for c in 'ab' for i in range(10)],
  'splits': [f'{s}/{c}/{i}.png' for s in ('train', 'test') for c in 'ab'
             for i in range(3)],
  'classes first': [f'{c}/{s}/{i}.png' for s in ('train', 'val') for c in 'ab'
                    for i in range(3)],
  'one folder': [f'top/{c}/{i}.png' for c in ('train', 'test')
                 for i in range(3)],
  'flat': [f'{i}.png' for i in range(20)],
  'left out': ['a/1.png', 'a/2.png', 'b/1.png', 'b/2.png', 'c.txt', '.d.png',
               '__MACOSX/a/1.png', 'a/.e/f.png'],
}  # fmt: skip


@pytest.mark.parametrize('kind', FOLDERS)
def test_a_zip_is_read_as_its_folder(tmp_path, kind):
  files = files_of(*FOLDERS[kind])
  for split in ('train', 'test'):
    if kind == 'left out' and split == 'test':
      continue
    folder = load(folder_of(tmp_path, files), split)
    archive = load(zip_of(tmp_path, files), split)
    assert shades(folder) == shades(archive)
    assert folder.class_names == archive.class_names
    assert folder.fingerprint == archive.fingerprint
    reasons = [
      sorted((x.reason, x.kind) for x in source.report.left_out)
      for source in (folder, archive)
    ]
    assert reasons[0] == reasons[1]


def test_a_folder_around_all_images_is_no_class(tmp_path):
  names = [f'photos/{c}/{i}.png' for c in 'ab' for i in range(10)]
  assert load(zip_of(tmp_path, files_of(*names))).class_names == ('a', 'b')
  table = {'labels': [[name, int(name[-5]) % 3] for name in names]}
  for place in ('dataset.json', 'photos/dataset.json'):
    files = files_of(*names) | {place: json.dumps(table).encode()}
    source = load(zip_of(tmp_path, files))
    assert (source.num_classes, len(source)) == (3, 18)
    assert not source.report.left_out
    assert source.report.notes[0].endswith(f'.zip/{place} gives the labels.')
  names = [f'photos/test/{c}/{i}.png' for c in 'ab' for i in range(3)]
  source = load(zip_of(tmp_path, files_of(*names)), 'test')
  assert (len(source), source.class_names) == (6, ('a', 'b'))


def test_names_that_lead_outside_are_left_out(tmp_path):
  names = ('../a.png', '/b.png', 'c:\\d.png', 'e\\f.png', 'g.png', 'e/h.png')
  source = load(zip_of(tmp_path, files_of(*names)))
  outside = [x for x in source.report.left_out if 'outside' in x.reason]
  assert len(outside) == 3
  assert sorted(x.name for x in tmp_path.iterdir()) == ['photos.zip']


def test_a_later_file_of_a_name_is_taken(tmp_path):
  path = tmp_path / 'a.zip'
  with zipfile.ZipFile(path, 'w') as archive, pytest.warns(UserWarning):
    for i in (3, 7):
      archive.writestr('a.png', picture(i))
  source = load(str(path))
  assert [*shades(source)] == [7]
  assert len(source.report.left_out) == 1


def test_a_link_in_a_zip_is_left_out(tmp_path):
  path = tmp_path / 'a.zip'
  link = zipfile.ZipInfo('link.png')
  link.external_attr = 0o120777 << 16
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(link, '/etc/passwd')
    archive.writestr('a.png', picture(1))
  (left_out,) = load(str(path)).report.left_out
  assert left_out.reason == 'a link'


def flagged(tmp_path):
  """A zip whose last of twenty images claims to have a password."""
  path = zip_of(tmp_path, files_of(*(f'{i:02d}.png' for i in range(20))))
  content = bytearray(pathlib.Path(path).read_bytes())
  for mark, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
    content[content.rindex(mark) + offset] |= 1
  pathlib.Path(path).write_bytes(content)
  return path


def test_a_password_is_named_or_skipped(tmp_path):
  path = flagged(tmp_path)
  refused(path, r'photos\.zip/19\.png: is with a password; make .*skip_corrupt')
  source = load(path, skip_corrupt=True)
  assert source.report.left_out[0].reason == 'with a password'


def test_damaged_files_in_a_zip_are_named_or_skipped(tmp_path):
  path = zip_of(tmp_path, files_of('a.png', 'b.png', 'c.png'))
  content = bytearray(pathlib.Path(path).read_bytes())
  content[content.index(b'IDAT') + 8] ^= 255
  pathlib.Path(path).write_bytes(content)
  refused(path, r'photos\.zip/a\.png: cannot be decoded')
  assert len(load(path, skip_corrupt=True)) == 2


def test_a_bomb_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(zips, '_FREE_BYTES', 0)
  path = tmp_path / 'a.zip'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('a.bmp', bytes(10**6))
  refused(str(path), 'as a zip bomb does')
  monkeypatch.setattr(zips, '_MAX_BYTES', 10**5)
  refused(str(path), r'a\.zip/a\.bmp: is larger than ')


@pytest.mark.parametrize('content', [b'', b'PK', b'x' * 999, 'cut'])
def test_what_is_no_zip_is_named(tmp_path, content):
  path = zip_of(tmp_path, files_of('a.png'))
  if content == 'cut':
    content = pathlib.Path(path).read_bytes()[:-30]
  pathlib.Path(path).write_bytes(content)
  refused(path, r'path=.*photos\.zip: cannot be read as a zip file')


def test_a_zip_of_no_images_is_named(tmp_path):
  refused(zip_of(tmp_path, {'a.txt': b'x'}), 'no images in split')


def table(rows, head='file,label'):
  return '\n'.join([head, *rows]).encode()


CSV = table(['a.png,cat', 'b.png,dog', 'c.png,dog'])


@PLACES
@pytest.mark.parametrize(
  'content',
  [
    CSV,
    table(['cat;a.png', 'dog;b.png', 'dog;c.png'], '\ufeffClass;Filename'),
    table(['1\ta\tcat', '2\tb\tdog', '3\tc\tdog'], 'row\tid\tlabel'),
    CSV.partition(b'\n')[2].replace(b'\n', b'\r\n\r\n'),
  ],
)
def test_a_csv_gives_names_of_classes(tmp_path, place, content):
  files = files_of('a.png', 'b.png', 'sub/c.png') | {'labels.csv': content}
  source = load(place(tmp_path, files), labels='labels.csv')
  assert source.class_names == ('cat', 'dog')
  assert shades(source) == {0: 0, 1: 1, 2: 1}
  assert not source.report.left_out
  assert not source.report.notes


@PLACES
def test_stylegans_table_is_found_and_said(tmp_path, place):
  rows = [['00000/a.png', 2], ['00000/b.png', 0], ['00001/c.png', 2]]
  content = json.dumps({'labels': rows}).encode()
  files = files_of('00000/a.png', '00000/b.png', '00001/c.png')
  source = load(place(tmp_path, files | {'dataset.json': content}))
  assert shades(source) == {0: 2, 1: 0, 2: 2}
  assert (source.num_classes, source.class_names) == (3, None)
  found, gap = source.report.notes
  assert found.endswith('dataset.json gives the labels.')
  assert gap.endswith('dataset.json: no image has the class 1.')


@PLACES
def test_labels_of_null_are_none(tmp_path, place):
  files = files_of('0/a.png', '1/b.png') | {'dataset.json': b'{"labels": null}'}
  assert load(place(tmp_path, files)).num_classes is None


@PLACES
def test_another_dataset_json_is_left_alone(tmp_path, place):
  files = files_of('0/a.png', '1/b.png') | {'dataset.json': b'{"a": [1]}'}
  source = load(place(tmp_path, files))
  assert source.class_names == ('0', '1')
  assert source.report.left_out[0].kind == '.json'


def test_a_table_may_lie_elsewhere_and_keeps_splits(tmp_path):
  names = [f'{s}/{i}.png' for s in ('train', 'test') for i in range(3)]
  path = folder_of(tmp_path, files_of(*names))
  (tmp_path / 'all.json').write_text(
    json.dumps({name: i % 2 for i, name in enumerate(names)})
  )
  labels = str(tmp_path / 'all.json')
  assert shades(load(path, labels=labels)) == {0: 0, 1: 1, 2: 0}
  assert shades(load(path, 'test', labels=labels)) == {3: 1, 4: 0, 5: 1}


def test_missing_and_unknown_files_are_counted(tmp_path):
  files = files_of('a.png', 'b.png', 'c.png')
  content = table(['a.png,cat', 'b.png,', 'x.png,dog'])
  path = folder_of(tmp_path, files | {'labels.csv': content})
  source = load(path, labels='labels.csv')
  assert shades(source) == {0: 0}
  assert [x.reason for x in source.report.left_out] == [
    'without a label in labels.csv'
  ] * 2
  assert '1 of 2 rows name no image (first x.png)' in source.report.notes[0]


WRONG = {
  'twice.csv': (table(['a.png,cat', 'a.png,dog']), 'two labels, cat and dog'),
  'columns.csv': (table(['a.png,1'], 'picture,kind'), 'columns picture, kind'),
  'short.csv': (table(['a.png,1', 'b.png']), 'line 3 has no column 2'),
  'empty.csv': (b'', 'is empty'),
  'latin.csv': (b'file,label\na.png,\xff', 'as UTF-8'),
  'none.csv': (table(['x.png,1']), 'none of its 1 rows names an image'),
  'doubtful.csv': (table(['c.png,1']), 'may be sub/c.png or top/c.png'),
  'huge.csv': (table(['a.png,99999']), 'number the classes from 0'),
  'twice.json': (b'{"a.png": 1, "a.png": 1}', "has 'a.png' twice"),
  'vector.json': (b'{"labels": [["a.png", [1, 2]]]}', 'is a list; give one'),
  'below.json': (b'{"labels": [["a.png", -1]]}', 'is -1; number'),
  'list.json': (b'[1, 2]', 'has no table of labels'),
  'cut.json': (b'{"labels": [["a.p', 'cannot be read as JSON'),
  'deep.json': (b'[' * 100_000, 'nested too deeply'),
  'labels.xls': (b'', 'unknown ending'),
  'Labels.XLS': (b'', 'unknown ending'),
}


@PLACES
@pytest.mark.parametrize('name', WRONG)
def test_a_wrong_table_is_named(tmp_path, place, name):
  content, message = WRONG[name]
  files = files_of('a.png', 'b.png', 'sub/c.png', 'top/c.png')
  path = place(tmp_path, files | {name: content})
  refused(path, f'{name}: .*{message}', labels=name)
  refused(path, 'dataset.labels=no.csv: no such file, nor in', labels='no.csv')


def test_a_broken_dataset_json_is_named(tmp_path):
  path = folder_of(tmp_path, files_of('a.png') | {'dataset.json': b'{'})
  refused(path, r'dataset\.json: cannot be read as JSON: .*rename it')


def test_listing_many_files_takes_little_time(tmp_path):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for i in range(3000):
      archive.writestr(f'{i % 7}/{i}.png', b'')
  (tmp_path / 'a.zip').write_bytes(buffer.getvalue())
  images = own.open_images(str(tmp_path / 'a.zip'), 'train')
  assert len(images) == 2700
  assert images.num_classes == 7
