"""A VAE trained for a time."""

import json

from conftest import assert_same_end
import pytest

from common_flax.training.time_limit import Costs
from vae_flax import main as main_lib
from vae_flax.train import train


@pytest.mark.parametrize('parallelism', ['jit', 'pmap'])
def test_the_run_is_that_of_the_chosen_number_of_steps(
  tmp_path, vae_config, monkeypatch, parallelism
):
  monkeypatch.setattr(Costs, 'steps_within', lambda *unused: 6)
  limited, plain = tmp_path / 'limited', tmp_path / 'plain'
  vae_config.optimizer.schedule = 'cosine'
  vae_config.parallelism = parallelism
  assert train(vae_config, limited, max_minutes=0.5) is None
  vae_config.num_steps = 6
  train(vae_config, plain)
  assert_same_end(limited, plain)


@pytest.mark.usefixtures('in_the_repository')
def test_the_command_says_what_it_chose(tmp_path, capsys):
  status = main_lib.main(
    [
      'command',
      '--config=configs/vae.py:smoke',
      '--config.model.name=mlp',
      f'--workdir={tmp_path}',
      '--max_minutes=0.2',
      '--config.log_every_steps=1000',
      '--config.sample_every_steps=1000',
      '--config.checkpoint_every_steps=1000',
    ]
  )
  assert status == 0
  num_steps = json.loads((tmp_path / 'config.json').read_text())['num_steps']
  assert num_steps != 8
  printed = capsys.readouterr().out
  assert f' are {num_steps:,} steps at ' in printed
  assert 'they replace config.num_steps=8.' in printed
