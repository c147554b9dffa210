"""A field that was set either has an effect or is refused."""

import pathlib
import runpy

from conftest import recipe
import pytest
from test_configs import GAN_RECIPES
from test_configs import PRIOR_RECIPES
from test_configs import VAE_RECIPES
from test_configs import VQ_RECIPES

from common_flax import config as config_lib
from common_flax import effects as effects_lib
from common_flax.data import fields as dataset_fields
from common_flax.errors import UserError
from common_flax.training import time_limit
from common_flax.training import trial as trial_lib
from common_flax.workdir import layout
from gan_flax import config as gan_config
from gan_flax import main as gan_main
from vae_flax import config as vae_config
from vae_flax import main as vae_main
from vq_flax import config as vq_config
from vq_flax.prior import config as prior_config

EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'autoencoder.py'
SHARED = {**effects_lib.SHARED, **dataset_fields.EFFECTS}
FAMILIES = {
  'gan': (gan_config.default, {**SHARED, **gan_config.EFFECTS}),
  'vae': (vae_config.default, {**SHARED, **vae_config.EFFECTS}),
  'vq': (vq_config.default, {**SHARED, **vq_config.EFFECTS}),
  'prior': (prior_config.default, {**SHARED, **prior_config.EFFECTS}),
}

NONE = {'augmentation.name': 'none'}
ADA = {'augmentation.name': 'ada'}
FOLDER = {'dataset.name': 'folder'}
NPZ = FOLDER | {'dataset.path': '/x.npz'}
STACKED = {'dataset.name': 'stacked'}
GREY = {'dataset.binarise': 'none', 'likelihood': 'logistic'}
IWAE = {'objective': 'iwae'}
UNCOUNTED = {'codebook.learning': 'gradient', 'codebook.restart_below': 0.0}
R3GAN = {'model.name': 'r3gan'}
RING = {'dataset.name': 'ring', 'model.name': 'mlp'}
CUSTOM = {'dataset.name': 'custom'}
MLP = {'model.name': 'mlp'}
HIERARCHY = {'model.name': 'hierarchical'}
FSQ = {'model.name': 'fsq'}
SCORED = {'evaluate_every_steps': 1000}


def changed(family, changes):
  config = FAMILIES[family][0]().unlock()
  config.update_from_flattened_dict(changes)
  return config


def check(family, changes, stored=None):
  """Checks the effects of the default config's fields with these changes."""
  default, effects = FAMILIES[family]
  config = changed(family, changes)
  effects_lib.check(config, effects, default(), stored)


@pytest.mark.parametrize('family', FAMILIES)
def test_the_table_has_every_field(family):
  default, effects = FAMILIES[family]
  assert effects.keys() == config_lib.flatten(default()).keys()


def test_the_shared_tables_have_every_shared_field():
  assert SHARED.keys() == config_lib.flatten(config_lib.base()).keys()


def test_every_condition_names_fields_that_exist():
  for default, effects in FAMILIES.values():
    fields = config_lib.flatten(default())
    for conditions in effects.values():
      for condition in conditions:
        assert {*condition.decisive} <= fields.keys()
        assert condition.decisive


