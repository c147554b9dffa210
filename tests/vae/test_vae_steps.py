"""The train step and its draws."""

import dataclasses

from dense_vae import BATCH
from dense_vae import batches
from dense_vae import close
from dense_vae import compiled
from dense_vae import create
from dense_vae import gradient_of
from dense_vae import initial
from dense_vae import SHAPE
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import prng
from common_flax.likelihoods import observations
from vae_flax import inference
from vae_flax import steps
from vae_flax.state import exported
from vae_flax.state import init_state


@pytest.fixture(scope='module')
def vae():
  return create()


@pytest.fixture(scope='module')
def state(vae):
  return initial(vae)


@pytest.fixture(scope='module')
def step(vae):
  return compiled(vae)


@pytest.fixture(scope='module')
def root():
  return prng.root_key(0)


def equal(a, b):
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def test_parameters_are_of_an_encoder_and_a_decoder(state):
  assert set(state.params) == {'encoder', 'decoder'}
  assert equal(state.params, state.ema_params)
  assert exported(state).keys() == {'params', 'ema_params'}
  kernels = [net['hidden_0']['kernel'] for net in state.params.values()]
  assert {k.shape for k in kernels} == {(64, 12), (3, 12)}


def test_a_step_changes_everything(state, step, root):
  new, metrics = step(state, batches(1)[0], root)
  assert new.step == 1
  assert new.attempt == 0
  for name in ('params', 'opt_state', 'ema_params'):
    old = getattr(state, name)
    for a, b in zip(
      jax.tree.leaves(getattr(new, name)), jax.tree.leaves(old), strict=True
    ):
      assert not np.array_equal(a, b)
  assert set(metrics) == {
    'loss_nats',
    'elbo_nats',
    'reconstruction_nats',
    'kl_nats',
    'grad_norm',
  }


@pytest.mark.parametrize('objective', ['elbo', 'dreg'])
def test_loss_falls_and_latents_come_into_use_on_a_fixed_batch(objective):
  random = np.random.default_rng(0)
  patterns = random.choice(np.array([0, 255], np.uint8), (2, *SHAPE))
  batch = np.tile(patterns, (BATCH // 2, 1, 1, 1))[None]
  vae = create(
    **{
      'objective': objective,
      'num_importance_samples': 2,
      'optimizer.learning_rate': 0.005,
    }
  )
  state, root, step = initial(vae), prng.root_key(0), compiled(vae)
  values = []
  for _ in range(300):
    state, metrics = step(state, batch, root)
    values.append(metrics['loss_nats'])
  assert values[0] > 40
  # Of one image in two, log Pr(x) is at most -log 2.
  assert np.log(2) < np.mean(values[-20:]) < 4
  assert metrics['kl_nats'] > 0.5


def test_moving_average_follows_the_weights(vae, state, step, root):
  expected = state.ema_params
  for t, batch in enumerate(batches(3)):
    state, _ = step(state, batch, root)
    decay = min(vae.ema_decay, (1 + t) / (10 + t))
    expected = jax.tree.map(
      lambda a, p, decay=decay: decay * a + (1 - decay) * p,
      expected,
      state.params,
    )
    close(state.ema_params, expected, 1e-6)


def test_a_step_follows_the_gradient_of_the_loss_at_its_own_draws(
  vae, state, step, root
):
  """Of x and z, each from a key of the step's; Adam then divides by |g|."""
  state = state.replace(step=np.int32(5), attempt=np.int32(2))
  batch = batches(1)[0]
  new, metrics = step(state, batch, root)

  @jax.jit
  def by_hand(params, batch):
    keys = jax.random.split(prng.stream(root, 'train', 5, 2))
    x = steps._observe(vae, batch, keys[0])
    return jax.grad(
      lambda params: steps.loss(vae, params, x, keys[1], np.int32(5)),
      has_aux=True,
    )(params)

  gradient, expected = jax.device_get(by_hand(state.params, batch[0]))
  norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient)))
  close(metrics, {**expected, 'grad_norm': norm}, 1e-5)
  close(
    gradient_of(new),
    np.concatenate([0.1 * np.ravel(g) for g in jax.tree.leaves(gradient)]),
    1e-5,
  )
  moved = jax.tree.map(lambda a, b: np.asarray(a) - b, new.params, state.params)
  for a, g in zip(*map(jax.tree.leaves, (moved, gradient)), strict=True):
    is_clear = np.abs(g) > 1e-3
    assert is_clear.any()
    np.testing.assert_allclose(
      a[is_clear], -1e-3 * np.sign(g[is_clear]), rtol=1e-3
    )


def test_a_step_is_a_function_of_state_batch_and_root(state, step, root):
  batch = batches(1)[0]
  first = step(state, batch, root)
  assert equal(step(state, batch, root), first)
  changes = {
    'retried': (state.replace(attempt=np.int32(1)), root),
    'later': (state.replace(step=np.int32(1)), root),
    'another run': (state, prng.root_key(1)),
  }
  for changed, other_root in changes.values():
    new, metrics = step(changed, batch, other_root)
    assert metrics['loss_nats'] != first[1]['loss_nats']
    assert not equal(new.params, first[0].params)


@pytest.fixture
def keys_are_seen(monkeypatch):
  """Checks that keys are used once, also those that are wrapped anew."""
  for module in (inference, observations):
    monkeypatch.setattr(module, 'unrolled', lambda key: key)
  with jax.debug_key_reuse(True):
    yield


