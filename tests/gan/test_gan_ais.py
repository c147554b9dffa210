"""`evaluate --metrics=ais` of GANs: against closed forms, and the command."""

import dataclasses
import json
import shutil

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from common_flax.annealing import audit
from common_flax.annealing.audit import Settings
from common_flax.data.source import ArraySource
from gan_flax import config as gan_config
from gan_flax import evaluate
from gan_flax import measurements
from gan_flax.gan import create_gan
from gan_flax.metrics import ais
from gan_flax.trained import Sampler

SIZE, PIXELS, VARIANCE = 3, 8, 0.02
FEW = ['--num_ais_images=3', '--num_temperatures=12', '--num_chains=4']


class Linear(nn.Module):
  """Images W z + b in [-1, 1], if not clipped; classes shift them."""

  @nn.compact
  def __call__(self, z, labels=None, train=False):
    images = nn.Dense(PIXELS)(z)
    if labels is not None:
      images = images + 0.3 * labels[:, None]
    return images.reshape(len(z), 2, 4, 1)


@pytest.fixture(scope='module')
def sampler():
  config = gan_config.default()
  gan = dataclasses.replace(
    create_gan(config, (16, 16, 1)), generator=Linear(), latent_size=SIZE
  )
  random = np.random.default_rng(0)
  kernel = random.normal(0, 0.3, (SIZE, PIXELS))
  bias = random.normal(0, 0.1, PIXELS)
  dense = {'kernel': kernel, 'bias': bias}
  params = {'Dense_0': jax.tree.map(jnp.float32, dense)}
  return Sampler(gan, params, {}, config, 0, 0)


def exact(sampler, x, variance, labels=0):
  """Log N(x; b, W W^T + variance I), with both halved into [0, 1]."""
  dense = jax.tree.map(np.float64, sampler.params['Dense_0'])
  kernel = 0.5 * dense['kernel']
  mean = 0.5 * (dense['bias'] + 1)
  covariance = kernel.T @ kernel + variance * np.eye(PIXELS)
  shifts = 0.15 * np.broadcast_to(labels, len(x))[:, None]
  residuals = np.asarray(x, np.float64).reshape(len(x), -1) - mean - shifts
  return stats.multivariate_normal(np.zeros(PIXELS), covariance).logpdf(
    residuals
  )


def source_of(sampler, variance, num, labels=None):
  """Bytes that the model draws, so that its variance is the likeliest."""
  key = jax.random.key(1)
  _, x = ais._simulate(sampler, labels, variance, key, num)
  images = np.clip(np.floor(256 * np.asarray(x)), 0, 255).astype(np.uint8)
  numbers = np.zeros(num) if labels is None else labels
  return ArraySource(images, np.asarray(numbers, np.int32), 2)


def observed(source, seed, num):
  """The images as `ais.measure` dequantises them."""
  root = ais.prng.stream(ais.prng.root_key(seed), 'evaluate', 1)
  x = ais.dequantised(jax.random.split(root, 5)[0], source.examples)
  return x[:num]


def test_estimates_agree_with_the_closed_form(sampler):
  source = source_of(sampler, VARIANCE, 6)
  found = ais.measure(sampler, source, 0, Settings(6, 6, 200, 32), (VARIANCE,))
  expected = exact(sampler, observed(source, 0, 6), VARIANCE)
  log_prob = np.array(found['ais_log_prob_per_image_nats'])
  np.testing.assert_allclose(log_prob, expected, atol=0.25)
  assert found['ais_nll_nats'] == pytest.approx(-expected.mean(), abs=0.06)
  # A deviation in place of the variance would be nats away.
  other = exact(sampler, observed(source, 0, 6), VARIANCE**0.5)
  assert abs(other.mean() - expected.mean()) > 1
  assert found['ais_variance'] == VARIANCE
  assert 'ais_validation_nll_nats' not in found
  assert abs(found['bdmc_gap_nats']) < 0.3


