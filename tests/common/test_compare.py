"""Comparing any two sets of images: what is read, refused and written."""

import json
import re

import numpy as np
import PIL.Image
import pytest

from common_flax import compare
from common_flax import images as images_lib
from common_flax.data import image_sets
from common_flax.errors import UserError


def images(num, seed=0, shape=(8, 8, 1)):
  random = np.random.default_rng(seed)
  return random.integers(0, 256, (num, *shape), np.uint8)


def write_npz(path, **arrays):
  np.savez(path, **arrays)
  return str(path)


def write_folder(path, pictures, classes=None):
  for i, pixels in enumerate(pictures):
    name = path / (f'class{classes[i]}' if classes is not None else '.')
    name.mkdir(parents=True, exist_ok=True)
    images_lib.to_pil(pixels).save(name / f'{i:03d}.png')
  return str(path)


def test_a_folder_and_an_array_of_the_same_images(tmp_path):
  some = images(30)
  folder = write_folder(tmp_path / 'a', some)
  array = write_npz(tmp_path / 'b.npz', images=some)
  for path in (folder, array):
    source = image_sets.read(path)
    np.testing.assert_array_equal(source.examples, some)
    assert source.num_classes is None


@pytest.mark.parametrize('layout', ['arr_0', 'floats', 'NCHW', 'npy'])
def test_arrays_are_read_as_training_reads_them(tmp_path, capsys, layout):
  """Such as the files of guided diffusion, images in arr_0."""
  some, path = images(5, shape=(8, 6, 3)), tmp_path / 'a.npz'
  if layout == 'npy':
    path = tmp_path / 'a.npy'
    np.save(path, some)
  elif layout == 'arr_0':
    np.savez(path, some, np.arange(5))
  elif layout == 'floats':
    np.savez(path, x=some / np.float32(255))
  else:
    np.savez(path, images=np.moveaxis(some, -1, 1))
  source = image_sets.read(str(path))
  np.testing.assert_array_equal(source.examples, some)
  assert source.num_classes == (5 if layout == 'arr_0' else None)
  said = {'floats': 'in [0, 1]', 'NCHW': 'read as [N, C, H, W]'}
  assert said.get(layout, '') in capsys.readouterr().out


def test_labels_are_sub_folders_or_an_array(tmp_path):
  some, labels = images(6, shape=(8, 6, 3)), [0, 1, 1, 0, 2, 2]
  folder = image_sets.read(write_folder(tmp_path / 'a', some, labels))
  array = image_sets.read(
    write_npz(tmp_path / 'b.npz', images=some, labels=labels)
  )
  assert folder.num_classes == array.num_classes == 3
  np.testing.assert_array_equal(array.labels, labels)
  order = np.argsort(labels, kind='stable')
  np.testing.assert_array_equal(folder.labels, np.array(labels)[order])
  np.testing.assert_array_equal(folder.examples, some[order])


def run(*arguments):
  return compare.main(['compare', *arguments])


