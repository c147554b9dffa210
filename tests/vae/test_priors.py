"""Learned priors: densities, draws, bounds, training, and fits afterwards."""

import dataclasses
import json
import shutil

from conftest import assert_same_end
from conftest import read_metrics
from conftest import recipe
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
import small_vae
from test_hierarchical import create as create_hierarchy

from common_flax import data
from common_flax.errors import UserError
from vae_flax import config as vae_config
from vae_flax import estimation
from vae_flax import evaluate
from vae_flax import generation
from vae_flax import inference
from vae_flax import sample
from vae_flax import steps
from vae_flax import trained as trained_lib
from vae_flax.metrics import ais
from vae_flax.priors import fitted
from vae_flax.priors import learned
from vae_flax.state import init_state
from vae_flax.train import train

POINTS = np.linspace(-9, 9, 4001)


def components(size=2, num=3, seed=0):
  random = np.random.default_rng(seed)
  return learned.Components(
    jnp.log(jnp.asarray([0.5, 0.3, 0.2])),
    jnp.asarray(random.normal(0, 1, (num, size))),
    jnp.asarray(random.normal(-1, 0.5, (num, size))),
  )


def log_density(prior, z):
  """The density of `components` with SciPy, float64."""
  logs = [
    weight + stats.norm(mean, np.exp(0.5 * log_var)).logpdf(z).sum(axis=-1)
    for weight, mean, log_var in zip(*map(np.asarray, prior), strict=True)
  ]
  return np.logaddexp.reduce(logs)


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def test_the_density_is_that_of_the_mixture(x64):
  prior = components()
  z = np.random.default_rng(1).normal(0, 2, (5, 4, 2))
  expected = log_density(prior, z)
  np.testing.assert_allclose(learned.log_density(prior, z), expected, 1e-12)
  # A third latent, below the top, has N(0, 1) in both.
  gain = learned.gain(prior, np.concatenate([z, z[..., :1]], axis=-1))
  normal = stats.norm.logpdf(z).sum(axis=-1)
  np.testing.assert_allclose(gain, expected - normal, rtol=1e-10)


def test_the_density_is_exact_enough_in_float32():
  random = np.random.default_rng(0)
  mean, log_var = random.normal(0, 2, (50, 30)), random.normal(-4, 1, (50, 30))
  z = mean + np.exp(0.5 * log_var) * random.normal(size=mean.shape)
  share = np.full(50, -np.log(50))
  expected = log_density((share, mean, log_var), z)
  prior = learned.Components(
    *(jnp.asarray(y, jnp.float32) for y in (share, mean, log_var))
  )
  found = learned.log_density(prior, jnp.asarray(z, jnp.float32))
  np.testing.assert_allclose(found, expected, atol=0.02)


def test_draws_have_the_moments_of_the_mixture():
  prior = components()
  noise = jax.random.normal(jax.random.key(0), (100_000, 3))
  z = np.asarray(learned.draw(prior, jax.random.key(1), noise))
  share, mean, log_var = np.exp(prior.log_weights)[:, None], *prior[1:]
  expected = np.sum(share * mean, axis=0)
  np.testing.assert_allclose(z[:, :2].mean(axis=0), expected, atol=0.02)
  variance = np.sum(share * (np.exp(log_var) + mean**2), axis=0) - expected**2
  np.testing.assert_allclose(z[:, :2].var(axis=0), variance, rtol=0.02)
  np.testing.assert_array_equal(z[:, 2], noise[:, 2])  # below the top
  still = np.asarray(learned.draw(prior, jax.random.key(1), 0 * noise))
  assert {*still[:, 0].tolist()} == {*mean[:, 0].tolist()}


def small_with_mixture():
  """A VAE of one latent whose prior is a mixture, with parameters."""
  vae = small_vae.create(
    1, prior=learned.Mixture(3, 1, 10.0, jnp.float64), num_importance_samples=2
  )
  return vae, small_vae.init(vae)


def log_marginal(vae, params, x):
  """Log Pr(x) [N] by a sum over z on a grid."""
  z = jnp.asarray(POINTS)[None, :, None]
  prior = inference.prior(vae, params)
  logs = inference.reconstruction(vae, params, x, z)
  logs += learned.log_density(prior, z)
  return jax.nn.logsumexp(logs, axis=1) + np.log(POINTS[1] - POINTS[0])


def test_weights_estimate_the_likelihood_under_the_mixture(x64):
  vae, params = small_with_mixture()
  x = jax.random.uniform(jax.random.key(3), (3, *small_vae.SHAPE), jnp.float64)
  found = inference.evidence(vae, params, x)
  keys = jax.random.split(jax.random.key(4), 3)
  estimates = estimation.estimate(vae, params, x, found, keys, 4000)
  exact = np.asarray(log_marginal(vae, params, x))
  gap = np.abs(estimates.log_prob - exact)
  assert (gap < 5 * estimates.standard_error).all()
  assert (estimates.standard_error < 0.1).all()
  # Reconstruction minus divergence is the ELBO, though the latter has draws.
  assert estimates.kl.shape == (3, 1)
  assert (estimates.elbo < exact).all()


