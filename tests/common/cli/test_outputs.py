"""What --output may name, and what its ending means."""

import pytest

from common_flax import compare
from common_flax import compare_runs
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.errors import UserError
from gan_flax import one_parameter_gan
from vae_flax import latent_variable_models


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('a.png', '.png'),
    ('a.PNG', '.png'),
    ('a.b.jpeg', '.jpeg'),
    ('walk.mp4', '.mp4'),
    ('a.npy', '.npy'),
    ('a', outputs.FOLDER),
    ('lr_0.001/', outputs.FOLDER),
    ('old_0.1', outputs.FOLDER),  # exists
  ],
)
def test_the_ending_says_what_is_written(tmp_path, name, expected):
  (tmp_path / 'old_0.1').mkdir()
  path = f'{tmp_path}/{name}'
  assert outputs.check(path, sample_files.ENDINGS) == expected
  assert [each.name for each in tmp_path.iterdir()] == ['old_0.1']


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('walk.avi', ['.avi', '.png or .jpg', 'a folder']),
    ('lr_0.001', ['.001', 'ends in /']),
    ('a.json', ['.json', '.npz']),
  ],
)
def test_any_other_ending_is_refused(tmp_path, name, words):
  with pytest.raises(UserError) as error:
    outputs.check(f'{tmp_path}/{name}', sample_files.ENDINGS)
  for word in (f'--output={tmp_path}/{name}: ', *words):
    assert word in str(error.value)


def test_a_folder_that_holds_files_is_refused(tmp_path):
  (tmp_path / '.hidden').touch()
  outputs.check(str(tmp_path), [outputs.FOLDER])
  (tmp_path / '000064.png').touch()
  with pytest.raises(UserError, match='already holds files, such as 000064'):
    outputs.check(str(tmp_path), [outputs.FOLDER])


@pytest.mark.parametrize(
  ('main', 'arguments', 'words'),
  [
    (one_parameter_gan.main, ['--output=x.png'], 'give a folder'),
    (latent_variable_models.main, ['--output=x.pdf'], 'give a folder'),
    (compare.main, ['a', 'b', '--output=x.txt'], 'ends in .json'),
    (compare.main, ['a', 'b', '--output=x'], 'ends in .json'),
    (compare_runs.main, ['--workdirs=a,b', '--output=x.pdf'], '.png or .jpg'),
    (compare_runs.main, ['--workdirs=a,b', '--output=x'], '.png or .jpg'),
  ],
)
def test_every_command_refuses_before_it_works(
  refuses, monkeypatch, tmp_path, main, arguments, words
):
  monkeypatch.chdir(tmp_path)
  refuses(main, arguments, '--output=x', words, folder=tmp_path)
