"""Whole runs: what they leave, and that resuming gives the same bits."""

from conftest import assert_same_arrays
from conftest import assert_same_end
from conftest import final_state
from conftest import read_metrics
from conftest import recipe
from conftest import saved_steps
import PIL.Image
import pytest

from common_flax.workdir import checkpoints as checkpoints_lib
from vae_flax.state import EXPORT
from vae_flax.train import train
from vae_flax.watch import judge


def test_a_run_leaves_what_it_promises(trained_vae):
  assert [row['step'] for row in read_metrics(trained_vae)] == [2, 4, 6, 8]
  last = read_metrics(trained_vae)[-1]
  assert set(last) >= {
    'loss_nats',
    'elbo_nats',
    'reconstruction_nats',
    'kl_nats',
    'grad_norm',
    'active_units',
    'images_per_second',
    *(f'kl_per_latent_nats/{i}' for i in range(4)),
  }
  assert last['elbo_nats'] == pytest.approx(
    last['reconstruction_nats'] - last['kl_nats'], rel=1e-5
  )
  names = ('config.json', 'curves.png', 'samples.gif')
  assert all((trained_vae / name).stat().st_size for name in names)
  with PIL.Image.open(trained_vae / 'samples' / 'step_00000008.png') as grid:
    assert grid.size == (8 * 18 + 2, 8 * 18 + 2)


def test_a_checkpoint_holds_the_state_and_both_networks(trained_vae):
  assert saved_steps(trained_vae) == [4, 8]
  for item in (checkpoints_lib.STATE, EXPORT, checkpoints_lib.INFO):
    assert (trained_vae / 'checkpoints' / '8' / item).is_dir()
  state = final_state(trained_vae, 'vae')
  assert state.step == 8
  assert set(state.params) == {'encoder', 'decoder'}


def test_a_finished_run_takes_no_step(trained_vae, capsys):
  assert train(recipe('vae.py', 'smoke'), trained_vae) is None
  assert 'already finished' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('parallelism', 'changes'),
  [
    ('jit', {}),
    pytest.param(
      'pmap',
      {
        'objective': 'iwae',
        'num_importance_samples': 3,
        'steps_per_call': 2,
      },
      marks=pytest.mark.slow,
    ),
  ],
)
def test_resuming_gives_the_same_bits(
  tmp_path, vae_config, parallelism, changes
):
  vae_config.update(changes)
  vae_config.parallelism = parallelism
  vae_config.dataset.flip = True
  vae_config.num_steps = 12
  train(vae_config, tmp_path / 'straight')
  vae_config.num_steps = 6
  train(vae_config, tmp_path / 'halves')
  vae_config.num_steps = 12
  train(vae_config, tmp_path / 'halves')
  # The halves drew one grid more, at the end of the first.
  (tmp_path / 'halves' / 'samples' / 'step_00000006.png').unlink()
  assert_same_end(tmp_path / 'halves', tmp_path / 'straight')


@pytest.mark.slow
def test_training_starts_from_the_weights_of_another_run(tmp_path, trained_vae):
  config = recipe('vae.py', 'smoke')
  config.num_steps = 2
  config.optimizer.learning_rate = 1e-30
  train(config, tmp_path, init_from=trained_vae)
  given, adopted = final_state(trained_vae, 'vae'), final_state(tmp_path, 'vae')
  assert_same_arrays(given.params, adopted.params)
  assert adopted.step == 2


@pytest.mark.slow
def test_a_collapsed_posterior_is_said_once(tmp_path, vae_config, capsys):
  vae_config.beta = 1e6  # to tell anything costs more than it brings
  vae_config.optimizer.learning_rate = 0.01
  vae_config.num_steps = 120
  for name in ('log_every_steps', 'sample_every_steps'):
    vae_config[name] = 30
  vae_config.checkpoint_every_steps = 120
  train(vae_config, tmp_path)
  assert read_metrics(tmp_path)[-1]['active_units'] == 0
  output = capsys.readouterr().out
  assert output.count('the posterior has collapsed') == 1
  assert 'kl_warmup_steps' in output


@pytest.mark.parametrize(
  ('changes', 'cures', 'others'),
  [
    ({}, ['kl_warmup_steps', 'free_bits_nats', 'beta'], []),
    ({'kl': 'monte_carlo'}, ['kl_warmup_steps', 'beta'], ['free_bits_nats']),
    ({'objective': 'iwae'}, ['learning rate', 'objective=elbo'], ['beta']),
  ],
)
def test_a_collapsed_posterior_is_given_cures_that_the_config_allows(
  vae_config, changes, cures, others
):
  vae_config.update(changes)
  warning = judge(vae_config, [{'active_units': 0}]).warning
  assert all(cure in warning for cure in cures)
  assert not any(cure in warning for cure in others)
  assert judge(vae_config, [{'active_units': 1}]).warning is None


@pytest.mark.slow
def test_fixed_binary_images_are_the_same_in_every_run(tmp_path, vae_config):
  vae_config.dataset.binarise = 'fixed'
  vae_config.num_steps = 2
  for name in ('a', 'b'):
    train(vae_config, tmp_path / name)
  assert_same_end(tmp_path / 'a', tmp_path / 'b')
  vae_config.dataset.binarise_seed = 1
  train(vae_config, tmp_path / 'c')
  a, c = read_metrics(tmp_path / 'a')[-1], read_metrics(tmp_path / 'c')[-1]
  assert a['loss_nats'] != c['loss_nats']