@pytest.mark.parametrize('has_closed_form', [True, False])
def test_the_loss_is_the_elbo_of_the_mixture(x64, has_closed_form):
  vae, params = small_with_mixture()
  vae = dataclasses.replace(vae, has_closed_form_kl=has_closed_form)
  x = jax.random.uniform(jax.random.key(3), (3, *small_vae.SHAPE), jnp.float64)
  (mean,), (deviation,) = (
    [np.asarray(y)] for y in inference.evidence(vae, params, x)
  )
  deviation = np.exp(0.5 * deviation)
  q = stats.norm(mean, deviation).pdf(POINTS)  # [3, points]
  z = jnp.asarray(POINTS)[None, :, None]
  joint = inference.reconstruction(vae, params, x, z)
  joint += learned.log_density(inference.prior(vae, params), z)
  entropy = stats.norm(mean, deviation).entropy()[:, 0]
  spacing = POINTS[1] - POINTS[0]
  exact = np.sum(q * np.asarray(joint), axis=1) * spacing + entropy
  losses = small_vae.over_keys(
    lambda key: steps.loss(vae, params, x, key, small_vae.STEP)[0], 4000
  )
  small_vae.close_to_mean(losses, -exact.mean())


def test_every_parameter_of_a_prior_has_a_gradient():
  for name in ('mixture', 'vampprior'):
    for hierarchy in (False, True):
      vae, params, x = learning(name, hierarchy)
      gradients = jax.grad(
        lambda p, vae=vae, x=x: steps.loss(
          vae, p, x, jax.random.key(1), small_vae.STEP
        )[0]
      )(params)
      for gradient in jax.tree.leaves(gradients['prior']):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def learning(name, hierarchy):
  changes = {
    'model.prior': name,
    'model.prior_components': 5,
    'model.activation': 'gelu',  # a few rectifiers may all be off
  }
  if not hierarchy:
    changes |= {'model.name': 'mlp', 'model.hidden_sizes': (8,)}
  vae = create_hierarchy(**changes)
  params = init_state(vae, jax.random.key(0)).params
  x = jax.random.bernoulli(jax.random.key(2), 0.3, (4, 8, 8, 1))
  return vae, params, x.astype(jnp.float32)


def test_a_vampprior_mixes_the_posteriors_of_its_pseudo_inputs():
  vae, params, _ = learning('vampprior', hierarchy=False)
  pseudo = vae.prior.apply({'params': params['prior']})
  assert pseudo.shape == (5, 8, 8, 1)
  assert 0 < pseudo.min() < pseudo.max() < 1
  prior = inference.prior(vae, params)
  for found, expected in zip(
    prior[1:], inference.encode(vae, params, pseudo), strict=True
  ):
    np.testing.assert_array_equal(found, expected)
  np.testing.assert_allclose(np.exp(prior.log_weights), 0.2, rtol=1e-6)


@pytest.mark.parametrize('groups', [((1, 8, 2, 3),), ((1, 8, 2, 0),)])
def test_the_prior_of_a_hierarchy_is_that_of_its_first_latents(groups):
  groups = (*groups, (4, 4, 1, 1))
  vae = create_hierarchy(
    **{
      'model.groups': groups,
      'model.prior': 'vampprior',
      'model.prior_components': 5,
    }
  )
  params = jax.tree.map(
    lambda p: (
      p + 0.05 * jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape)
    ),
    init_state(vae, jax.random.key(0)).params,
  )
  pseudo = vae.prior.apply({'params': params['prior']})
  prior = inference.prior(vae, params)
  assert prior.mean.shape == (5, vae.top_size)
  mean, log_var = inference.encode(vae, params, pseudo)
  top = slice(0, vae.top_size)
  np.testing.assert_allclose(prior.mean, mean[:, top], atol=1e-5)
  np.testing.assert_allclose(prior.log_var, log_var[:, top], atol=1e-5)


