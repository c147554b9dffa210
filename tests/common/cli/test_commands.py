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


@pytest.mark.parametrize('given', [None, '/elsewhere'])
def test_compiled_programs_are_kept_unless_told_where(restored_cache, given):
  jax.config.update('jax_compilation_cache_dir', given)
  status = commands.run(lambda *unused: 0, ['command'], lambda _: None, '')
  assert status == 0
  ours = pathlib.Path(os.environ['XDG_CACHE_HOME']) / 'gan_vae_flax/compiled'
  assert jax.config.jax_compilation_cache_dir == (given or str(ours))


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
