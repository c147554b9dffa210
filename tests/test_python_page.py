"""The page for users of Python: its code runs, and its names exist."""

import importlib
import re

from conftest import ROOT
import numpy as np
import pytest

TEXT = (ROOT / 'docs/python.md').read_text()
NAMES = {
  module: re.findall('`(.*?)`', names)
  for module, names in re.findall(r'^\| `([\w.]+)` \| (.*) \|$', TEXT, re.M)
}


@pytest.fixture(scope='module')
def variables(tmp_path_factory):
  """What the variables of the page are at its end."""
  found = {}
  code = '\n'.join(re.findall(r'^```python\n(.*?)^```', TEXT, re.M | re.S))
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(tmp_path_factory.mktemp('python'))
    exec(compile(code, 'docs/python.md', 'exec'), found)
  return found


@pytest.mark.slow
def test_the_code_of_the_page_trains_and_draws(variables):
  assert variables['stopped_by'] is None
  np.testing.assert_array_equal(variables['steps'], [2, 4, 6, 8])
  assert np.isfinite(variables['losses']).all()
  assert variables['reconstructions'].shape == (8, 16, 16, 1)
  assert variables['drawn'].shape == (16, 16, 16, 1)


@pytest.mark.slow
def test_shapes_in_comments_are_right(variables):
  for name, shape in (
    ('images', '1797, 16, 16, 1'),
    ('means', '8, 4'),
    ('log_variances', '8, 4'),
    ('codes', '8, 4, 4, 1'),
  ):
    assert variables[name].shape == tuple(map(int, shape.split(', ')))
    assert f'[{shape}]' in TEXT


@pytest.mark.parametrize('module', NAMES)
def test_public_names_exist_and_are_documented(module):
  found = importlib.import_module(module)
  assert found.__doc__
  assert NAMES[module]
  for name in NAMES[module]:
    value = getattr(found, name)
    is_table = isinstance(value, dict) or name == 'Hook'
    assert is_table or value.__doc__, name