def test_free_bits_count_a_layer_with_a_learned_prior_as_one_group():
  vae, params, x = learning('mixture', hierarchy=False)
  vae = dataclasses.replace(vae, free_bits_nats=1000.0)
  loss, metrics = steps.loss(vae, params, x, jax.random.key(1), small_vae.STEP)
  expected = 1000.0 - metrics['reconstruction_nats']
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A finished run of the recipe for learned priors."""
  workdir = tmp_path_factory.mktemp('vampprior') / 'run'
  assert train(recipe('vampprior.py', 'smoke'), workdir) is None
  return workdir


def test_a_run_reports_no_divergence_of_a_latent(run):
  rows = read_metrics(run)
  assert all(np.isfinite(row['kl_nats']) for row in rows)
  assert not [name for name in rows[-1] if 'per_latent' in name]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(run, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(run, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '8')
  assert train(recipe('vampprior.py', 'smoke'), workdir) is None
  assert_same_end(run, workdir)


def test_the_commands_use_the_learned_prior(run, tmp_path):
  output = tmp_path / 'samples.npz'
  base = ['x', f'--workdir={run}']
  assert sample.main([*base, f'--output={output}', '--num_samples=9']) == 0
  with np.load(output) as arrays:
    latents, images = arrays['latents'], arrays['images']
  trained = trained_lib.load(run)
  np.testing.assert_array_equal(trained.decode(latents), images)
  # Without deviations only the means of the components are left.
  still = [f'--output={output}', '--temperature=0', '--num_samples=9']
  assert sample.main([*base, *still]) == 0
  with np.load(output) as arrays:
    distances = np.abs(
      arrays['latents'][:, None] - np.asarray(trained.prior.mean)[None]
    ).max(axis=2)
  assert distances.min(axis=1).max() < 1e-6
  metrics = '--metrics=likelihood,ais'
  few = ['--num_ais_images=2', '--num_chains=2', '--num_temperatures=10']
  assert evaluate.main([*base, metrics, *few]) == 0
  report = json.loads((run / 'evaluation.json').read_text())
  assert report['provenance']['prior'] == 'vampprior'
  assert 'kl_per_latent_nats' not in report
  assert report['kl_nats'] == pytest.approx(
    report['aggregated_posterior_kl_nats'] + report['mutual_information_nats']
  )


def test_annealing_reaches_the_mixtures_likelihood(x64):
  vae, params = small_with_mixture()
  x = jax.random.uniform(jax.random.key(3), (2, *small_vae.SHAPE), jnp.float64)
  z = jnp.linspace(-2, 2, 6).reshape(2, 3, 1)
  prior = inference.prior(vae, params)
  joint = ais._log_joint(vae, (params, prior, x, None), z)
  expected = inference.reconstruction(vae, params, x, z)
  expected += log_density(prior, np.asarray(z))
  np.testing.assert_allclose(joint, expected, rtol=1e-10)


def test_a_fitted_mixture_is_nearer_to_the_posteriors(trained_vae, capsys):
  plain = trained_lib.load(trained_vae)
  again = fitted.with_mixture(plain, 4, seed=0)
  z = posterior_draws(plain)
  gain = learned.gain(again.prior, jnp.asarray(z, jnp.float32))
  assert np.mean(gain) > 0.05
  # The fit is scikit-learn's, which the bounds of the module do not distort.
  assert np.exp(again.prior.log_weights).sum() == pytest.approx(1, abs=1e-5)
  same = fitted.with_mixture(plain, 4, seed=0)
  for one, other in zip(again.prior, same.prior, strict=True):
    np.testing.assert_array_equal(one, other)
  images = again.generate(jax.random.key(0), 5)
  assert images.shape == (5, *plain.vae.image_shape)
  with pytest.raises(UserError, match='--prior_components=2000: is more than'):
    fitted.with_mixture(plain, 2000, seed=0)


def posterior_draws(trained):
  source = data.load(trained.config.dataset, 'train')
  images = data.first_examples(source, 300)
  x = generation.observe(trained.vae, jax.random.key(0), images)
  mean, log_var = generation.encode(trained.vae, trained.params, x)
  noise = np.random.default_rng(0).normal(size=mean.shape)
  return mean + np.exp(0.5 * log_var) * noise


def test_commands_fit_a_mixture(trained_vae, tmp_path, refuses):
  base = [f'--workdir={trained_vae}']
  chosen = ['--prior=mixture', '--prior_components=3']
  output = f'--output={tmp_path / "samples.npz"}'
  assert sample.main(['sample', *base, *chosen, output, '--num_samples=4']) == 0
  refuses(
    sample.main,
    [*base, output, '--prior_components=3'],
    '--prior_components=3',
    '--prior=mixture',
    folder=tmp_path,
  )
  refuses(
    sample.main,
    [*base, output, '--prior=mixture', '--seeds=1'],
    '--prior=mixture',
    '--seeds',
    folder=tmp_path,
  )


@pytest.mark.parametrize('name', ['mixture', 'vampprior'])
def test_a_learned_prior_is_initialised_apart_from_the_networks(name):
  vae, params, _ = learning(name, hierarchy=False)
  plain = dataclasses.replace(vae, prior=None)
  expected = init_state(plain, jax.random.key(0)).params
  for network in ('encoder', 'decoder'):
    jax.tree.map(
      np.testing.assert_array_equal, params[network], expected[network]
    )


def test_a_config_names_a_prior_that_exists():
  config = vae_config.default()
  with config.unlocked():
    config.model.prior = 'flow'
  with pytest.raises(UserError, match=r'model\.prior'):
    vae_config.check(config)
