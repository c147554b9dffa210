"""Classes by name: in the workdir, in commands, from Python."""

import shutil
import types

from conftest import recipe
import numpy as np
import PIL.Image
import pytest

from common_flax.cli.given_latents import Given
from common_flax.errors import UserError
from common_flax.workdir import classes
from gan_flax import pictures
from gan_flax import sample
from gan_flax.train import train
from gan_flax.trained import Sampler

NAMES = (*'abcdefgh', 'cats', 'dogs')


@pytest.fixture(scope='module')
def named(trained_conditional, tmp_path_factory):
  """A conditional run whose classes have the names of NAMES."""
  workdir = tmp_path_factory.mktemp('named') / 'run'
  shutil.copytree(trained_conditional, workdir)
  (workdir / classes.CLASSES).unlink()
  classes.write(workdir, NAMES)
  return workdir


def run(workdir, output, *arguments):
  return sample.main(
    ['sample', f'--workdir={workdir}', f'--output={output}', *arguments]
  )


def sampler_of(num_classes, names=None):
  gan = types.SimpleNamespace(
    is_conditional=num_classes is not None, num_classes=num_classes
  )
  return Sampler(gan, None, None, None, 0, 0, names)


def test_a_run_records_the_names_of_its_data(trained_conditional, trained):
  for workdir in (trained_conditional, trained):
    assert classes.read(workdir) == tuple('0123456789')
  assert sample.load(trained_conditional).class_names == tuple('0123456789')
  assert sample.load(trained).class_names is None  # it cannot draw them


@pytest.mark.slow
def test_labels_of_a_csv_are_trained_on_and_drawn_by_name(tmp_path):
  (tmp_path / 'scans').mkdir()
  rows = ['file,label']
  for i in range(20):
    pixels = np.full((16, 16), 40 + 160 * (i % 2), np.uint8)
    pixels[i % 16] = i
    PIL.Image.fromarray(pixels).save(tmp_path / 'scans' / f'{i}.png')
    rows.append(f'{i}.png,{("night", "day")[i % 2]}')
  (tmp_path / 'scans' / 'labels.csv').write_text('\n'.join(rows))
  config = recipe('conditional.py', 'smoke')
  config.dataset.name = 'folder'
  config.dataset.path = str(tmp_path / 'scans')
  config.dataset.labels = 'labels.csv'
  train(config, tmp_path / 'run')
  assert run(tmp_path / 'run', tmp_path / 'x.npz', '--label=night') == 0
  with np.load(tmp_path / 'x.npz', allow_pickle=False) as file:
    assert file['class_names'].tolist() == ['day', 'night']
    assert file['labels'].tolist() == [1] * 64
    assert file['images'].shape == (64, 16, 16, 1)


def test_a_run_of_an_earlier_version_has_numbers(trained_conditional, tmp_path):
  shutil.copytree(trained_conditional, tmp_path / 'run')
  (tmp_path / 'run' / classes.CLASSES).unlink()
  assert sample.load(tmp_path / 'run').class_names == tuple('0123456789')


def test_resuming_under_other_names_is_refused(named, tmp_path):
  shutil.copytree(named, tmp_path / 'run')
  config = recipe('conditional.py', 'smoke')
  config.log_every_steps = 1
  with pytest.raises(UserError, match="class 0 was 'a' and is now '0'"):
    train(config, tmp_path / 'run')
  config_file = (tmp_path / 'run' / 'config.json').read_text()
  assert config_file == (named / 'config.json').read_text()


def test_labels_are_given_by_name_or_number(named, tmp_path):
  assert run(named, tmp_path / 'x.npz', '--label=cats,9,2') == 0
  with np.load(tmp_path / 'x.npz', allow_pickle=False) as file:
    labels, names = file['labels'], file['class_names']
  expected = np.repeat([8, 9, 2, 8, 9, 2, 8, 9], 8)
  np.testing.assert_array_equal(labels, expected)
  assert names.tolist() == list(NAMES)
  sampler = sample.load(named)
  assert sampler.class_names == NAMES
  np.testing.assert_array_equal(sampler.labels(2, ['dogs', 'a']), [9, 0])
  np.testing.assert_array_equal(sampler.labels(3, 'dogs'), [9, 9, 9])


