"""What counts as the same config when a run resumes."""

import json

import pytest

from common_flax.errors import UserError
from common_flax.workdir import stored_config
from gan_flax import config as gan_config


def sized(image_size, grid_size=None):
  config = gan_config.default()
  config.dataset.image_size = image_size
  config.model.grid_size = grid_size
  return config


def test_a_side_is_the_size_of_its_square(tmp_path):
  stored_config.check_same_run(sized(32), sized((32, 32)), tmp_path, True)
  stored_config.check_same_run(sized((32, 32)), sized(32), tmp_path, True)
  old, new = sized(32, 64), sized((32, 32), (64, 64))
  stored_config.check_same_run(old, new, tmp_path, True)
  stored = json.loads(stored_config.to_json(sized((32, 32))))
  assert stored['dataset']['image_size'] == [32, 32]
  stored_config.check_unchanged(tmp_path, sized((32, 32)), (1, stored))
  stored_config.check_unchanged(tmp_path, sized(32), (1, stored))


def test_other_sizes_are_another_run(tmp_path):
  for old, new, name in (
    (sized(32), sized((32, 64)), 'dataset.image_size'),
    (sized(32, 32), sized(32, (32, 64)), 'model.grid_size'),
    (sized(32, None), sized(32, 32), 'model.grid_size'),
  ):
    with pytest.raises(UserError, match=f'{name} .was '):
      stored_config.check_same_run(old, new, tmp_path, True)