def test_a_report(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv('COLUMNS', '100')
  a = write_npz(tmp_path / 'a.npz', images=images(40, 0))
  b = write_folder(tmp_path / 'b', images(60, 1, (8, 8, 3)))
  output = tmp_path / 'report.json'
  assert run(a, b, f'--output={output}', '--num_neighbours=3') == 0
  report = json.loads(output.read_text())
  provenance = report.pop('provenance')
  assert provenance['num_samples'] == 40
  assert provenance['num_real'] == 60
  assert provenance['features'] == 'random'
  assert provenance['num_neighbours'] == 3
  assert provenance['kid_subset_size'] == 40
  # Noise in three equal channels lies on a line that its own three never meet.
  assert report['precision'] < report['real_precision']
  for name in ('kid', 'precision', 'recall', 'density', 'coverage'):
    assert {name, f'real_{name}'} <= set(report)
  assert 'inception_score' not in report
  printed = capsys.readouterr().out
  for words in ('A against B', 'halves of B', 'No inception_score', 'random'):
    assert words in printed


def test_equal_sets_are_at_no_distance(tmp_path):
  a = write_npz(tmp_path / 'a.npz', images=images(40))
  output = tmp_path / 'report.json'
  assert run(a, a, f'--output={output}', '--metrics=fid,precision') == 0
  report = json.loads(output.read_text())
  assert report['fid'] == pytest.approx(0, abs=1e-3)
  assert report['precision'] == 1
  assert 'recall' not in report


@pytest.mark.parametrize(
  ('arrays', 'words'),
  [
    ({'images': images(9, shape=(8, 9, 1))}, 'have 9 x 8 pixels and IMAGES_B'),
    ({'images': images(3)}, 'needs 6 images'),
    (
      {'images': images(9) / np.float32(2)},
      r'float32 from 0 to .*\.astype\(np\.uint8\)',
    ),
    ({'images': np.full((9, 8, 8, 1), np.nan)}, 'holds NaN'),
    ({'images': images(9, shape=(8, 8, 2))}, r'shape \[9, 8, 8, 2\]'),
    ({'one': images(9), 'two': images(9)}, 'no array `images` .*, only one'),
    ({'images': images(9), 'labels': np.zeros(8, int)}, 'npz: labels: int'),
    ({'images': np.array([{}], object)}, 'holds Python objects'),
  ],
)
def test_arrays_that_cannot_be_compared_are_refused(
  tmp_path, capfd, arrays, words
):
  a = write_npz(tmp_path / 'a.npz', **arrays)
  b = write_npz(tmp_path / 'b.npz', images=images(9))
  output = tmp_path / 'report.json'
  assert run(a, b, f'--output={output}', '--metrics=density') == 2
  error = capfd.readouterr().err
  assert error.startswith('error: ')
  assert error.count('\n') == 1
  assert re.search(words, error)
  assert not output.exists()


def test_folders_that_cannot_be_compared_are_refused(tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match='contains no images'):
    image_sets.read(str(tmp_path / 'empty'))
  with pytest.raises(UserError, match='no such folder'):
    image_sets.read(str(tmp_path / 'nosuch'))
  with pytest.raises(UserError, match='neither a folder'):
    image_sets.read(__file__)
  mixed = write_folder(tmp_path / 'mixed', images(2))
  PIL.Image.new('L', (9, 8)).save(tmp_path / 'mixed' / 'x.png')
  with pytest.raises(UserError, match=r'x.png: has 9 x 8 pixels, and 000'):
    image_sets.read(mixed)
  (tmp_path / 'mixed' / 'x.png').write_bytes(b'no image')
  with pytest.raises(UserError, match=r'x.png: cannot be decoded'):
    image_sets.read(mixed)
  (tmp_path / 'cut.npz').write_bytes(b'PK')
  with pytest.raises(UserError, match=r'cut.npz: cannot be read'):
    image_sets.read(str(tmp_path / 'cut.npz'))


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], 'IMAGES_A: missing'),
    (['A'], 'IMAGES_B: missing'),
    (['A', 'A', 'A'], 'unexpected argument'),
    (['A', 'A', '--metrics=fib'], '--metrics=fib'),
    (['A', 'A', '--metrics=nearest'], '--metrics=nearest'),
    (['A', 'A', '--features=classifier'], 'IMAGES_B have no labels'),
    (['A', 'A', '--features=vgg'], 'vgg'),
    (['A', 'A', '--inception_weights=nosuch.pth'], 'nosuch.pth'),
  ],
)
def test_wrong_arguments(tmp_path, capfd, arguments, words):
  path = write_npz(tmp_path / 'a.npz', images=images(20))
  assert run(*(path if x == 'A' else x for x in arguments)) == 2
  error = capfd.readouterr().err
  assert words in error
  assert error.count('\n') == 1
