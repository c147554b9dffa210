"""Nothing that is read is run as code, but for the recipes."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted(
  file
  for folder in ('common_flax', 'gan_flax', 'vae_flax', 'configs', 'benchmarks')
  for file in (ROOT / folder).rglob('*.py')
)
# Modules and functions that run, or can run, what is given to them.
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
# What each is for is said there.
ALLOWED = {
  'common_flax/config.py': {'runpy'},  # recipes, see the README
  'configs/grid.py': {'runpy'},  # builds on another recipe
  'benchmarks/overhead.py': {'runpy'},  # recipes
  'common_flax/metrics/torch_weights.py': {'pickle'},  # calls nothing else
}


def dotted(node):
  """'a.b.c' of an expression, as far as it is one."""
  if isinstance(node, ast.Attribute):
    return f'{dotted(node.value)}.{node.attr}'
  return node.id if isinstance(node, ast.Name) else ''


def imported(node):
  """The modules that a statement imports, each by its first name."""
  if isinstance(node, ast.Import):
    return {alias.name.split('.')[0] for alias in node.names}
  if isinstance(node, ast.ImportFrom) and not node.level:
    return {node.module.split('.')[0]}
  return set()


def dangers(source):
  """What a source imports or calls that can run what is given to it."""
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
def test_what_is_dangerous_is_seen(source, danger):
  assert danger in dangers(source)


def test_the_readme_says_that_recipes_are_code():
  text = ' '.join((ROOT / 'README.md').read_text().split())
  assert '## Safety' in text
  assert 'Recipes are code' in text
