"""What every command does before it begins."""

import os
import pathlib

import jax
import pytest

from common_flax.cli import commands
from common_flax.errors import TrainingFailedError
from common_flax.errors import UserError


@pytest.fixture
def restored_cache():
  names = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
  )
  values = {name: getattr(jax.config, name) for name in names}
  yield
  for name, value in values.items():
    jax.config.update(name, value)


@pytest.mark.parametrize('name', [None, 'elsewhere'])
def test_compiled_programs_are_kept_unless_told_where(
  restored_cache, tmp_path, name
):
  given = name and str(tmp_path / name)
  jax.config.update('jax_compilation_cache_dir', given)
  status = commands.run(lambda *unused: 0, ['command'], lambda _: None, '')
  assert status == 0
  ours = pathlib.Path(os.environ['XDG_CACHE_HOME']) / 'gan_vae_flax/compiled'
  assert jax.config.jax_compilation_cache_dir == (given or str(ours))


def test_a_cache_that_cannot_be_made_is_named_and_replaced(
  restored_cache, tmp_path, capsys
):
  (tmp_path / 'file').touch()
  given = f'{tmp_path}/file/cache'
  jax.config.update('jax_compilation_cache_dir', given)
  assert commands.run(lambda *unused: 0, ['command'], lambda _: None, '') == 0
  error = capsys.readouterr().err
  assert error.startswith(f'JAX_COMPILATION_CACHE_DIR={given}: Not a directory')
  assert error.count('\n') == 1
  assert jax.config.jax_compilation_cache_dir != given


@pytest.mark.parametrize('variable', ['JAX_PLATFORMS', None])
def test_a_platform_that_is_not_there_is_named(
  restored_cache, monkeypatch, capsys, variable
):
  def devices():
    raise AssertionError

  monkeypatch.delenv('JAX_PLATFORMS')
  if variable:
    monkeypatch.setenv(variable, 'cuda')
  monkeypatch.setattr(jax, 'devices', devices)
  status = commands.run(lambda *_: devices(), ['command'], lambda _: None, '')
  assert status == 2
  error = capsys.readouterr().err
  where = f'{variable}=cuda: ' if variable else ''
  assert error.startswith(f'error: {where}JAX has no device to run on')
  assert error.count('\n') == 1


@pytest.mark.parametrize(
  ('error', 'status', 'line'),
  [
    (UserError('--x: wrong'), 2, 'error: --x: wrong'),
    (TrainingFailedError('it fails'), 1, 'error: it fails'),
    (OSError(28, 'No space left', '/x'), 1, 'error: /x: No space left'),
    (OSError('gone'), 1, 'error: gone'),
    (KeyboardInterrupt(), 130, None),
  ],
)
def test_errors_become_a_line_and_a_status(
  restored_cache, capsys, error, status, line
):
  def fail(*unused):
    raise error

  assert commands.run(fail, ['command'], lambda _: None, '') == status
  assert capsys.readouterr().err.splitlines() == ([line] if line else [])


def test_what_nobody_foresaw_is_raised(restored_cache):
  def fail(*unused):
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    commands.run(fail, ['command'], lambda _: None, '')
