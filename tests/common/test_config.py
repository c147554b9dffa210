"""Configurations: checks, files, and what a run may change."""

import json

import pytest

from common_flax import config as config_lib
from common_flax.errors import UserError
from common_flax.workdir import layout
from common_flax.workdir import stored_config


@pytest.fixture
def config():
  return config_lib.base()


def test_a_config_survives_its_file(config, tmp_path):
  config.batch_size = 7
  config.dataset.path = 'somewhere'
  (tmp_path / 'config.json').write_text(stored_config.to_json(config))
  read = stored_config.read_json(tmp_path / 'config.json', config_lib.base())
  assert config_lib.flatten(read) == config_lib.flatten(config)


def test_a_field_that_an_old_file_lacks_takes_the_default(config, tmp_path):
  stored = config.to_dict()
  del stored['ema_decay'], stored['dataset']['flip']
  (tmp_path / 'config.json').write_text(json.dumps(stored))
  read = stored_config.read_json(tmp_path / 'config.json', config)
  assert read.ema_decay == config.ema_decay
  assert read.dataset.flip is False


@pytest.mark.parametrize(
  'text', ['', '{', '[1]', '{"seed": "one"}', '{"sed": 1}', '{"seed": null}']
)
def test_a_broken_file_is_named(text, config, tmp_path):
  path = tmp_path / 'config.json'
  path.write_text(text)
  with pytest.raises(UserError, match=str(path)):
    stored_config.read_json(path, config)


def test_a_folder_in_place_of_the_file_is_refused(config, tmp_path):
  (tmp_path / 'config.json').mkdir()
  with pytest.raises(UserError, match='cannot be read'):
    stored_config.read_json(tmp_path / 'config.json', config)


def test_unknown_and_missing_fields_are_named(config):
  broken = config_lib.base()
  broken.batchsize = 3
  with pytest.raises(UserError, match=r'config\.batchsize.*batch_size'):
    config_lib.check_fields(broken, config)
  lacking = config_lib.base()
  del lacking.dataset.flip
  with pytest.raises(UserError, match=r'config\.dataset\.flip: missing'):
    config_lib.check_fields(lacking, config)


def test_wrong_types_are_named(config):
  broken = config_lib.base()
  with broken.ignore_type():
    broken.batch_size = '64'
  with pytest.raises(UserError, match=r"batch_size='64'.*str, not int"):
    config_lib.check_fields(broken, config)
  broken = config_lib.base()
  with broken.ignore_type():
    broken.seed = None
  with pytest.raises(UserError, match=r'config\.seed: None'):
    config_lib.check_fields(broken, config)


@pytest.mark.parametrize(
  ('source', 'reason'),
  [
    ('def get_config(:', 'invalid syntax'),
    ('x = 1', r'no get_config'),
    ('def get_config(): return {}', 'no ConfigDict'),
    ('def get_config(): raise KeyError("x")', 'cannot be run'),
    ('import nosuch', 'nosuch'),
  ],
)
def test_a_broken_recipe_is_an_error_of_one_line(source, reason, tmp_path):
  path = tmp_path / 'recipe.py'
  path.write_text(source)
  with pytest.raises(UserError, match=reason) as error:
    config_lib.load(str(path))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('field', 'value', 'fixed_steps', 'allowed'),
  [
    ('log_every_steps', 7, False, True),
    ('keep_checkpoints', 7, False, True),
    ('parallelism', 'pmap', False, True),
    ('dataset.path', 'x', False, True),
    ('num_steps', 7, False, True),
    ('num_steps', 7, True, False),
    ('seed', 7, False, False),
    ('batch_size', 7, False, False),
    ('dataset.name', 'x', False, False),
  ],
)
def test_what_a_run_may_change(config, field, value, fixed_steps, allowed):
  changed = config_lib.base()
  changed.update_from_flattened_dict({field: value})
  if allowed:
    layout.check_same_run(config, changed, 'dir', fixed_steps)
    return
  with pytest.raises(UserError, match=f'dir.*{field} '):
    layout.check_same_run(config, changed, 'dir', fixed_steps)
