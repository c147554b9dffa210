"""Commands start without detours."""

import gc
import os
import pathlib
import subprocess
import sys
import textwrap
import types

import pytest

from common_flax import startup

ROOT = pathlib.Path(__file__).parents[2]


def run(code, folder=ROOT):
  """What a fresh Python prints."""
  return subprocess.run(
    [sys.executable, '-c', textwrap.dedent(code)],
    env={**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}'},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()


def test_nothing_is_searched_while_importing_nor_what_it_left_later():
  code = """
    import gc
    from common_flax import startup
    with startup.importing():
      print(gc.isenabled(), gc.get_freeze_count() > 0)
      import json
    print(gc.isenabled(), gc.get_freeze_count() > 0)
  """
  assert run(code) == ['False', 'False', 'True', 'True']


def test_who_collects_no_garbage_goes_on_so():
  code = """
    import gc
    from common_flax import startup
    gc.disable()
    with startup.importing():
      import json
    print(gc.isenabled())
  """
  assert run(code) == ['False']


def test_nothing_changes_where_jax_is_imported():
  frozen = gc.get_freeze_count()
  with startup.importing():
    assert gc.isenabled()
  assert gc.get_freeze_count() == frozen


@pytest.mark.parametrize('family', ['gan_flax', 'vae_flax'])
def test_training_imports_jax_no_sooner(family):
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
    import common_flax.tensorboard
    print('torch' in sys.modules)
    import torch
  """
  assert run(code, tmp_path) == ['False', 'imported']


def test_what_is_imported_stays(monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', types.ModuleType('torch'))
  before = sys.modules['torch']
  with startup.without('torch'):
    assert sys.modules['torch'] is before
  assert sys.modules['torch'] is before
