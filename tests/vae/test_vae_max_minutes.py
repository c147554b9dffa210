"""A VAE trained for a time."""

import json

from conftest import assert_same_end
import pytest

from common_flax.training import trial as trial_lib
from common_flax.training.trial import Costs
from vae_flax import main as main_lib
from vae_flax.train import train


@pytest.fixture
def six_steps(monkeypatch):
  """Chooses six steps after the shortest trial."""
  monkeypatch.setattr(Costs, 'steps_within', lambda *unused: 6)
  monkeypatch.setattr(trial_lib, '_LARGEST_SHARE', 0.0)


@pytest.mark.slow  # the tests of a GAN's time are quicker
@pytest.mark.usefixtures('six_steps')
@pytest.mark.parametrize('parallelism', ['jit', 'pmap'])
def test_the_run_is_that_of_the_chosen_number_of_steps(
  tmp_path, vae_config, parallelism
):
  limited, plain = tmp_path / 'limited', tmp_path / 'plain'
  vae_config.optimizer.schedule = 'cosine'
  vae_config.parallelism = parallelism
  assert train(vae_config, limited, max_minutes=90) is None
  vae_config.num_steps = 6
  train(vae_config, plain)
  assert_same_end(limited, plain)


@pytest.mark.usefixtures('in_the_repository', 'six_steps')
def test_the_command_says_what_it_chose(tmp_path, capsys):
  arguments = ['--config=configs/vae.py:smoke', '--config.model.name=mlp']
  arguments += [f'--workdir={tmp_path}', '--max_minutes=90']
  assert main_lib.main(['command', *arguments]) == 0
  printed = capsys.readouterr().out
  assert ' are 6 steps at ' in printed
  assert printed.startswith('config.model.base_features=4 of')
  assert 'they replace config.num_steps=8.' in printed
  assert json.loads((tmp_path / 'config.json').read_text())['num_steps'] == 6
