"""The floors of the house: a file imports only from floors below its own."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# The longest matching prefix counts.
FLOORS = {
  'common_flax.files': -1,
  'common_flax.prng': 0,
  'common_flax.threefry': 0,
  'common_flax.alarms': 0,
  'common_flax.caches': 0,
  'common_flax.compiler': 0,
  'common_flax.config': 0,
  'common_flax.images': 0,
  'common_flax.memory': 0,
  'common_flax.signals': 0,
  'common_flax.startup': 0,
  'common_flax.processes': 1,
  'common_flax.latents': 1,
  'common_flax.optimisers': 1,
  'common_flax.data.decode': 1,
  'common_flax.data.source': 1,
  'common_flax.data.remote': 2,
  'common_flax.data.decoded': 3,
  'common_flax.data.digits': 3,
  'common_flax.data.folder': 3,
  'common_flax.data.tfds_images': 3,
  'common_flax.data.batches': 3,
  'common_flax.data.worlds': 3,
  'common_flax.data.stacked': 3,
  'common_flax.data': 4,
  'common_flax.sharding': 4,
  'common_flax.seeds': 5,
  'common_flax.speed': 4,
  'common_flax.checkpoints': 4,
  'common_flax.tensorboard': 3,
  'common_flax.writers': 4,
  'common_flax.terminal': 4,
  'common_flax.commands': 4,
  'common_flax.sample_files': 5,
  'common_flax.nn.winograd': 3,
  'common_flax.nn.layers': 5,
  'common_flax.nn.norms': 5,
  'common_flax.nn.labels': 6,
  'common_flax.nn.minibatch': 4,
  'common_flax.nn': 4,
  'common_flax.finite': 5,
  'common_flax.meter': 6,
  'common_flax.metrics': 4,
  'common_flax.metrics.classifier': 5,
  'common_flax.metrics.inception_weights': 5,
  'common_flax.metrics.inception_score': 4,
  'common_flax.metrics.inception': 6,
  'common_flax.metrics.random_network': 5,
  'common_flax.metrics.features': 7,
  'common_flax.workdir': 5,
  'common_flax.lock': 6,
  'common_flax.training_command': 5,
  'common_flax.figures': 4,
  'common_flax.figure_command': 5,
  'common_flax.task': 5,
  'common_flax.reporter': 7,
  'common_flax.training': 8,
  'common_flax.loop': 9,
  'common_flax.sources': 5,
  'common_flax.evaluation': 8,
  'common_flax.references': 9,
  'common_flax.family': 5,
  'common_flax.tasks': 10,
  'common_flax.runs': 11,
  'common_flax.reports': 10,
  'FAMILY.mixture': 7,
  'FAMILY.nonlinear': 7,
  'FAMILY.toy': 8,
  'FAMILY.toy_figures': 9,
  'FAMILY.one_parameter_gan': 10,
  'FAMILY.mixture_figures': 8,
  'FAMILY.nonlinear_figures': 8,
  'FAMILY.latent_variable_models': 9,
  'FAMILY.observations': 7,
  'FAMILY.likelihoods': 6,
  'FAMILY.losses': 7,
  'FAMILY.penalties': 7,
  'FAMILY.augmentation': 7,
  'FAMILY.world_pictures': 7,
  'FAMILY.models.': 7,
  'FAMILY.models': 8,
  'FAMILY.config': 9,
  'FAMILY.state': 10,
  'FAMILY.inference': 11,
  'FAMILY.examples': 11,
  'FAMILY.steps': 12,
  'FAMILY.generation': 13,
  'FAMILY.estimation': 12,
  'FAMILY.watch': 14,
  'FAMILY.trained': 14,
  'FAMILY.train': 15,
  'FAMILY.measurements': 15,
  'FAMILY.sample': 16,
  'FAMILY.evaluate': 16,
  'common_flax.prepare': 16,
  'common_flax.image_sets': 5,
  'common_flax.compare': 16,
  'common_flax.compare_runs': 16,
  'FAMILY.main': 17,
}
FAMILIES = ('gan_flax', 'vae_flax')
PACKAGES = ('common_flax', *FAMILIES)
FILES = sorted(
  file for package in PACKAGES for file in (ROOT / package).rglob('*.py')
)


def module_name(file):
  parts = file.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def floor(module):
  neutral = re.sub('^(gan|vae)_flax', 'FAMILY', module)
  prefixes = [p for p in FLOORS if neutral.startswith(p)]
  assert prefixes, f'{module} has no floor: give it one in FLOORS'
  return FLOORS[max(prefixes, key=len)]


def imported_modules(file):
  """The project's modules that a file imports."""
  known = {module_name(other) for other in FILES}
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [
        f'{node.module}.{a.name}'
        if f'{node.module}.{a.name}' in known
        else node.module
        for a in node.names
      ]
    else:
      continue
    yield from names


def ids(file):
  return str(file.relative_to(ROOT))


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_a_file_imports_only_from_floors_below(file):
  here = module_name(file)
  if here in PACKAGES:
    assert not [m for m in imported_modules(file) if m.startswith(PACKAGES)]
    return
  for module in imported_modules(file):
    if module.startswith(PACKAGES):
      assert floor(module) < floor(here), f'{here} imports {module}'


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_a_family_does_not_import_the_other(file):
  family = file.relative_to(ROOT).parts[0]
  strangers = set(FAMILIES) - {family}
  for module in imported_modules(file):
    assert module.split('.')[0] not in strangers


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_no_file_imports_tensorflow(file):
  # common_flax.prepare gets it through TFDS, which imports it when it must.
  for module in imported_modules(file):
    assert module.split('.')[0] != 'tensorflow'


@pytest.mark.parametrize('file', FILES, ids=ids)
def test_the_ground_floor_names_no_family(file):
  if file.relative_to(ROOT).parts[0] == 'common_flax':
    assert not re.search(r'\b(gan|vae)s?\b', file.read_text(), re.IGNORECASE)
