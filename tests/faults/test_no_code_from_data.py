"""Data is never run as code; recipes are code."""

import ast

from conftest import ROOT
import pytest

FILES = sorted(
  file
  for folder in (
    'common_flax',
    'gan_flax',
    'vae_flax',
    'vq_flax',
    'configs',
    'benchmarks',
  )
  for file in (ROOT / folder).rglob('*.py')
)
# Modules and functions that can run their input as code.
MODULES = {
  'cloudpickle',
  'dill',
  'joblib',
  'marshal',
  'pickle',
  'pty',
  'runpy',
  'shelve',
  'subprocess',
  'yaml',
}
CALLS = {
  '__import__',
  'compile',
  'eval',
  'exec',
  'os.popen',
  'os.system',
  'pickle.load',
  'pickle.loads',
  'torch.load',
}
# The comments at those places explain why.
ALLOWED = {
  'common_flax/cli/animations.py': {'subprocess'},  # ffmpeg, without a shell
  'common_flax/config.py': {'runpy'},  # recipes, see the README
  'configs/grid.py': {'runpy'},  # builds on another recipe
  'benchmarks/overhead.py': {'runpy'},  # recipes
  'common_flax/metrics/torch_weights.py': {'pickle'},  # calls nothing else
}


def dotted(node):
  """The text 'a.b.c' of an expression of names and attributes."""
  if isinstance(node, ast.Attribute):
    return f'{dotted(node.value)}.{node.attr}'
  return node.id if isinstance(node, ast.Name) else ''


def imported(node):
  """The top-level packages that a statement imports."""
  if isinstance(node, ast.Import):
    return {alias.name.split('.')[0] for alias in node.names}
  if isinstance(node, ast.ImportFrom) and not node.level:
    return {node.module.split('.')[0]}
  return set()


def dangers(source):
  """Imports and calls in a source that can run data as code."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    found |= imported(node) & MODULES
    if not isinstance(node, ast.Call):
      continue
    name = dotted(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in CALLS:
      found.add(name)
    if name in ('np.load', 'numpy.load'):
      allowed = keywords.get('allow_pickle')
      if not isinstance(allowed, ast.Constant) or allowed.value is not False:
        found.add('np.load without allow_pickle=False')
    if 'shell' in keywords:
      found.add('shell')
  return found


@pytest.mark.parametrize('file', FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_file_runs_nothing_that_it_reads(file):
  name = str(file.relative_to(ROOT))
  found = dangers(file.read_text())
  allowed = ALLOWED.get(name, set())
  if name.startswith('benchmarks/'):
    allowed = allowed | {'subprocess'}  # a measurement has its own process
  assert found <= allowed


@pytest.mark.parametrize(
  ('source', 'danger'),
  [
    ('import pickle', 'pickle'),
    ('from pickle import loads', 'pickle'),
    ('x = eval(y)', 'eval'),
    ('import os\nos.system("x")', 'os.system'),
    ('np.load(x)', 'np.load without allow_pickle=False'),
    ('np.load(x, allow_pickle=True)', 'np.load without allow_pickle=False'),
    ('run("x", shell=True)', 'shell'),
    ('import torch\ntorch.load(x)', 'torch.load'),
  ],
)
def test_dangerous_code_is_found(source, danger):
  assert danger in dangers(source)


def test_the_readme_says_that_recipes_are_code():
  text = ' '.join((ROOT / 'README.md').read_text().split())
  assert '## Safety' in text
  assert 'Recipes are code' in text