# family, a field without an effect and its value, the fields that decide, words
REFUSED = [
  ('gan', 'dataset.path', '/no', {}, 'dataset.name=digits; remove it, or add '),
  ('gan', 'dataset.path', '/no', {}, 'add --config.dataset.name=folder'),
  ('gan', 'dataset.path', '/no', {'dataset.name': 'mnist'}, 'name=mnist'),
  ('gan', 'dataset.path', '/no', RING, 'dataset.name=ring'),
  ('gan', 'dataset.path', '/no', CUSTOM, 'custom; remove it, or leave out the'),
  ('gan', 'dataset.path', '/no', STACKED, 'dataset.stack_of=folder'),
  ('vae', 'dataset.path', '/no', {}, 'dataset.name=folder'),
  ('gan', 'dataset.labels', 'a.csv', {}, 'add --config.dataset.name=folder'),
  ('gan', 'dataset.background', 'red', NPZ, 'dataset.path=/x.npz; set it to'),
  ('gan', 'dataset.skip_corrupt', True, NPZ, 'dataset.path=/x.npz; set it to'),
  ('gan', 'dataset.data_dir', '/no', {}, 'add --config.dataset.name=mnist'),
  ('gan', 'dataset.data_dir', '/no', FOLDER, 'dataset.name=folder'),
  ('gan', 'dataset.data_dir', '/no', RING, 'dataset.name=ring'),
  ('gan', 'dataset.data_dir', '/no', STACKED, 'dataset.stack_of=digits'),
  ('gan', 'dataset.stack_of', 'mnist', {}, 'add --config.dataset.name=stacked'),
  ('gan', 'dataset.split', 'test', CUSTOM, "set it to 'train'"),
  ('gan', 'dataset.image_size', 64, RING, 'set it to 32'),
  ('gan', 'dataset.background', 'red', {}, 'add --config.dataset.crop=fit'),
  ('gan', 'dataset.crop', 'fit', RING, "set it to 'center'"),
  ('gan', 'dataset.crop', 'fit', CUSTOM, 'leave out the source'),
  ('gan', 'dataset.white_level', 4095.0, {}, 'dataset.name=folder'),
  ('gan', 'dataset.flip', True, RING, 'dataset.name=ring; set it to False'),
  ('gan', 'dataset.skip_corrupt', True, {}, 'dataset.name=digits'),
  ('gan', 'dataset.skip_corrupt', True, RING, 'dataset.name=ring'),
  ('gan', 'dataset.skip_corrupt', True, STACKED, 'dataset.stack_of=digits'),
  ('vae', 'dataset.binarise_seed', 3, {}, 'dataset.binarise=fixed'),
  ('gan', 'on_nan_max_skips', 7, {}, 'on_nan=stop; set it to 100'),
  ('gan', 'on_nan_max_skips', 7, {'on_nan': 'rollback'}, 'on_nan=skip'),
  ('vae', 'on_nan_max_rollbacks', 7, {'on_nan': 'skip'}, 'on_nan=rollback'),
  ('gan', 'on_collapse_max_rollbacks', 7, {}, 'add --config.on_collapse=roll'),
  ('gan', 'evaluation_metrics', ('kid',), {}, 'evaluate_every_steps=0'),
  ('gan', 'evaluation_num_samples', 9, {}, 'evaluate_every_steps=1000'),
  ('vae', 'evaluation_features', 'random', {}, 'evaluate_every_steps=0'),
  ('gan', 'evaluation_inception_weights', '/no', {}, 'evaluate_every_steps'),
  (
    'gan',
    'evaluation_inception_weights',
    '/no',
    SCORED | {'evaluation_features': 'random'},
    'evaluation_features=random',
  ),
  ('gan', 'evaluation_resize', 'legacy', {}, 'evaluate_every_steps=0'),
  ('gan', 'evaluation_resize', 'legacy', SCORED, 'evaluation_features=auto'),
  ('gan', 'model.kernel_size', 5, {'model.name': 'resnet'}, 'name=dcgan'),
  ('gan', 'model.grid_size', 64, RING, 'name=dcgan or resnet or r3gan'),
  ('gan', 'model.blocks_per_stage', 3, {}, 'add --config.model.name=r3gan'),
  ('gan', 'model.group_size', 8, {}, 'model.name=dcgan; set it to 16'),
  ('gan', 'model.generator_norm', 'batch', R3GAN, 'dcgan or resnet or pacgan'),
  ('gan', 'model.discriminator_norm', 'layer', R3GAN, "set it to 'batch'"),
  ('gan', 'model.spectral_norm', True, R3GAN, 'model.name=r3gan'),
  ('gan', 'model.minibatch_deviation', True, R3GAN, 'model.name=r3gan'),
  ('gan', 'penalty.every_steps', 4, {}, 'penalty.r1=0.0, penalty.r2=0.0'),
  ('gan', 'ema_schedule', 'cosine', {'ema_decay': 0.0}, 'ema_decay=0.0'),
  ('gan', 'penalty.final_share', 0.5, {}, 'add --config.penalty.r1=1.0'),
  ('gan', 'augmentation.color', True, NONE, 'augmentation.name=diffaugment'),
  ('gan', 'augmentation.translation', True, ADA, 'augmentation.name=ada'),
  ('gan', 'augmentation.cutout', True, RING, 'dataset.name=ring'),
  ('gan', 'augmentation.groups', ('blit',), {}, 'add --config.augmentation.na'),
  ('gan', 'augmentation.target', 0.5, NONE, 'augmentation.name=ada'),
  ('gan', 'augmentation.speed_images', 9, {}, 'augmentation.name=ada'),
  ('gan', 'generator.final_share', 0.5, {}, 'generator.schedule=cosine'),
  ('gan', 'discriminator.final_share', 0.5, {}, 'discriminator.schedule='),
  ('vae', 'optimizer.final_share', 0.5, {}, 'optimizer.schedule=constant'),
  ('vae', 'model.hidden_sizes', (7,), {}, 'add --config.model.name=mlp'),
  ('vae', 'optimizer.skip_at_most', 3, {}, 'optimizer.skip_grad_norm=400'),
  ('gan', 'generator.skip_at_most', 3, {}, 'generator.skip_grad_norm=400'),
  (
    'gan',
    'discriminator.skip_at_most',
    3,
    {},
    'discriminator.skip_grad_norm=400',
  ),
  ('vae', 'model.latent_size', 7, HIERARCHY, 'model.name=conv or mlp'),
  ('vae', 'model.groups', ((1, 2, 1, 1),), {}, 'model.name=hierarchical'),
  ('vae', 'model.prior_components', 7, {}, 'model.prior=mixture'),
  ('vae', 'model.base_features', 7, MLP, 'add --config.model.name=conv'),
  ('vae', 'likelihood_scale', 0.2, {}, 'add --config.likelihood=gaussian'),
  ('vae', 'likelihood_scale', 0.2, GREY, 'likelihood=logistic'),
  ('vae', 'likelihood_components', 5, GREY, 'likelihood=logistic_mixture'),
  ('vae', 'kl', 'monte_carlo', IWAE, "set it to 'closed_form'"),
  ('vae', 'beta', 2.0, IWAE, 'set it to 1.0, or add --config.objective=elbo'),
  ('vae', 'kl_warmup_steps', 9, IWAE, 'objective=elbo'),
  ('vae', 'kl_warmup_steps', 9, {'beta': 0.0}, 'beta=0.0'),
  (
    'vae',
    'kl_warmup_steps',
    9,
    {'num_steps': 8},
    'never ends with num_steps=8; set it to 0, or train for more steps',
  ),
  ('vae', 'free_bits_nats', 0.1, {'objective': 'dreg'}, 'objective=dreg'),
  ('vae', 'free_bits_nats', 0.1, {'beta': 0.0}, 'beta=0.0'),
  ('vae', 'total_correlation_weight', 5.0, IWAE, 'objective=elbo'),
  ('vq', 'dataset.binarise_seed', 3, {}, 'dataset.binarise=fixed'),
  ('vq', 'likelihood_scale', 0.2, {}, 'add --config.likelihood=gaussian'),
  ('vq', 'likelihood_components', 5, GREY, 'likelihood=logistic_mixture'),
  ('vq', 'model.num_codes', 7, FSQ, 'model.name=fsq; set it to 512, or add '),
  ('vq', 'model.code_size', 7, FSQ, 'add --config.model.name=vq'),
  ('vq', 'model.num_codebooks', 2, FSQ, 'add --config.model.name=vq'),
  ('vq', 'model.gradient', 'rotation', FSQ, 'add --config.model.name=vq'),
  ('vq', 'model.levels', (3, 3), {}, 'add --config.model.name=fsq'),
  ('vq', 'codebook.learning', 'gradient', FSQ, 'model.name=vq'),
  ('vq', 'codebook.decay', 0.9, FSQ, 'model.name=vq'),
  ('vq', 'codebook.decay', 0.9, UNCOUNTED, 'codebook.learning=average'),
  ('vq', 'codebook.start', 'random', FSQ, 'model.name=vq'),
  ('vq', 'codebook.restart_below', 2.0, FSQ, 'model.name=vq'),
  ('vq', 'commitment', 1.0, FSQ, 'model.name=vq'),
  ('vq', 'optimizer.final_share', 0.5, {}, 'optimizer.schedule=constant'),
  ('vq', 'optimizer.skip_at_most', 3, {}, 'optimizer.skip_grad_norm=400'),
  ('prior', 'dataset.binarise_seed', 3, {}, 'dataset.binarise=fixed'),
  ('prior', 'optimizer.final_share', 0.5, {}, 'optimizer.schedule=constant'),
  ('prior', 'optimizer.skip_at_most', 3, {}, 'skip_grad_norm=400'),
]


