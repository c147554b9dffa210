"""`evaluate --metrics=ais` of VAEs: against quadrature, and the command."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.annealing import audit
from common_flax.annealing.audit import Settings
from common_flax.data.source import ArraySource
from vae_flax import config as vae_config_lib
from vae_flax import evaluate
from vae_flax import nonlinear
from vae_flax.metrics import ais
from vae_flax.state import init_state
from vae_flax.trained import TrainedVAE
from vae_flax.vae import create_vae

SCALE = 0.4
FEW = ['--num_ais_images=3', '--num_temperatures=12', '--num_chains=4']


@pytest.fixture(scope='module')
def trained():
  """A VAE of one latent, with parameters that nobody trained."""
  config = vae_config_lib.default().unlock()
  config.update_from_flattened_dict(
    {
      'dataset.binarise': 'none',
      'model.name': 'mlp',
      'model.hidden_sizes': (5,),
      'model.activation': 'tanh',
      'model.latent_size': 1,
      'likelihood': 'gaussian',
      'likelihood_scale': SCALE,
    }
  )
  vae = create_vae(config, (2, 2, 1))
  params = jax.jit(lambda: init_state(vae, jax.random.key(0)).params)()
  random = np.random.default_rng(0)
  params = jax.tree.map(
    lambda p: p + random.normal(0, 0.4, p.shape).astype(p.dtype), params
  )
  return TrainedVAE(vae, params, config, 0)


@pytest.fixture(scope='module')
def source():
  images = np.random.default_rng(1).integers(0, 256, (6, 2, 2, 1), np.uint8)
  return ArraySource(images, np.zeros(6, np.int32), 1)


def quadrature(trained, x):
  model = nonlinear.NonlinearModel(
    lambda z: ais.inference.decode(trained.vae, trained.params, z).reshape(
      -1, 4
    ),
    SCALE,
    1,
  )
  return np.asarray(
    jax.jit(functools.partial(nonlinear.log_marginal, model))(x.reshape(-1, 4))
  )


@pytest.mark.parametrize('start', ais.STARTS)
def test_estimates_agree_with_quadrature(trained, source, start):
  settings = Settings(6, 6, 100, 32)
  found = ais.measure(trained, source, 0, settings, start, 2000)
  key = ais.prng.stream(ais.prng.root_key(0), 'observe')
  x = ais.generation.observe_by_number(
    trained.vae, key, jnp.asarray(source.examples), jnp.arange(6)
  )
  exact = quadrature(trained, x)
  errors = np.array(found['ais_standard_error_per_image_nats'])
  gap = np.abs(np.array(found['ais_log_prob_per_image_nats']) - exact)
  assert (gap < 4 * errors + 1e-3).all()
  assert (errors < 0.2).all()
  assert found['ais_nll_nats'] == pytest.approx(-exact.mean(), abs=0.05)
  assert found['importance_nll_nats'] == pytest.approx(-exact.mean(), abs=0.05)
  assert abs(found['bdmc_gap_nats']) < 0.2
  assert found['bdmc_gap_nats'] == pytest.approx(
    found['bdmc_nll_upper_nats'] - found['bdmc_nll_lower_nats']
  )


EMPTY = audit.Audit(audit.Estimates(*np.ones((3, 2))), np.ones(2))


def test_the_command_reports_and_repeats_itself(trained_vae, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained_vae, workdir)
  reports = []
  for _ in range(2):
    arguments = [f'--workdir={workdir}', '--metrics=ais', *FEW]
    assert evaluate.main(['evaluate', *arguments]) == 0
    reports.append(json.loads((workdir / 'evaluation.json').read_text()))
  first, second = reports
  provenance = first.pop('provenance')
  del second['provenance']
  assert first == second
  assert provenance['num_ais_images'] == 3
  assert provenance['num_temperatures'] == 12
  assert provenance['num_chains'] == 4
  assert provenance['num_importance_samples'] == 60
  assert provenance['ais_start'] == 'prior'
  assert 'num_images' not in provenance
  assert len(first['ais_log_prob_per_image_nats']) == 3
  assert 'nll_nats' not in first
  assert 1 <= first['ais_lowest_effective_samples'] <= 4
  # Twelve temperatures are few, and so a low estimate.
  assert first['ais_nll_nats'] > first['importance_nll_nats'] - 1


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--num_chains=2'], '--num_chains=2: has no effect without --metrics=ais'),
    (['--metrics=fid', '--num_temperatures=9'], '--num_temperatures=9'),
    (['--metrics=likelihood', '--ais_start=encoder'], '--ais_start=encoder'),
    (['--metrics=ais', '--num_samples=9'], '--num_samples=9: has no effect'),
    (['--metrics=ais', '--save_samples=x.npz'], 'ais draws no samples'),
    (['--metrics=ais', '--num_temperatures=0'], 'num_temperatures'),
    (['--metrics=ais', '--ais_start=data'], 'ais_start'),
  ],
)
def test_flags_without_effect_are_refused(
  refuses, monkeypatch, trained_vae, tmp_path, arguments, words
):
  monkeypatch.chdir(tmp_path)
  arguments = [f'--workdir={trained_vae}', *arguments]
  refuses(evaluate.main, arguments, words, folder=tmp_path)
