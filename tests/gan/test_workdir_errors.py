"""Workdirs and weights of other runs that training refuses or accepts."""

import json
import os
import shutil

import pytest

from common_flax.workdir import stored_config
from gan_flax import config as gan_config
from gan_flax import main as main_lib
from gan_flax import sample as sample_lib

SMOKE = '--config=configs/dcgan.py:smoke'
CONDITIONAL = '--config=configs/conditional.py:smoke'

pytestmark = pytest.mark.usefixtures('in_the_repository')


@pytest.fixture
def fails(refuses, tmp_path):
  """Asserts that training refuses its arguments and writes nothing."""

  def check(arguments, *words, workdir=tmp_path / 'run'):
    arguments = [*arguments, f'--workdir={workdir}']
    refuses(main_lib.main, arguments, *words, folder=workdir.parent)

  return check


@pytest.fixture
def finished(trained, tmp_path):
  """A copy of a finished run, for a test to change."""
  return shutil.copytree(trained, tmp_path / 'finished')


def test_a_workdir_of_another_config_names_every_difference(
  fails, trained, smoke_config
):
  fails(
    [SMOKE, '--config.seed=1', '--config.model.latent_size=7'],
    'seed (was 0, now 1)',
    'model.latent_size (was 100, now 7)',
    workdir=trained,
  )


@pytest.mark.slow
def test_some_fields_may_change_on_resuming(finished, capsys):
  arguments = [
    '--config.num_steps=10',
    '--config.log_every_steps=3',
    '--config.keep_checkpoints=2',
    '--config.parallelism=pmap',
  ]
  status = main_lib.main(['main', SMOKE, f'--workdir={finished}', *arguments])
  assert status == 0
  assert 'Resuming from step 8' in capsys.readouterr().out


@pytest.mark.slow
def test_num_steps_may_not_change_under_a_schedule(fails, tmp_path):
  arguments = [
    SMOKE,
    '--config.num_steps=2',
    '--config.generator.schedule=linear',
  ]
  workdir = tmp_path / 'scheduled'
  assert main_lib.main(['main', *arguments, f'--workdir={workdir}']) == 0
  arguments[1] = '--config.num_steps=4'
  fails(arguments, 'num_steps (was 2, now 4)', workdir=workdir)


def test_an_old_config_takes_its_earlier_behaviour(finished):
  path = finished / 'config.json'
  config = json.loads(path.read_text())
  del config['dataset']['flip'], config['discriminator_steps']
  path.write_text(json.dumps(config))
  assert main_lib.main(['main', SMOKE, f'--workdir={finished}']) == 0
  assert json.loads(path.read_text())['discriminator_steps'] == 1


def lose_copies(workdir):
  """Makes checkpoints as older versions wrote them."""
  for path in (workdir / 'checkpoints').glob('*/info/metadata'):
    info = json.loads(path.read_text())
    for name in ('config', 'checksum', 'checksums'):
      del info[name]
    path.write_text(json.dumps(info))


def test_older_checkpoints_without_a_config_are_refused(fails, finished):
  (finished / 'config.json').unlink()
  lose_copies(finished)
  fails([SMOKE], 'no config.json', 'copy the config.json', workdir=finished)


def test_a_lost_config_is_taken_from_a_checkpoint(fails, finished, capfd):
  path = finished / 'config.json'
  whole = path.read_text()
  path.unlink()
  capfd.readouterr()
  assert stored_config.to_json(gan_config.read(finished)) == whole
  assert capfd.readouterr().out == (
    f'{path}: missing; the copy in checkpoint 8 is taken.\n'
  )
  fails([SMOKE, '--config.seed=1'], 'seed (was 0, now 1)', workdir=finished)
  assert main_lib.main(['main', SMOKE, f'--workdir={finished}']) == 0
  assert 'already finished at step 8' in capfd.readouterr().out
  assert path.read_text() == whole


def test_a_config_that_is_not_the_checkpoints_draws_no_samples(
  refuses, finished, tmp_path
):
  """A changed seed would draw other samples without a word."""
  path = finished / 'config.json'
  text = path.read_text()
  output = f'--output={tmp_path}/samples.npz'
  arguments = [f'--workdir={finished}', '--num_samples=2', output]
  for damaged, words in (
    (text.replace('"seed": 0', '"seed": 1'), 'seed (was 0, now 1)'),
    (text[:99], 'cannot be read'),
    (text.replace('"seed"', '"seee"'), 'no such field'),
  ):
    assert damaged != text
    path.write_text(damaged)
    refuses(
      sample_lib.main,
      arguments,
      'config.json',
      words,
      'if it is damaged, remove it',
      folder=tmp_path,
    )
  path.write_text(
    text.replace('"keep_checkpoints": 3', '"keep_checkpoints": 9')
  )
  assert sample_lib.main(['command', *arguments]) == 0


@pytest.mark.parametrize('name', ['samples', 'checkpoints', 'tensorboard'])
def test_files_in_place_of_folders_are_refused(fails, tmp_path, name):
  workdir = tmp_path / 'run'
  workdir.mkdir()
  (workdir / name).write_text('')
  fails([SMOKE], f'{name} is a file')


@pytest.mark.slow
def test_resuming_with_other_data_is_refused(fails, tmp_path, photographs):
  folder = shutil.copytree(photographs, tmp_path / 'images')
  arguments = [
    SMOKE,
    '--config.num_steps=2',
    '--config.dataset.name=folder',
    f'--config.dataset.path={folder}',
  ]
  workdir = tmp_path / 'run'
  assert main_lib.main(['main', *arguments, f'--workdir={workdir}']) == 0
  (folder / 'china' / '00.jpg').unlink()
  arguments[1] = '--config.num_steps=4'
  fails(arguments, 'num_examples (was 43, now 42)')


def test_a_resumed_run_ignores_init_from_and_says_so(finished, capsys):
  status = main_lib.main(
    ['main', SMOKE, f'--workdir={finished}', '--init_from=long_gone']
  )
  assert status == 0
  assert '--init_from=long_gone: ignored' in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_workdir_without_rights_is_refused(fails, tmp_path):
  tmp_path.chmod(0o500)
  fails([SMOKE], 'run', 'written')


def test_a_workdir_that_cannot_be_made_is_refused(fails, tmp_path):
  file = tmp_path / 'file'
  file.write_text('')
  assert main_lib.main(['main', SMOKE, f'--workdir={file}/run']) == 2


def test_weights_of_other_shapes_are_refused(fails, trained):
  fails(
    [SMOKE, f'--init_from={trained}', '--config.model.base_features=8'],
    'init_from',
    'shapes',
    'config.model.*',
    'config.compute_dtype',
    'config.dataset.image_size',
  )


def test_weights_of_a_run_without_labels_do_not_fit_a_conditional_one(
  fails, trained
):
  fails([CONDITIONAL, f'--init_from={trained}'], 'init_from', 'shapes')