@pytest.mark.parametrize(
  ('family', 'field', 'value', 'others', 'words'), REFUSED
)
def test_a_field_without_an_effect_is_refused(
  family, field, value, others, words
):
  check(family, others)  # accepted as long as the field has its default
  with pytest.raises(UserError) as caught:
    check(family, others | {field: value})
  message = str(caught.value)
  assert message.startswith(f'config.{field}={value!r}: ')
  assert words in message
  assert '\n' not in message
  # A run that began with it goes on.
  check(family, others | {field: value}, changed(family, {field: value}))


def test_every_condition_is_tested():
  for family, (_, effects) in FAMILIES.items():
    conditional = {field for field in effects if effects[field]}
    shared = {field for field in conditional if field in SHARED}
    tested = {field for name, field, *_ in REFUSED if name == family}
    anywhere = {field for _, field, *_ in REFUSED}
    assert conditional - shared <= tested
    assert shared <= anywhere


@pytest.mark.parametrize(
  ('family', 'changes'),
  [
    ('gan', FOLDER | {'dataset.path': '/x', 'dataset.skip_corrupt': True}),
    ('gan', STACKED | {'dataset.stack_of': 'folder', 'dataset.path': '/x'}),
    ('gan', NPZ | {'dataset.labels': 'y', 'dataset.white_level': 255.0}),
    ('gan', STACKED | {'dataset.stack_of': 'mnist', 'dataset.data_dir': '/x'}),
    ('gan', {'dataset.name': 'mnist', 'dataset.data_dir': '/x'}),
    ('gan', {'dataset.split': 'train[:9]', 'dataset.flip': True}),
    ('gan', RING | {'dataset.split': 'test'}),
    ('gan', {'on_nan': 'skip', 'on_nan_max_skips': 7}),
    ('gan', {'on_collapse': 'rollback', 'on_collapse_max_rollbacks': 7}),
    ('gan', SCORED | {'evaluation_features': 'inception'}),
    (
      'gan',
      SCORED
      | {'evaluation_inception_weights': '/x', 'evaluation_resize': 'legacy'},
    ),
    ('gan', R3GAN | {'model.discriminator_norm': 'none'}),
    ('gan', R3GAN | {'model.generator_norm': 'none', 'model.group_size': 8}),
    ('gan', RING | {'model.generator_norm': 'batch'}),
    ('gan', {'penalty.gradient': 1.0, 'penalty.every_steps': 4}),
    ('gan', ADA | {'augmentation.groups': ('blit',)}),
    ('gan', {'generator.schedule': 'linear', 'generator.final_share': 0.5}),
    ('vae', MLP | {'model.hidden_sizes': (7,)}),
    ('vae', GREY | {'likelihood': 'gaussian', 'likelihood_scale': 0.2}),
    (
      'vae',
      {'dataset.binarise': 'none', 'likelihood': 'logistic_mixture'}
      | {'likelihood_components': 5},
    ),
    ('vae', {'dataset.binarise': 'fixed', 'dataset.binarise_seed': 3}),
    ('vae', {'kl_warmup_steps': 10_000, 'free_bits_nats': 0.1, 'beta': 2.0}),
    ('vae', {'num_importance_samples': 5, 'evaluation_samples': 60}),
    ('vae', {'model.prior': 'vampprior', 'model.prior_components': 7}),
  ],
)
def test_a_field_with_an_effect_is_accepted(family, changes):
  check(family, changes)


