"""Annealed importance sampling against closed forms and by hand."""

import functools

import jax
import jax.numpy as jnp
import linear_gaussian as linear
import numpy as np
import pytest

from common_flax.annealing import audit
from common_flax.annealing import bounds
from common_flax.annealing import chains
from common_flax.annealing import hmc
from common_flax.annealing import weights

NUM_CHAINS = 64


@pytest.fixture(scope='module')
def params():
  return linear.create()


@pytest.fixture(scope='module')
def simulated(params):
  return linear.simulate(params, 1)


@functools.cache
def bidirectional(num):
  params = linear.create()
  z, x = linear.simulate(params, 1)
  return bounds.bidirectional(
    linear.log_joint,
    (params, x),
    z,
    linear.keys_of(0),
    NUM_CHAINS,
    chains.sigmoid_schedule(num),
  )


def test_estimates_are_within_a_twentieth_of_a_nat(params, simulated):
  exact = linear.log_prob(params, simulated[1])
  found = bidirectional(1000)
  np.testing.assert_allclose(found.lower.log_prob, exact, atol=0.05)
  np.testing.assert_allclose(found.upper, exact, atol=0.05)
  assert (found.lower.standard_error < 0.05).all()
  assert (found.lower.effective_samples > 0.8 * NUM_CHAINS).all()
  np.testing.assert_allclose(found.acceptance, hmc.ACCEPTANCE, atol=0.05)


def test_an_importance_estimate_agrees(params, simulated):
  """Weights of draws from the exact posterior's diagonal, made wider."""
  x = simulated[1].astype(np.float64)
  a, w, b = (np.asarray(p, np.float64) for p in params)
  scale = linear.MIDDLE_SCALE * np.eye(linear.MIDDLE)
  matrix = np.hstack([w @ a, w @ scale])
  precision = np.eye(linear.LATENT) + matrix.T @ matrix / linear.SCALE**2
  covariance = np.linalg.inv(precision)
  means = (x - b) @ matrix @ covariance / linear.SCALE**2
  noise = np.random.default_rng(0).normal(size=(20_000, linear.LATENT))
  root = np.linalg.cholesky(1.2 * covariance)
  z = means[:, None] + noise @ root.T
  log_q = np.stack(
    [
      linear.log_normal(each, 0.0, 1.2 * covariance)
      for each in z - means[:, None]
    ]
  )
  log_joint = np.asarray(
    linear.log_joint((params, simulated[1]), jnp.asarray(z, jnp.float32)),
    np.float64,
  )
  found = weights.estimates(log_joint - log_q)
  exact = linear.log_prob(params, simulated[1])
  np.testing.assert_allclose(found.log_prob, exact, atol=0.02)


def test_both_bounds_enclose_the_truth_and_the_gap_shrinks():
  """The mean over 200 simulated examples, each from a handful of chains."""
  params = linear.create()
  z, x = linear.simulate(params, 2, 200)
  exact = linear.log_prob(params, x)
  gaps = []
  for num in (10, 30, 90):
    found = bounds.bidirectional(
      linear.log_joint,
      (params, x),
      z,
      linear.keys_of(4, 200),
      2,
      chains.sigmoid_schedule(num),
    )
    below, above = exact - found.lower.log_prob, found.upper - exact
    for gap in (below, above):
      assert gap.mean() > -2 * weights.standard_error(gap)
    gaps.append((below + above).mean())
  assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_the_mean_weight_is_the_probability_however_few_temperatures():
  """Without a bias: 5 temperatures, and the mean of 4,000 weights."""
  params = linear.create()
  _, x = linear.simulate(params, 1)
  annealed = bounds.forward(
    linear.log_joint,
    (params, x),
    linear.keys_of(7),
    4000,
    chains.sigmoid_schedule(5),
    linear.LATENT,
  )
  found = weights.estimates(annealed.log_weights)
  exact = linear.log_prob(params, x)
  assert (np.abs(found.log_prob - exact) < 4 * found.standard_error).all()
  assert (found.standard_error < 0.2).all()


