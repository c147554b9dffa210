"""Commands import no more than they need, without collecting garbage."""

import gc
import importlib
import os
import pathlib
import subprocess
import sys
import textwrap
import types

import pytest

from common_flax.cpu import startup

ROOT = pathlib.Path(__file__).parents[3]


def run(code, folder=ROOT):
  """Runs code in a fresh Python; returns the printed words."""
  return subprocess.run(
    [sys.executable, '-c', textwrap.dedent(code)],
    env={**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}'},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()


def test_imports_are_not_searched_for_garbage_then_or_later():
  code = """
    import gc
    from common_flax.cpu import startup
    with startup.importing():
      print(gc.isenabled(), gc.get_freeze_count() > 0)
      import json
    print(gc.isenabled(), gc.get_freeze_count() > 0)
  """
  assert run(code) == ['False', 'False', 'True', 'True']


def test_garbage_collection_stays_off_if_it_was():
  code = """
    import gc
    from common_flax.cpu import startup
    gc.disable()
    with startup.importing():
      import json
    print(gc.isenabled())
  """
  assert run(code) == ['False']


def test_nothing_changes_once_jax_is_imported():
  frozen = gc.get_freeze_count()
  with startup.importing():
    assert gc.isenabled()
  assert gc.get_freeze_count() == frozen


@pytest.mark.parametrize('family', ['gan_flax', 'vae_flax', 'vq_flax'])
def test_main_modules_do_not_import_jax(family):
  code = f"""
    import sys
    import {family}.main
    print('jax' in sys.modules)
  """
  assert run(code) == ['False']


def test_pytorch_is_not_imported_for_tensorboard(tmp_path):
  (tmp_path / 'torch.py').write_text('print("imported")')
  code = """
    import sys
    import common_flax.workdir.tensorboard
    print('torch' in sys.modules)
    import torch
  """
  assert run(code, tmp_path) == ['False', 'imported']


def test_an_imported_package_is_not_hidden(monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', types.ModuleType('torch'))
  before = sys.modules['torch']
  with startup.without('torch'):
    assert sys.modules['torch'] is before
  assert sys.modules['torch'] is before


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('JAX_DISABLE_JIT', "invalid truth value 'odd' for 'JAX_DISABLE_JIT'"),
    ('JAX_NUM_CPU_DEVICES', 'Invalid value "odd" for jax_num_cpu_devices'),
    ('JAX_DEFAULT_DEVICE', "jax.default_device must be a device, got: 'odd'"),
  ],
)
def test_a_variable_that_jax_refuses_is_named(
  monkeypatch, capsys, name, message
):
  monkeypatch.setenv(name, 'odd')
  with pytest.raises(SystemExit) as raised, startup.importing():
    raise ValueError(message)  # as `import jax` does
  assert raised.value.code == 2
  error = capsys.readouterr().err
  assert error.startswith(f'error: {name}=odd: {message}; unset it')
  assert error.count('\n') == 1


def test_other_errors_of_imports_are_raised(monkeypatch):
  monkeypatch.setenv('JAX_DISABLE_JIT', '0')
  with pytest.raises(ValueError, match='other'), startup.importing():
    raise ValueError('other')


def test_closed_standard_files_are_opened():
  # Else the next files, such as a checkpoint, would get what libraries print.
  code = """
    import os, sys
    out = os.dup(1)
    os.close(1)
    os.close(2)
    from common_flax.cpu import startup
    with startup.importing():
      pass
    links = [os.readlink(f'/proc/self/fd/{number}') for number in (1, 2)]
    os.write(out, ' '.join(links).encode())
  """
  assert run(code) == [os.devnull, os.devnull]


def test_a_folder_of_the_same_name_is_no_installed_package(
  tmp_path, monkeypatch
):
  (tmp_path / 'no_package').mkdir()
  monkeypatch.syspath_prepend(tmp_path)
  assert not startup.is_installed('no_package')
  (tmp_path / 'no_package' / '__init__.py').touch()
  importlib.invalidate_caches()
  assert startup.is_installed('no_package')
  assert not startup.is_installed('no_such_package')