@pytest.mark.parametrize(
  ('family', 'name', 'variant'),
  [
    *(('gan', *each) for each in GAN_RECIPES),
    *(('vae', *each) for each in VAE_RECIPES),
    *(('vq', *each) for each in VQ_RECIPES),
    *(('prior', *each) for each in PRIOR_RECIPES),
  ],
)
def test_all_that_a_recipe_sets_has_an_effect(family, name, variant):
  default, effects = FAMILIES[family]
  config = recipe(name, variant)
  configs = {
    'gan': gan_config,
    'vae': vae_config,
    'vq': vq_config,
    'prior': prior_config,
  }
  configs[family].check(config)
  effects_lib.check(config, effects, default())


@pytest.mark.usefixtures('in_the_repository')
@pytest.mark.parametrize(
  ('main', 'name'), [(gan_main.main, 'dcgan'), (vae_main.main, 'vae')]
)
def test_training_refuses_the_path_of_no_folder(refuses, tmp_path, main, name):
  arguments = [
    f'--config=configs/{name}.py:smoke',
    f'--workdir={tmp_path}/run',
    '--config.dataset.path=/no/such',
  ]
  words = "config.dataset.path='/no/such': has no effect", 'dataset.name=folder'
  refuses(main, arguments, *words, folder=tmp_path)


