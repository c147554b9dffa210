"""Hierarchies of latents: densities, groups, training and commands."""

import dataclasses
import functools
import json
import shutil

from conftest import assert_same_end
from conftest import read_metrics
from conftest import recipe
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from scipy import stats

from common_flax import likelihoods
from common_flax import prng
from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.training import loop
from common_flax.workdir import stored_config
from vae_flax import config as vae_config
from vae_flax import estimation
from vae_flax import evaluate
from vae_flax import inference
from vae_flax import losses
from vae_flax import sample
from vae_flax import steps
from vae_flax.metrics import ais
from vae_flax.models import groups
from vae_flax.state import init_state
from vae_flax.train import train
from vae_flax.trained import TrainedVAE
from vae_flax.vae import create_vae

GROUPS = ((1, 8, 2, 3), (2, 4, 1, 2), (4, 4, 1, 1))
SIZES = (3, 3, 8, 16)  # latents of each group
SHAPE = (8, 8, 1)
BATCH = 4
evidence = jax.jit(inference.evidence, static_argnums=0)
decode = jax.jit(inference.decode, static_argnums=0)
infer = jax.jit(inference.infer, static_argnums=0)


def config_of(**changes):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.name': 'hierarchical',
      'model.groups': GROUPS,
      'dataset.image_size': 8,
      **changes,
    }
  )
  return config.lock()


def create(axis=sharding.WHOLE_BATCH, **changes):
  return create_vae(config_of(**changes), SHAPE, axis=axis)


@functools.cache
def scattered(dtype='float32'):
  """A VAE whose priors are away from N(0, I), as trained ones are."""
  vae = create(compute_dtype=dtype)
  params = init_state(vae, prng.root_key(0)).params
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
    leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype)
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return vae, jax.tree.unflatten(tree, leaves)


@pytest.fixture(scope='module')
def x():
  bits = np.random.default_rng(0).integers(0, 2, (BATCH, *SHAPE))
  return bits.astype(np.float32)


def noise_of(vae, num_samples=1):
  shape = (BATCH, num_samples, vae.latent_size)
  return jax.random.normal(jax.random.key(2), shape)


def test_groups_have_their_shapes_from_the_top_down():
  vae = create()
  assert groups.group_shapes(vae.scales) == (
    (1, 1, 3),
    (1, 1, 3),
    (2, 2, 2),
    (4, 4, 1),
  )
  assert vae.latent_size == sum(SIZES)
  values = np.arange(2 * sum(SIZES)).reshape(2, -1)
  parts = [np.asarray(p) for p in groups.split(values, vae.scales)]
  joined = np.concatenate([part.reshape(2, -1) for part in parts], axis=1)
  np.testing.assert_array_equal(joined, values)
  sums = np.asarray(inference.per_group(vae, jnp.asarray(values, float), None))
  expected = [part.reshape(2, -1).sum(axis=1) for part in parts]
  np.testing.assert_array_equal(sums, np.stack(expected, axis=1))


def test_blocks_of_pixels_become_features_and_back():
  x = np.arange(2 * 6 * 6 * 2).reshape(2, 6, 6, 2)
  deep = groups.to_depth(x, 3)
  np.testing.assert_array_equal(deep[:, 1, 2], x[:, 2:4, 4:6].reshape(2, -1))
  np.testing.assert_array_equal(groups.to_space(deep, 6), x)