def test_given_latents_have_given_classes(named, tmp_path):
  def draw(name, *arguments):
    assert run(named, tmp_path / name, *arguments) == 0
    with np.load(tmp_path / name, allow_pickle=False) as file:
      return dict(file)

  pair = draw('x.npz', '--seeds=4,4', '--label=cats,3')
  np.testing.assert_array_equal(pair['labels'], [8, 3])
  assert not np.array_equal(*pair['images'])  # of the same latent
  again = draw('y.npz', f'--latents={tmp_path}/x.npz')
  np.testing.assert_array_equal(again['images'], pair['images'])
  np.testing.assert_array_equal(again['labels'], [8, 3])
  np.savez(tmp_path / 'z.npz', latents=pair['latents'], labels=['cats', 'd'])
  by_name = draw('y.npz', f'--latents={tmp_path}/z.npz')
  np.testing.assert_array_equal(by_name['images'], pair['images'])
  other = draw('y.npz', f'--latents={tmp_path}/x.npz', '--label=3')
  np.testing.assert_array_equal(other['images'], pair['images'][[1, 1]])
  images = sample.load(named).generate_from(pair['latents'], label=['cats', 3])
  np.testing.assert_array_equal(images, pair['images'])
  walk = draw('y.npz', '--seeds=4-5', '--label=3', '--kind=walk', '--frames=9')
  assert walk['labels'].tolist() == [3] * 18
  np.testing.assert_array_equal(walk['images'][0], pair['images'][1])


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--seeds=1,2'], '--label: missing; the run is conditional'),
    (['--seeds=1-3', '--label=1,2'], '--label=1,2: 2 classes for 3 samples'),
    (['--seeds=1', '--label=birds'], '--label=birds: there is no such class'),
    (
      ['--seeds=1-3', '--label=1,2,3', '--kind=walk'],
      '--label=1,2,3: 3 classes, and this kind keeps one',
    ),
    (['--latents=LABELLED'], 'x.npz: label=10: there is no such class'),
    (['--latents=LABELLED', '--kind=walk'], 'there is no such class'),
  ],
)
def test_other_classes_of_given_latents_are_refused(
  refuses, monkeypatch, named, tmp_path, arguments, words
):
  monkeypatch.setattr(Sampler, 'chunks_of', None)  # before any work
  size = sample.load(named).gan.latent_size
  np.savez(tmp_path / 'x.npz', latents=np.ones((2, size)), labels=[0, 10])
  arguments = [x.replace('LABELLED', f'{tmp_path}/x.npz') for x in arguments]
  arguments += [f'--workdir={named}', f'--output={tmp_path}/y.npz']
  refuses(sample.main, arguments, words, folder=tmp_path)


@pytest.mark.parametrize(
  ('kind', 'given', 'num', 'columns'),
  [
    ('samples', True, 3, 3),  # a row for each seed of training
    ('samples', True, 16, 8),
    ('samples', False, 16, 8),
    ('walk', True, 50, 25),
    ('walk', True, 51, 51),
  ],
)
def test_rows_of_several_seeds_do_not_mix(kind, given, num, columns):
  config = recipe('conditional.py', 'smoke')
  config.num_seeds = 2
  values = types.SimpleNamespace(kind=kind, frames=25, seed_index=None)
  given = Given('--seeds=1', seeds=(1,)) if given else None
  assert sample._columns(values, config, given, num, '.png') == columns
  values.seed_index = 1
  assert sample._columns(values, config, given, 3, '.png') == (
    8 if kind == 'samples' else 25
  )


def test_labels_without_classes_are_refused(refuses, trained, tmp_path):
  np.savez(tmp_path / 'x.npz', latents=np.ones((2, 100)), labels=[0, 1])
  arguments = [f'--workdir={trained}', f'--output={tmp_path}/y.npz']
  arguments += [f'--latents={tmp_path}/x.npz']
  refuses(sample.main, arguments, 'x.npz: has `labels`', folder=tmp_path)