def test_a_step_uses_no_key_twice(keys_are_seen):
  vae = create(
    **{'objective': 'dreg', 'num_importance_samples': 2, 'dataset.flip': True}
  )
  compiled(vae)(initial(vae), batches(1)[0], prng.root_key(0))


def test_a_loss_and_a_draw_consume_their_key(keys_are_seen, vae, state):
  x = jnp.zeros((2, *SHAPE))

  def loss(key):
    return steps.loss(vae, state.params, x, key, jnp.int32(0))[0]

  def draw(key):
    return jnp.sum(inference.reparameterise(key, *jnp.zeros((2, 2, 3))))

  for consume in (loss, draw):
    jax.jit(consume)(jax.random.key(0))
    with pytest.raises(jax.errors.KeyReuseError):
      jax.jit(lambda key, f=consume: f(key) + jax.random.normal(key))(
        jax.random.key(0)
      )


def test_pixels_flips_and_latents_have_keys_of_their_own(
  vae, state, root, monkeypatch
):
  seen = {}

  def observe(key, images, dtype, axis):
    seen['observe'] = key
    return images.astype(dtype)

  def reparameterise(key, mean, log_var, *rest):
    seen['latents'] = key
    raise StopIteration

  def bernoulli(key, p, shape):
    seen['flip'] = key
    return jnp.zeros(shape, bool)

  monkeypatch.setattr(inference, 'reparameterise', reparameterise)
  monkeypatch.setattr(jax.random, 'bernoulli', bernoulli)
  vae = dataclasses.replace(vae, flip=True, observe=observe)
  used = set()
  for t in range(3):
    with pytest.raises(StopIteration), jax.disable_jit():
      steps.train_step(
        vae, state.replace(step=np.int32(t)), jnp.asarray(batches(1)[0]), root
      )
    used |= {
      tuple(np.asarray(jax.random.key_data(key))) for key in seen.values()
    }
  assert len(seen) == 3
  assert len(used) == 9


def test_flips_mirror_about_half_of_the_images():
  vae = create(**{'dataset.binarise': 'threshold', 'dataset.flip': True})
  batch = jnp.asarray(
    np.random.default_rng(0).integers(0, 256, (256, *SHAPE), np.uint8)
  )
  flipped = steps._observe(vae, batch, jax.random.key(0))
  plain = vae.observe(jax.random.key(0), batch, vae.dtype)
  mirrored = (flipped == plain[:, :, ::-1]).all((1, 2, 3))
  kept = (flipped == plain).all((1, 2, 3))
  assert (mirrored ^ kept).all()
  assert 90 < mirrored.sum() < 166


@pytest.mark.parametrize(
  ('binarise', 'likelihood', 'observe'),
  [
    ('stochastic', 'bernoulli', observations.binarise),
    ('threshold', 'bernoulli', observations.threshold),
    ('fixed', 'bernoulli', observations.threshold),
    ('none', 'gaussian', observations.dequantise),
    ('none', 'gaussian_learned', observations.dequantise),
    ('none', 'logistic', observations.scale),
    ('none', 'logistic_mixture', observations.scale),
  ],
)
def test_every_likelihood_gets_the_x_it_is_of(binarise, likelihood, observe):
  vae = create(**{'dataset.binarise': binarise, 'likelihood': likelihood})
  assert vae.observe is observe


@pytest.mark.slow
def test_bfloat16_is_of_the_networks_alone(root):
  """Parameters, terms of the bound and metrics stay in single precision."""
  vae = create(
    'bfloat16',
    **{
      'model.name': 'conv',
      'model.base_features': 4,
      'objective': 'dreg',
      'num_importance_samples': 2,
      'likelihood': 'logistic',
      'dataset.binarise': 'none',
    },
  )
  state, step = initial(vae), compiled(vae)
  for batch in batches(2):
    state, metrics = step(state, batch, root)
  floats = [
    x
    for x in jax.tree.leaves((state, metrics))
    if jnp.issubdtype(x.dtype, jnp.floating)
  ]
  assert {x.dtype for x in floats} == {np.dtype(np.float32)}
  assert all(np.isfinite(x).all() for x in floats)

  @jax.jit
  def outputs(params, x):
    mean, log_var = inference.encode(vae, params, x)
    fine = vae.encoder.clone(dtype=jnp.float32).apply(
      {'params': params['encoder']}, x
    )
    decoded = inference.decode(vae, params, mean)
    reconstruction = inference.reconstruction(vae, params, x, mean[:, None])
    return (mean, log_var, decoded, reconstruction), fine

  x = np.random.default_rng(0).integers(0, 2, (4, *SHAPE)).astype(np.float32)
  coarse, fine = outputs(state.params, x)
  assert {y.dtype for y in coarse} == {np.dtype(np.float32)}
  # The layers themselves are coarser: 8 bits of a number are left.
  assert not np.allclose(coarse[0], fine[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(coarse[0], fine[0], atol=0.05)


def test_initial_parameters_are_a_function_of_the_root(vae, state):
  create = jax.jit(lambda root: init_state(vae, root))
  assert equal(create(prng.root_key(0)), state)
  assert not equal(create(prng.root_key(1)).params, state.params)