@pytest.mark.parametrize('size', [28, 32, 64])
@pytest.mark.parametrize('likelihood', ['bernoulli', 'logistic'])
def test_a_step_keeps_the_types_of_the_state_at_any_size(size, likelihood):
  vae = create_vae(
    config_of(
      **{
        'model.groups': ((1, 16, 1, 4), (size // 4, 8, 2, 2)),
        'dataset.image_size': size,
        'dataset.binarise': 'none' if likelihood == 'logistic' else 'fixed',
        'likelihood': likelihood,
      }
    ),
    (size, size, 3),
  )
  root = jax.eval_shape(lambda: prng.root_key(0))
  state = jax.eval_shape(functools.partial(init_state, vae), root)
  batch = jax.ShapeDtypeStruct((1, BATCH, size, size, 3), np.uint8)
  new, _ = jax.eval_shape(
    functools.partial(steps.train_step, vae), state, batch, root
  )
  assert new == state


def test_layers_without_latents_change_what_is_decoded(x):
  vae = create(**{'model.groups': ((1, 8, 2, 3), (4, 4, 2, 0))})
  assert vae.latent_size == 6
  params = init_state(vae, prng.root_key(0)).params
  found = evidence(vae, params, x)
  inferred = infer(vae, params, found, noise_of(vae))
  assert inference.per_group(vae, inferred.z, None).shape == (BATCH, 1, 2)
  without = jax.tree.map(jnp.copy, params)
  last = without['decoder']['blocks_3']['expand']
  last['kernel'] = 0 * last['kernel']
  assert (
    decode(vae, params, inferred.z) != decode(vae, without, inferred.z)
  ).any()


def test_inference_decodes_what_it_draws(x):
  vae, params = scattered()
  found = evidence(vae, params, x)
  inferred = infer(vae, params, found, noise_of(vae, 2))
  assert inferred.z.shape == (BATCH, 2, vae.latent_size)
  np.testing.assert_allclose(
    inferred.outputs,
    inference.decode(vae, params, inferred.z),
    rtol=1e-4,
    atol=1e-5,
  )


def test_draws_of_an_image_are_side_by_side(x):
  vae, params = scattered()
  found = evidence(vae, params, x)
  noise = noise_of(vae, 3)
  together = infer(vae, params, found, noise)
  alone = infer(vae, params, found, noise[:, 1:2])
  for both, one in zip(together[:4], alone[:4], strict=True):
    np.testing.assert_allclose(both[:, 1:2], one, rtol=1e-4, atol=1e-5)


def test_weights_are_those_of_the_latents_before_they_are_standardised(x):
  """Log Pr(x, z) - log q(z|x) with z_l = m_l + s_l ε_l, in float64 NumPy."""
  with jax.enable_x64(True):
    vae, params = scattered('float64')
    assert vae.dtype == jnp.float64
    found = evidence(vae, params, x)
    inferred = infer(vae, params, found, noise_of(vae))
    weights = inference.log_weights_of(vae, x, inferred)[:, 0]
    decode = functools.partial(vae.decoder.apply, {'params': params['decoder']})
    state, expected = None, 0.0
    by_group = [list(groups.split(y[:, 0], vae.scales)) for y in inferred[:3]]
    for group, (standard, mean, log_var) in enumerate(
      zip(*by_group, strict=True)
    ):
      state, prior_mean, prior_log_var = decode(
        group, state, BATCH, method='prior'
      )
      deviation = np.exp(0.5 * np.asarray(prior_log_var))
      z = prior_mean + deviation * standard
      prior = stats.norm(prior_mean, deviation).logpdf(z)
      posterior = stats.norm(
        prior_mean + deviation * mean, deviation * np.exp(0.5 * log_var)
      ).logpdf(z)
      expected += (prior - posterior).reshape(BATCH, -1).sum(axis=1)
      state = decode(group, state, z, method='joined')
    outputs = decode(state, method='outputs')
    expected += likelihoods.bernoulli_log_prob(outputs, x)
  assert np.abs(np.asarray(prior_log_var)).max() > 0.01
  np.testing.assert_allclose(weights, expected, rtol=1e-10)


def linear_hierarchy():
  """Two groups of 2 latents, the second's prior linear in the first; 4 pixels.

  Layers without activation and with constant deviations make the pixels a
  linear function of ε.
  """
  vae = create_vae(
    config_of(
      **{
        'model.groups': ((1, 8, 2, 2),),
        'dataset.image_size': 2,
        'dataset.binarise': 'none',
        'likelihood': 'gaussian',
        'likelihood_scale': 1.5,
      }
    ),
    (2, 2, 1),
  )
  vae = dataclasses.replace(
    vae,
    encoder=vae.encoder.clone(activation=lambda x: x),
    decoder=vae.decoder.clone(activation=lambda x: x),
  )
  params = jax.tree.map(
    lambda x: (
      0.3 * np.random.default_rng(x.size).standard_normal(x.shape, np.float32)
    ),
    init_state(vae, prng.root_key(0)).params,
  )
  for group in range(2):
    for weights in params['decoder'][f'priors_{group}']['expand'].values():
      weights[..., -2:] = 0.0  # log-variances
    for weights in params['encoder'][f'posteriors_{group}']['expand'].values():
      # Near the prior, which is wide enough.
      weights[...] = 0.1 * weights
  return vae, params


def test_importance_estimate_of_a_linear_hierarchy_has_the_closed_form():
  vae, params = linear_hierarchy()
  zeros = jnp.zeros(vae.latent_size)

  def decode(z):
    return inference.decode(vae, params, z).reshape(-1)

  matrix = np.asarray(jax.jacobian(decode)(zeros), np.float64)  # [4, Z]
  assert np.abs(matrix).max() > 0.1
  marginal = stats.multivariate_normal(
    np.asarray(decode(zeros)), matrix @ matrix.T + 1.5**2 * np.eye(4)
  )
  x = marginal.rvs(8, random_state=0).astype(np.float32).reshape(-1, 2, 2, 1)
  estimates = estimation.estimate(
    vae,
    params,
    x,
    evidence(vae, params, x),
    jax.random.split(jax.random.key(0), len(x)),
    50_000,
  )
  expected = marginal.logpdf(x.reshape(-1, 4))
  np.testing.assert_allclose(estimates.log_prob, expected, atol=0.02)
  assert (estimates.elbo < expected + 0.01).all()


def test_free_bits_are_those_of_groups(x):
  vae = create(**{'free_bits_nats': 0.5})
  _, params = scattered()
  key = jax.random.key(3)
  loss, terms = steps.loss(vae, params, x, key, jnp.int32(0))
  inferred = inference.draw(vae, params, x, key)
  kl = losses.gaussian_kl(inferred.mean, inferred.log_var)
  kl = np.asarray(kl, np.float64)[:, 0].mean(axis=0)
  groups = [g.sum() for g in np.split(kl, np.cumsum(SIZES)[:-1])]
  assert min(groups) < 0.5 < max(groups)
  expected = np.maximum(groups, 0.5).sum() - terms['reconstruction_nats']
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(terms['kl_nats'], sum(groups), rtol=1e-5)


def test_divergence_per_group_is_estimated_from_the_draws(x):
  vae, params = scattered()
  estimates = estimation.estimate(
    vae,
    params,
    x,
    evidence(vae, params, x),
    jax.random.split(jax.random.key(0), BATCH),
    120,
  )
  assert estimates.kl.shape == (BATCH, len(SIZES))
  assert (estimates.kl >= 0).all()
  reconstruction = estimates.elbo + estimates.kl.sum(axis=1)
  noise = jax.random.normal(jax.random.key(5), (BATCH, 500, vae.latent_size))
  found = evidence(vae, params, x)
  inferred = infer(vae, params, found, noise)
  expected = np.asarray(vae.likelihood.log_prob(inferred.outputs, x[:, None]))
  error = expected.std(axis=1) * np.sqrt(1 / 120 + 1 / 500)
  gap = reconstruction - expected.mean(axis=1)
  assert (np.abs(gap) < 4 * error).all()


@pytest.mark.slow
@pytest.mark.parametrize('parallelism', ['jit', 'pmap'])
def test_steps_are_the_same_on_many_devices(parallelism):
  kinds = {'jit': sharding.JitOverMesh, 'pmap': sharding.PmapOverMesh}
  with jax.enable_x64(True):

    def train_on(num_devices):
      mesh = sharding.create_mesh(jax.devices()[:num_devices])
      parallel = kinds[parallelism](mesh)
      vae = create(parallel.axis, compute_dtype='float64', free_bits_nats=0.5)
      root = prng.root_key(0)
      step = parallel.compile(
        loop.chain_steps(
          functools.partial(steps.train_step, vae),
          1,
          skip_not_finite=False,
          unroll=True,
        )
      )
      state = parallel.spread(init_state(vae, root))
      batch = np.random.default_rng(0).integers(
        0, 256, (1, 1, 8, *SHAPE), np.uint8
      )
      for _ in range(2):
        state, _ = step(state, parallel.put_batches(batch), root)
      return jax.device_get(parallel.gather(state)).params

    one, many = train_on(1), train_on(4)
  for a, b in zip(*map(jax.tree.leaves, (one, many)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_likelihood_terms_stay_float32_under_bfloat16(x):
  vae = create(compute_dtype='bfloat16')
  params = init_state(vae, prng.root_key(0)).params
  found = evidence(vae, params, x)
  assert {feature.dtype for feature in found} == {jnp.dtype('bfloat16')}
  inferred = infer(vae, params, found, noise_of(vae))
  dtypes = {y.dtype for y in jax.tree.leaves(inferred)}
  assert dtypes == {jnp.dtype('float32')}
  loss, _ = steps.loss(vae, params, x, jax.random.key(0), jnp.int32(0))
  assert loss.dtype == jnp.float32
  assert np.isfinite(loss)


@pytest.mark.parametrize(
  ('groups', 'named'),
  [
    ((), 'must be scales'),
    ((1, 8, 2, 3), 'must be scales'),
    (((1, 8, 2),), 'must be scales'),
    (((1, 7, 2, 3),), 'width even'),
    (((1, 8, 0, 3),), 'positive'),
    (((1, 8, 2, -1),), 'positive'),
    (((1, 8, 2, 0),), '0 latents'),
    (((1, 8, 60, 1), (2, 8, 60, 1)), '120 groups'),
    (((1, 8, 2, 3.0),), 'integer'),
    (((4, 8, 1, 1), (1, 8, 1, 1)), 'side 4'),
    (((3, 8, 1, 1),), 'divisor of 8'),
    (((8, 8, 1, 1),), 'divisor of 8'),
    (((4, 8, 64, 100),), '102,400 latents'),
  ],
)
def test_impossible_groups_are_named(groups, named):
  with pytest.raises(UserError, match=r'config\.model\.groups') as error:
    vae_config.check(config_of(**{'model.groups': groups}))
  assert named in str(error.value)


@pytest.mark.parametrize(
  ('changes', 'named'),
  [
    ({'dataset.image_size': (8, 16)}, 'square images'),
    ({'objective': 'dreg'}, 'one layer'),
  ],
)
def test_what_a_hierarchy_cannot_do_is_named(changes, named):
  with pytest.raises(UserError, match=named):
    vae_config.check(config_of(**changes))


def test_groups_survive_the_config_file():
  config = config_of()
  stored = json.loads(config.to_json())
  restored = stored_config.from_stored(stored, vae_config.default(), 'here')
  assert restored.model.groups == GROUPS


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The workdir of a finished smoke run; read-only."""
  workdir = tmp_path_factory.mktemp('trained_hierarchy') / 'run'
  assert train(recipe('hvae.py', 'smoke'), workdir) is None
  return workdir


def test_a_run_reports_its_groups(trained):
  last = read_metrics(trained)[-1]
  groups = {f'kl_per_group_nats/{i}' for i in range(4)}
  assert groups == {name for name in last if name.startswith('kl_per_')}
  assert last['active_units'] > 0


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '8')
  assert train(recipe('hvae.py', 'smoke'), workdir) is None
  assert_same_end(trained, workdir)


def test_evaluation_names_the_groups_in_use(trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  arguments = ['', f'--workdir={workdir}', '--metrics=likelihood']
  assert evaluate.main(arguments) == 0
  found = json.loads((workdir / 'evaluation.json').read_text())
  assert len(found['kl_per_group_nats']) == 4
  assert found['active_groups'] == sum(
    kl > 0.1 for kl in found['kl_per_group_nats']
  )
  assert sum(found['kl_per_group_nats']) == pytest.approx(found['kl_nats'])
  assert 'aggregated_posterior_kl_nats' not in found


def test_the_estimate_beside_annealed_chains_is_that_of_the_draws(x):
  vae, params = scattered()
  loaded = TrainedVAE(vae, params, config_of(), 0)
  root = jax.random.key(6)
  found = ais.importance_estimates(loaded, x, root, 100)
  expected = estimation.estimate(
    vae,
    params,
    x,
    evidence(vae, params, x),
    prng.by_number(root, jnp.arange(BATCH)),
    100,
  )
  np.testing.assert_allclose(found, expected.log_prob, rtol=1e-5)


def test_top_groups_know_more_and_more_of_an_image(trained, tmp_path):
  arguments = ['', f'--workdir={trained}', '--kind=groups', '--num_samples=24']
  assert sample.main([*arguments, f'--output={tmp_path / "g.npz"}']) == 0
  rows = np.load(tmp_path / 'g.npz')['images'].reshape(3, 8, 16, 16, 1)
  # Without any group all rows are alike, and each group adds something.
  np.testing.assert_array_equal(rows[0, 1], rows[2, 1])
  assert (rows[0, 7] != rows[2, 7]).any()
  assert sample.main([*arguments, f'--output={tmp_path / "g.png"}']) == 0
  loaded = sample.load(trained)
  with PIL.Image.open(tmp_path / 'g.png') as grid:
    assert grid.width == 8 * 18 + 2
  assert loaded.vae.latent_size == sum((4, 4, 32, 64))


def test_groups_of_one_layer_are_refused(trained_vae, tmp_path, capsys):
  arguments = ['', f'--workdir={trained_vae}', '--kind=groups']
  assert sample.main([*arguments, f'--output={tmp_path / "g.png"}']) == 2
  assert 'one layer of latents' in capsys.readouterr().err
  assert not (tmp_path / 'g.png').exists()


def test_temperature_multiplies_the_latents(trained, tmp_path):
  found = {}
  for temperature in (1.0, 0.5, 0.0):
    file = tmp_path / f'{temperature}.npz'
    arguments = [f'--temperature={temperature}', '--num_samples=3']
    assert (
      sample.main(['', f'--workdir={trained}', *arguments, f'--output={file}'])
      == 0
    )
    found[temperature] = dict(np.load(file))
  np.testing.assert_array_equal(
    found[0.5]['latents'], 0.5 * found[1.0]['latents']
  )
  cold = found[0.0]['images']
  np.testing.assert_array_equal(cold[0], cold[1])
