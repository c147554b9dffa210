"""Commands start without detours."""

import gc
import subprocess
import sys
import textwrap

from common_flax import startup


def run(code, **environment):
  """What a fresh Python prints."""
  return subprocess.run(
    [sys.executable, '-c', textwrap.dedent(code)],
    env=environment,
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


def test_pytorch_is_not_imported_for_tensorboard(tmp_path):
  (tmp_path / 'torch.py').write_text('print("imported")')
  code = """
    import sys
    import common_flax.tensorboard
    print('torch' in sys.modules)
    import torch
    import tensorboardX
  """
  assert run(code, PYTHONPATH=str(tmp_path)) == ['False', 'imported']