def test_the_variance_is_chosen_on_images_that_follow(sampler):
  source = source_of(sampler, VARIANCE, 50)
  candidates = (0.002, VARIANCE, 0.2)
  settings = Settings(40, 40, 30, 4)
  found = ais.measure(sampler, source, 0, settings, candidates)
  x = ais.dequantised(
    jax.random.split(ais.prng.stream(ais.prng.root_key(0), 'evaluate', 1), 5)[
      0
    ],
    source.examples,
  )
  expected = [-exact(sampler, x[40:], each).mean() for each in candidates]
  assert np.argmin(expected) == 1
  np.testing.assert_allclose(
    found['ais_validation_nll_nats'][1:], expected[1:], atol=0.7
  )
  assert found['ais_variance'] == VARIANCE
  measured = -exact(sampler, x[:40], VARIANCE).mean()
  assert found['ais_nll_nats'] == pytest.approx(measured, abs=0.6)
  assert len(found['ais_log_prob_per_image_nats']) == 40


def test_labels_condition_the_density(sampler):
  gan = dataclasses.replace(sampler.gan, num_classes=2)
  conditional = dataclasses.replace(sampler, gan=gan)
  labels = jnp.array([0, 1, 1, 0])
  source = source_of(conditional, VARIANCE, 4, labels)
  found = ais.measure(
    conditional, source, 0, Settings(4, 4, 200, 32), (VARIANCE,)
  )
  expected = exact(conditional, observed(source, 0, 4), VARIANCE, labels)
  np.testing.assert_allclose(
    found['ais_log_prob_per_image_nats'], expected, atol=0.25
  )


def test_uniform_latents_are_those_of_the_prior(sampler):
  gan = dataclasses.replace(sampler.gan, latent_distribution='uniform')
  noise = jax.random.normal(jax.random.key(0), (4000,))
  latents = ais._latents(gan, noise)
  assert stats.kstest(np.asarray(latents), stats.uniform(-1, 2).cdf)[1] > 0.01
  assert ais._latents(sampler.gan, noise) is noise


def test_the_command_reports_what_it_measured(trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  arguments = [f'--workdir={workdir}', '--metrics=ais', '--ais_variance=0.1']
  assert evaluate.main(['evaluate', *arguments, *FEW]) == 0
  found = json.loads((workdir / 'evaluation.json').read_text())
  provenance = found['provenance']
  assert found['ais_variance'] == 0.1
  assert len(found['ais_log_prob_per_image_nats']) == 3
  assert 'fid' not in found
  assert 'num_samples' not in provenance
  assert provenance['num_ais_images'] == 3
  assert provenance['ais_variances'] == [0.1]


def test_too_few_images_to_choose_a_variance_are_refused(
  refuses, trained, tmp_path
):
  arguments = [f'--workdir={trained}', '--metrics=ais', '--num_ais_images=290']
  words = '--num_ais_images=290', '73 images more', 'one --ais_variance'
  refuses(evaluate.main, arguments, *words, folder=tmp_path)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--num_chains=2'], '--num_chains=2: has no effect without --metrics=ais'),
    (['--ais_variance=0.1'], '--ais_variance=0.1: has no effect'),
    (['--metrics=ais', '--ais_variance=0.1,x'], '--ais_variance=0.1,x: give'),
    (['--metrics=ais', '--ais_variance=-1'], '--ais_variance=-1: give'),
    (['--metrics=ais', '--ais_variance='], '--ais_variance=: give'),
    (['--metrics=ais', '--num_samples=9'], '--num_samples=9: has no effect'),
    (['--metrics=ais', '--save_samples=x.npz'], 'ais draws no samples'),
    (['--metrics=ais', '--features=random'], 'on ais; remove it'),
  ],
)
def test_flags_without_effect_are_refused(
  refuses, monkeypatch, trained, tmp_path, arguments, words
):
  monkeypatch.chdir(tmp_path)
  arguments = [f'--workdir={trained}', *arguments]
  refuses(evaluate.main, arguments, words, folder=tmp_path)


def test_points_have_no_pixels(refuses, trained_points, tmp_path):
  arguments = [f'--workdir={trained_points}', '--metrics=ais']
  words = '--metrics=ais: not available here; choose from modes'
  refuses(evaluate.main, arguments, words, folder=tmp_path)


def test_the_metric_must_be_asked_for():
  default = measurements.default_metrics(gan_config.default().dataset)
  assert audit.AIS not in default
