"""What every command does before it begins."""

import os
import pathlib

import jax
import pytest

from common_flax import commands


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