def test_chains_end_at_the_posterior(params, simulated):
  betas = chains.sigmoid_schedule(200)
  annealed = bounds.forward(
    linear.log_joint,
    (params, simulated[1][:1]),
    linear.keys_of(5, 1),
    1000,
    betas,
    linear.LATENT,
  )
  a, w, b = params
  matrix = np.hstack([w @ a, linear.MIDDLE_SCALE * w])
  precision = np.eye(linear.LATENT) + matrix.T @ matrix / linear.SCALE**2
  mean = np.linalg.solve(
    precision, matrix.T @ (simulated[1][0] - b) / linear.SCALE**2
  )
  z = np.asarray(annealed.z[0])
  np.testing.assert_allclose(z.mean(axis=0), mean, atol=0.15)
  np.testing.assert_allclose(np.cov(z.T), np.linalg.inv(precision), atol=0.12)


def test_a_start_near_the_posterior_needs_fewer_temperatures(params, simulated):
  """The same log Pr(x), from the mean and deviations of the posterior."""
  x = simulated[1]
  a, w, b = params
  matrix = np.hstack([w @ a, linear.MIDDLE_SCALE * w])
  covariance = np.linalg.inv(
    np.eye(linear.LATENT) + matrix.T @ matrix / linear.SCALE**2
  )
  mean = (x - b) @ matrix @ covariance / linear.SCALE**2
  log_var = np.tile(np.log(np.diag(covariance)), (len(x), 1))
  arguments = (
    (params, x),
    mean.astype(np.float32),
    log_var.astype(np.float32),
  )
  found = weights.estimates(
    bounds.forward(
      bounds.from_normal(linear.log_joint),
      arguments,
      linear.keys_of(0),
      NUM_CHAINS,
      chains.sigmoid_schedule(100),
      linear.LATENT,
    ).log_weights
  )
  exact = linear.log_prob(params, x)
  assert (np.abs(found.log_prob - exact) < 4 * found.standard_error).all()
  assert (found.standard_error < bidirectional(100).lower.standard_error).all()


def test_the_schedule_is_a_sigmoid():
  betas = chains.sigmoid_schedule(4)
  inner = 1 / (1 + np.exp(2.0)), 1 / (1 + np.exp(4.0))
  second = (inner[0] - inner[1]) / (1 - 2 * inner[1])
  np.testing.assert_allclose(betas, [0, second, 0.5, 1 - second, 1], atol=1e-15)


def quartic(z):
  """A density that is no Gaussian, its gradient, and nothing else."""
  return -jnp.sum(z**4 + 0.5 * z**2, -1), -4 * z**3 - z, ()


def test_leapfrog_is_reversible_and_keeps_the_energy():
  with jax.enable_x64(True):
    random = np.random.default_rng(0)
    z, momentum = random.normal(size=(2, 3, 4, 2))
    start = hmc.position(quartic, jnp.asarray(z))
    end, moved = hmc.leapfrog(quartic, start, jnp.asarray(momentum), 0.01)
    back, again = hmc.leapfrog(quartic, end, -moved, 0.01)
    assert np.abs(end.z - z).max() > 0.1
    np.testing.assert_allclose(back.z, z, atol=1e-12)
    np.testing.assert_allclose(-again, momentum, atol=1e-12)
    energies = [
      0.5 * np.sum(np.square(p), -1) - place.log_density
      for place, p in ((start, momentum), (end, moved))
    ]
    np.testing.assert_allclose(*energies, rtol=1e-3)


def test_a_transition_leaves_the_density_invariant():
  """The second moment of a quartic density, and of chains that move in it."""
  nodes = np.linspace(-5, 5, 4001)
  density = np.exp(-(nodes**4) - 0.5 * nodes**2)
  expected = (nodes**2 * density).sum() / density.sum()
  here = hmc.position(quartic, jnp.zeros((1, 4000, 1)))
  move = jax.jit(functools.partial(hmc.transition, quartic))
  for i in range(20):
    here, acceptance = move(
      here, jax.random.split(jax.random.key(i), 1), jnp.full(1, 0.4)
    )
  # Were all accepted, the moment would be twice as large.
  assert 0.8 < acceptance.mean() < 0.98
  assert np.mean(np.square(here.z)) == pytest.approx(expected, rel=0.06)


def test_a_path_out_of_range_is_rejected():
  start = hmc.position(quartic, jnp.ones((1, 3, 2)))
  end, acceptance = hmc.transition(
    quartic, start, jax.random.split(jax.random.key(0), 1), jnp.full(1, 100.0)
  )
  np.testing.assert_array_equal(end.z, start.z)
  np.testing.assert_array_equal(acceptance, 0)