def test_folders_and_grids_bear_the_names(named, tmp_path):
  arguments = ['--label=cats,dogs', '--num_samples=12']
  for name in ('folder', 'x.png', 'x.gif'):
    assert run(named, tmp_path / name, *arguments) == 0
  folders = sorted(path.name for path in (tmp_path / 'folder').iterdir())
  assert folders == ['cats', 'dogs']
  with PIL.Image.open(tmp_path / 'x.png') as grid:
    assert grid.width > 8 * 18 + 2
    assert grid.height == 2 * 18 + 2


@pytest.mark.parametrize('label', ['birds', '10', '-1', '1.0', '', 'cats,x'])
def test_the_command_refuses_other_classes(
  refuses, monkeypatch, named, tmp_path, label
):
  monkeypatch.setattr(Sampler, 'chunks_of', None)  # before any work
  arguments = [f'--workdir={named}', f'--output={tmp_path}/x.npz']
  refuses(
    sample.main, [*arguments, f'--label={label}'], '--label', folder=tmp_path
  )


@pytest.mark.parametrize(
  'label',
  [
    5,
    2,
    -1,
    1.0,
    True,
    'birds',
    '2',
    [0, 5],
    np.array([0.0, 1.0]),
    [[0], [1, 2]],
  ],
)
def test_generate_refuses_a_label_that_does_not_exist(label):
  with pytest.raises(UserError, match=r'^label'):
    sampler_of(2, ('cats', 'dogs')).generate(None, 2, label=label)


def test_a_refusal_lists_the_names():
  with pytest.raises(UserError, match=r'label=5: .* 0 to 1 \(cats, dogs\)'):
    sampler_of(2, ('cats', 'dogs')).labels(1, 5)
  with pytest.raises(UserError, match=r'0 to 1$'):
    sampler_of(2).labels(1, 5)


def test_as_many_labels_as_samples_are_needed():
  with pytest.raises(UserError, match=r'shape \[3\].* each of the 2 samples'):
    sampler_of(2).labels(2, [0, 1, 0])


def test_an_unconditional_generator_refuses_labels():
  """They meant nothing, in silence."""
  assert sampler_of(None).labels(3) is None
  with pytest.raises(UserError, match='not conditional'):
    sampler_of(None).generate(None, 2, label=3)


def test_a_name_goes_before_a_number_in_words():
  """Folders called 1, 10 and 2 are the classes 0, 1 and 2."""
  sampler = sampler_of(3, ('1', '10', '2'))
  assert sampler.labels(3, ['1', '10', '2']).tolist() == [0, 1, 2]
  assert sampler.labels(3, [1, 0, 2]).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (dict(num=0), 'num=0'),
    (dict(num=2, kind='video'), "kind='video'.*interpolation"),
    (dict(num=2, truncation=0.0), 'truncation=0.0'),
    (dict(num=2, truncation=float('nan')), 'truncation=nan'),
  ],
)
def test_chunks_refuse_at_once_what_the_command_refuses(arguments, words):
  with pytest.raises(UserError, match=words):
    sampler_of(None).chunks(None, **arguments)


def test_pictures_of_training_bear_names_that_are_no_numbers(monkeypatch):
  samples = np.zeros((80, 16, 16, 1), np.uint8)
  monkeypatch.setattr(pictures, '_preview', lambda *unused: samples)
  gan = types.SimpleNamespace(is_conditional=True, num_classes=10)
  plain = pictures.draw_images(gan, tuple('0123456789'), None, None)
  np.testing.assert_array_equal(
    pictures.draw_images(gan, None, None, None), plain
  )
  bearing = pictures.draw_images(gan, NAMES, None, None)
  np.testing.assert_array_equal(bearing[:, -plain.shape[1] :], plain)
  column = bearing[:, : -plain.shape[1]]
  rows = np.array_split(column[1:-1], len(NAMES))
  assert column.shape[1] > 0
  assert all(row.max() > 128 for row in rows)  # each has a name
