"""The floors of the house: a file imports only from floors below its own."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# The longest matching name counts. Packages on one floor do not import each
# other; the files of one package may.
FLOORS = {
  'common_flax': 0,
  'common_flax.cpu': 1,
  'common_flax.nn': 2,
  'common_flax.data': 2,
  'common_flax.distributed': 3,
  'common_flax.workdir': 4,
  'common_flax.likelihoods': 4,
  'common_flax.metrics': 5,
  'common_flax.cli': 5,
  'common_flax.report': 5.5,
  'common_flax.annealing': 6,
  'common_flax.evaluation': 6,
  'common_flax.explore': 6,
  'common_flax.training': 7,
  'common_flax.export': 7,
  'FAMILY.losses': 8,
  'FAMILY.penalties': 8,
  'FAMILY.mode_coverage': 8,
  'FAMILY.augmentation': 8,
  'FAMILY.mixture': 8,
  'FAMILY.nonlinear': 8,
  'FAMILY.quantisers': 8,
  'FAMILY.models': 9,
  'FAMILY.priors': 9,
  'FAMILY.priors.fitted': 15,
  'FAMILY.prior': 15,
  'FAMILY.prior.train': 16,
  'FAMILY.config': 10,
  'FAMILY.gan': 10,
  'FAMILY.vae': 10,
  'FAMILY.vq': 10,
  'FAMILY.state': 11,
  'FAMILY.batches': 12,
  'FAMILY.inference': 12,
  'FAMILY.steps': 13,
  'FAMILY.generation': 13,
  'FAMILY.estimation': 13,
  'FAMILY.trained': 14,
  'FAMILY.watch': 14,
  'FAMILY.overfitting': 14,
  'FAMILY.pictures': 15,
  'FAMILY.drawing': 15,
  'FAMILY.measurements': 15,
  'FAMILY.metrics': 15.5,
  'FAMILY.kinds': 15.5,
  'FAMILY.explorer': 15,
  'FAMILY.explorer.points_page': 16,
  'FAMILY.exporting': 16,
  'FAMILY.train': 16,
  'FAMILY.sample': 16,
  'FAMILY.evaluate': 16,
  # Commands.
  'common_flax.explore.__main__': 17,
  'FAMILY.explorer.page': 17,
  'FAMILY.main': 17,
  'FAMILY.prior.__main__': 17,
  'FAMILY.figures': 17,
  'FAMILY.latent_variable_models': 18,
  'FAMILY.one_parameter_gan': 18,
  'FAMILY.one_parameter_game': 17,
  'common_flax.prepare': 17,
  'common_flax.compare': 17,
  'common_flax.compare_runs': 17,
}
FAMILIES = ('gan_flax', 'vae_flax', 'vq_flax')
PACKAGES = ('common_flax', *FAMILIES)
FILES = sorted(
  file for package in PACKAGES for file in (ROOT / package).rglob('*.py')
)


def module_name(file):
  parts = file.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_name(file) for file in FILES}


def place(module):
  """The row of FLOORS that a module belongs to."""
  neutral = re.sub('^(gan|vae|vq)_flax', 'FAMILY', module)
  rows = [row for row in FLOORS if f'{neutral}.'.startswith(f'{row}.')]
  assert rows, f'{module} has no floor: give it one in FLOORS'
  return max(rows, key=len)


def imported_modules(file):
  """The modules that a file imports, those of the project by full name."""
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        full = f'{node.module}.{alias.name}'
        yield full if full in MODULES else node.module


def ids(file):
  return str(file.relative_to(ROOT))


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_a_file_imports_only_from_floors_below(file):
  here = module_name(file)
  if here in FAMILIES:  # light: it takes the version alone
    imported = imported_modules(file)
    assert {m for m in imported if m.startswith(PACKAGES)} <= {'common_flax'}
    return
  for module in imported_modules(file):
    if module.startswith(PACKAGES) and place(module) != place(here):
      below = FLOORS[place(module)] < FLOORS[place(here)]
      assert below, f'{here} imports {module}'


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_a_family_does_not_import_the_other(file):
  family = file.relative_to(ROOT).parts[0]
  strangers = set(FAMILIES) - {family}
  for module in imported_modules(file):
    assert module.split('.')[0] not in strangers


def test_sampling_and_evaluating_do_not_import_training():
  for family in FAMILIES:
    for command in ('sample', 'evaluate'):
      file = ROOT / family / f'{command}.py'
      assert f'{family}.train' not in imported_modules(file)


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_no_file_imports_tensorflow(file):
  # common_flax.prepare gets it through TFDS, which imports it when it must.
  for module in imported_modules(file):
    assert module.split('.')[0] != 'tensorflow'


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_common_flax_names_no_family(file):
  if file.relative_to(ROOT).parts[0] == 'common_flax':
    assert not re.search(r'\b(gan|vae)s?\b', file.read_text(), re.IGNORECASE)


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_rooms_and_functions_stay_small(file):
  text = file.read_text()
  assert text.count('\n') <= 350
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      assert node.end_lineno - node.lineno < 60, node.name


def test_folders_stay_small():
  for folder in {file.parent for file in FILES}:
    is_family = folder.name in FAMILIES
    assert len([*folder.glob('*.py')]) - 1 <= (20 if is_family else 15), folder


def test_mapped_axes_are_settled_where_a_step_is_built():
  lines = [
    line
    for file in FILES
    for line in file.read_text().splitlines()
    if 'axis_name' in line
  ]
  assert len(lines) <= 25