@pytest.mark.parametrize('first', [0.01, 3.0])
def test_step_sizes_reach_the_acceptance(monkeypatch, params, simulated, first):
  monkeypatch.setattr(chains, '_FIRST_STEP_SIZE', first)
  pilot = chains.anneal(
    linear.log_joint,
    (params, simulated[1]),
    jnp.zeros((linear.NUM, 8, linear.LATENT)),
    linear.keys_of(3),
    np.ones(501),
  )
  # The first steps, until the step size fits, count too.
  np.testing.assert_allclose(pilot.acceptance, hmc.ACCEPTANCE, atol=0.06)
  found = pilot.step_sizes[100:]
  assert (found.min(axis=0) > 0.1).all()
  assert (found.max(axis=0) < 1.5).all()


def test_weights_are_those_of_double_precision(monkeypatch):
  """Chains that hardly move: their weights from a sum in NumPy."""
  params = linear.create()
  z, x = linear.simulate(params, 3)
  starts = np.stack([z, -z, 2 * z], axis=1)
  betas = chains.sigmoid_schedule(23)
  still = np.full((23, linear.NUM), 1e-9)
  for path, sign in ((betas, 1), (betas[::-1], 1)):
    found = chains.anneal(
      linear.log_joint,
      (params, x),
      jnp.asarray(starts),
      linear.keys_of(0),
      path,
      still,
    )
    exact = np.stack(
      [
        linear.log_normal(
          x, linear.mean_of(params, starts[:, c]), linear.SCALE**2 * np.eye(6)
        )
        for c in range(3)
      ],
      axis=1,
    )
    assert found.log_weights.dtype == np.float64
    np.testing.assert_allclose(found.log_weights, sign * exact, rtol=2e-6)


def test_numbers_of_weights_by_hand():
  logs = np.array([[-1000.0, -1001.0, -1002.0], [3.0, 3.0, 3.0]])
  w = np.exp(logs[0] + 1000)
  found = weights.estimates(logs)
  np.testing.assert_allclose(found.log_prob, [np.log(w.mean()) - 1000, 3])
  np.testing.assert_allclose(
    found.effective_samples, [w.sum() ** 2 / (w**2).sum(), 3]
  )
  np.testing.assert_allclose(
    found.standard_error, [w.std(ddof=1) / 3**0.5 / w.mean(), 0]
  )
  upper = weights.upper_bound(logs)
  np.testing.assert_allclose(upper, [-1000 - np.log((1 / w).mean()), 3])
  assert upper[0] < found.log_prob[0]
  assert np.isnan(weights.estimates(logs[:, :1]).standard_error).all()


def test_an_examples_chains_depend_on_its_key_alone(params, simulated):
  def annealed(rows, seed=0):
    rows = np.array(rows)
    return bounds.forward(
      linear.log_joint,
      (params, simulated[1][rows]),
      linear.keys_of(seed)[rows],
      4,
      chains.sigmoid_schedule(13),
      linear.LATENT,
    ).log_weights

  whole = annealed([0, 1, 2, 3, 4])
  np.testing.assert_allclose(
    annealed([4, 2, 2, 1, 0]), whole[[4, 2, 2, 1, 0]], rtol=1e-4, atol=1e-3
  )
  np.testing.assert_array_equal(annealed([0, 1, 2, 3, 4]), whole)
  assert not np.isclose(annealed([0, 1, 2, 3, 4], seed=1), whole).any()
  assert len(np.unique(whole)) == whole.size


def test_every_example_of_all_batches_is_measured_once(monkeypatch):
  monkeypatch.setattr(audit, '_ROWS', 12)
  sizes = []

  def measure(rows, keys):
    sizes.append(len(rows))
    return rows, jax.random.key_data(keys)

  root = jax.random.key(0)
  found, keys = audit.in_batches(measure, np.arange(7), root, 4)
  np.testing.assert_array_equal(found, np.arange(7))
  assert sizes == [3, 3, 3]
  assert len(np.unique(keys, axis=0)) == 7
  alone = audit.in_batches(measure, np.arange(7), root, 100)
  np.testing.assert_array_equal(alone[1], keys)