@pytest.mark.usefixtures('in_the_repository')
def test_the_family_s_own_table_is_used(refuses, tmp_path):
  workdir = f'--workdir={tmp_path}/run'
  arguments = ['--config=configs/dcgan.py:smoke', workdir]
  arguments.append('--config.model.group_size=8')
  refuses(gan_main.main, arguments, 'model.group_size=8', folder=tmp_path)
  arguments = ['--config=configs/vae.py:smoke', workdir]
  arguments.append('--config.likelihood_scale=0.2')
  refuses(vae_main.main, arguments, 'likelihood_scale=0.2', folder=tmp_path)


def test_a_family_of_ones_own_has_the_shared_table(tmp_path):
  example = runpy.run_path(str(EXAMPLE))
  config = example['get_config']('smoke').unlock()
  config.dataset.path = '/no/such'
  with pytest.raises(UserError, match=r'dataset\.path.*dataset\.name=folder'):
    example['train'](config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_run_that_began_with_such_a_field_resumes(tmp_path):
  """Earlier versions ignored it; another value of it is still refused."""
  default, effects = FAMILIES['gan']
  config = changed('gan', {'dataset.path': '/one'})
  layout.write_config(tmp_path, config)
  config.num_steps = 20_000
  layout.check(tmp_path, config, default(), False, effects)
  config.dataset.path = '/other'
  with pytest.raises(UserError, match=r"dataset\.path='/other': has no effect"):
    layout.check(tmp_path, config, default(), False, effects)
  assert gan_config.read(tmp_path).dataset.path == '/one'


def test_a_time_that_is_too_short_for_a_warm_up_leaves_nothing(
  tmp_path, monkeypatch
):
  costs = time_limit.Costs(start=0.0, end=0.0, step=1.0)
  monkeypatch.setattr(time_limit, '_try', lambda *unused: costs)
  config = changed('vae', {'kl_warmup_steps': 5000})
  fields = (vae_config.default(), False, None, vae_config.EFFECTS)
  with pytest.raises(UserError, match=r'kl_warmup_steps=5000: never ends with'):
    time_limit.choose_steps(config, tmp_path / 'run', 10.0, *fields)
  assert not (tmp_path / 'run').exists()


def test_the_trial_of_a_time_limit_has_no_field_without_an_effect():
  """It never goes back, so the number of rollbacks is reset."""
  default, effects = FAMILIES['gan']
  changes = {'on_collapse': 'rollback', 'on_collapse_max_rollbacks': 7}
  changed_run = changed('gan', changes)
  trial = trial_lib.trial_config(changed_run, default(), False)
  effects_lib.check(trial, effects, default())
  assert trial.on_collapse == 'warn'


IDLE = {'model.name': 'mlp', 'model.base_features': 8}


def settled(changes, overridden, stored=None):
  default, effects = FAMILIES['vae']
  return effects_lib.without_idle(
    changed('vae', changes), effects, default(), overridden, stored
  )


def test_an_override_takes_meaningless_fields_of_the_recipe_along():
  config, (line,) = settled(IDLE, {'model.name'})
  assert config.model.name == 'mlp'
  assert config.model.base_features == vae_config.default().model.base_features
  assert line == (
    'config.model.base_features=8 of the recipe has no effect with '
    'model.name=mlp and is left out.'
  )


@pytest.mark.parametrize(
  ('overridden', 'stored'),
  [
    ((), None),  # the recipe contradicts itself
    (('model.name', 'model.base_features'), None),
    (('model.name',), IDLE),  # a run of an earlier version
  ],
)
def test_other_fields_are_kept(overridden, stored):
  stored = changed('vae', stored) if stored else None
  config, lines = settled(IDLE, overridden, stored)
  assert config == changed('vae', IDLE)
  assert not lines
