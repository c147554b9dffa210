"""Quantisers, their gradients and codebooks, against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_flax.quantisers import codebooks
from vq_flax.quantisers import gradients
from vq_flax.quantisers import ScalarQuantiser
from vq_flax.quantisers import VectorQuantiser
from vq_flax.quantisers.codebooks import Usage

K, D = 7, 3


@pytest.fixture(autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


def drawn(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def nearest(codebook, x):
  """The entry with the least distance, by comparing with all."""
  distances = ((x[..., None, :] - codebook) ** 2).sum(axis=-1)
  return distances.argmin(axis=-1)


@pytest.mark.parametrize('num_codebooks', [1, 3])
def test_each_codebook_quantises_what_the_earlier_ones_leave(num_codebooks):
  quantiser = VectorQuantiser(K, D, num_codebooks)
  entries, x = drawn(num_codebooks, K, D), drawn(2, 5, D, seed=1)
  found = jax.jit(quantiser.quantise)(entries, x)
  rest, codes = x, []
  for level, codebook in enumerate(entries):
    np.testing.assert_allclose(found.inputs[..., level, :], rest, rtol=1e-12)
    codes.append(nearest(codebook, rest))
    rest = rest - codebook[codes[-1]]
  np.testing.assert_array_equal(found.codes, np.stack(codes, axis=-1))
  np.testing.assert_allclose(found.vectors, x - rest, rtol=1e-9)
  np.testing.assert_allclose(
    jax.jit(quantiser.vectors)(entries, found.codes), x - rest, rtol=1e-9
  )
  assert found.codes.shape == (2, 5, num_codebooks)


def test_the_first_of_equally_near_entries_is_chosen():
  codebook = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
  quantiser = VectorQuantiser(3, 2, 1)
  found = quantiser.quantise(codebook[None], np.array([[0.0, 3.0], [2.0, 0.0]]))
  np.testing.assert_array_equal(found.codes[:, 0], [0, 0])


def test_gradients_of_distances_reach_the_entries_alone_or_the_cells_alone():
  quantiser = VectorQuantiser(K, D, 1)
  entries, x = drawn(1, K, D), drawn(9, D, seed=1)

  def distance(entries, x):
    found = quantiser.quantise(entries, x)
    return jnp.sum((jax.lax.stop_gradient(found.inputs) - found.entries) ** 2)

  to_entries, to_x = jax.grad(distance, (0, 1))(entries, x)
  codes = nearest(entries[0], x)
  expected = np.zeros((K, D))
  np.add.at(expected, codes, 2 * (entries[0][codes] - x))
  np.testing.assert_allclose(to_entries[0], expected, rtol=1e-10, atol=1e-12)
  assert not to_x.any()


@pytest.mark.parametrize('name', gradients.GRADIENTS)
def test_both_gradients_return_the_quantised_vectors(name):
  x, quantised = drawn(8, D), drawn(8, D, seed=1)
  y = jax.jit(gradients.GRADIENTS[name])(x, quantised)
  np.testing.assert_allclose(y, quantised, rtol=1e-12)
  # Not a number times 0 would be no number.
  to_quantised = jax.grad(
    lambda q: jnp.sum(gradients.GRADIENTS[name](x, q) ** 2)
  )(quantised)
  assert not to_quantised.any()


def test_the_straight_gradient_passes_as_it_is():
  x, quantised, weights = (drawn(8, D, seed=i) for i in range(3))
  found = jax.grad(
    lambda x: jnp.sum(weights * gradients.straight_through(x, quantised))
  )(x)
  np.testing.assert_allclose(found, weights)


def test_the_rotated_gradient_turns_as_the_vector_does():
  """By the rotation in the plane of both vectors, times the ratio of norms."""
  x, quantised, weights = (drawn(5, D, seed=i) for i in range(3))
  found = jax.grad(
    lambda x: jnp.sum(weights * gradients.rotated(x, quantised))
  )(x)
  for i in range(5):
    a = x[i] / np.linalg.norm(x[i])
    b = quantised[i] / np.linalg.norm(quantised[i])
    # Rodrigues' formula.
    axis = np.cross(a, b)
    cross = np.array(
      [
        [0, -axis[2], axis[1]],
        [axis[2], 0, -axis[0]],
        [-axis[1], axis[0], 0],
      ]
    )
    rotation = np.eye(3) + cross + cross @ cross / (1 + a @ b)
    np.testing.assert_allclose(rotation @ a, b, rtol=1e-10)
    ratio = np.linalg.norm(quantised[i]) / np.linalg.norm(x[i])
    np.testing.assert_allclose(
      found[i], ratio * rotation.T @ weights[i], rtol=1e-8
    )


@pytest.mark.parametrize(
  ('x', 'quantised'),
  [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.0, 0], [-2.0, 0])],
)
def test_a_vector_without_a_plane_to_turn_in_has_the_straight_gradient(
  x, quantised
):
  x, quantised = np.array([x]), np.array([quantised])
  value, found = jax.value_and_grad(
    lambda x: jnp.sum(gradients.rotated(x, quantised))
  )(x)
  assert value == quantised.sum()
  np.testing.assert_allclose(found, np.ones((1, 2)))


@pytest.mark.parametrize('levels', [(8, 8, 8), (3,), (2, 5, 4), (7, 6)])
def test_scalars_have_every_code_once(levels):
  quantiser = ScalarQuantiser(levels)
  codes = np.arange(quantiser.num_codes)[:, None]
  vectors = np.asarray(quantiser.vectors(None, codes))
  assert quantiser.num_codes == np.prod(levels)
  assert len(np.unique(vectors, axis=0)) == quantiser.num_codes
  for feature, num in enumerate(levels):
    half = num // 2
    steps = np.arange(num) - half
    np.testing.assert_allclose(np.unique(vectors[:, feature]), steps / half)
  # Quantising what a code stands for gives the code back.
  halves = np.array(levels) // 2
  reach = (np.array(levels) - 1) * (1 + 1e-3) / 2
  offset = np.where(np.array(levels) % 2 == 0, 0.5, 0)
  inside = np.clip((vectors * halves + offset) / reach, -0.999999, 0.999999)
  x = np.arctanh(inside) - np.arctanh(offset / reach)
  found = jax.jit(lambda x: quantiser.quantise(None, x))(x)
  np.testing.assert_array_equal(found.codes, codes)
  np.testing.assert_allclose(found.vectors, vectors, rtol=1e-6)
  exact = (np.round(vectors * halves) / halves).astype(np.float64)
  np.testing.assert_allclose(found.vectors, exact, rtol=1e-14)


def test_scalars_stay_in_range_and_zero_stays_zero():
  quantiser = ScalarQuantiser((8, 5))
  extreme = np.array([[-1e9, -1e9], [1e9, 1e9], [0.0, 0.0]])
  found = quantiser.quantise(None, extreme)
  np.testing.assert_allclose(found.vectors, [[-1, -1], [0.75, 1], [0, 0]])
  assert found.codes.min() >= 0
  assert found.codes.max() < 40


def test_the_gradient_of_a_scalar_is_that_of_its_bound():
  quantiser = ScalarQuantiser((8, 5))
  x = drawn(6, 2)

  def value(x):
    found = quantiser.quantise(None, x)
    y = gradients.straight_through(found.inputs[..., 0, :], found.vectors)
    return jnp.sum(y)

  reach = np.array([7, 4]) * (1 + 1e-3) / 2
  shift = np.arctanh(np.array([0.5, 0]) / reach)
  expected = reach / np.array([4, 2]) * (1 - np.tanh(x + shift) ** 2)
  np.testing.assert_allclose(jax.grad(value)(x), expected, rtol=1e-10)


def test_averages_follow_the_equations_of_the_paper():
  """N ← γN + (1 - γ)n, m ← γm + (1 - γ)Σx and e = m / N, entry by entry."""
  decay, entries = 0.9, drawn(K, D)
  counts, sums = np.full(K, 2.0), 2.0 * entries
  usage = Usage(jnp.asarray(counts), jnp.asarray(sums))
  for t in range(3):
    x = drawn(20, D, seed=t + 1)
    codes = nearest(entries, x)
    batch = codebooks.statistics(jnp.asarray(codes), jnp.asarray(x), K)
    usage = codebooks.follow(usage, batch, decay)
    for i in range(K):
      chosen = x[codes == i]
      counts[i] = decay * counts[i] + (1 - decay) * len(chosen)
      sums[i] = decay * sums[i] + (1 - decay) * chosen.sum(axis=0)
    np.testing.assert_allclose(usage.counts, counts, rtol=1e-12)
    np.testing.assert_allclose(usage.sums, sums, rtol=1e-9)
    entries = np.asarray(codebooks.means(usage, jnp.asarray(entries)))
    np.testing.assert_allclose(entries, sums / counts[:, None], rtol=1e-9)


def test_an_entry_that_nothing_ever_chose_stays():
  entries = drawn(K, D)
  usage = Usage(jnp.zeros(K), jnp.zeros((K, D)))
  np.testing.assert_array_equal(codebooks.means(usage, entries), entries)


def test_dead_entries_alone_start_anew_at_vectors_of_the_batch():
  entries, x = drawn(K, D), drawn(30, D, seed=1)
  counts = np.array([5.0, 0.2, 3.0, 0.99, 1.0, 8.0, 0.0])
  usage = Usage(jnp.asarray(counts), jnp.asarray(counts[:, None] * entries))
  found, after, is_new = codebooks.restart(
    jax.random.key(0), jnp.asarray(entries), usage, jnp.asarray(x), 1.0
  )
  is_dead = counts < 1
  np.testing.assert_array_equal(is_new, is_dead)
  np.testing.assert_array_equal(found[~is_dead], entries[~is_dead])
  for entry in np.asarray(found)[is_dead]:
    assert (x == entry).all(axis=1).any()
  np.testing.assert_allclose(after.counts[is_dead], counts.mean())
  np.testing.assert_allclose(codebooks.means(after, found), found, rtol=1e-12)
  again, _, is_new_again = codebooks.restart(
    jax.random.key(1), found, after, jnp.asarray(x), 1.0
  )
  np.testing.assert_array_equal(again, found)
  assert not is_new_again.any()


def test_k_means_finds_clusters():
  random = np.random.default_rng(0)
  centres = 10 * random.normal(size=(4, D))
  x = centres[random.integers(0, 4, 400)] + 0.1 * random.normal(size=(400, D))
  find = jax.jit(functools.partial(codebooks.k_means, num_codes=12))
  found = np.asarray(find(jax.random.key(0), x))
  distances = np.linalg.norm(centres[:, None] - found, axis=-1)
  assert (distances.min(axis=1) < 0.2).all()
  # Every centre with members is their mean, up to the last round.
  codes = nearest(found, x)
  found_error, true_error = (
    np.mean(np.sum((x - chosen) ** 2, axis=1))
    for chosen in (found[codes], centres[nearest(centres, x)])
  )
  assert found_error < true_error


def test_k_means_of_fewer_vectors_than_centres_repeats_them():
  x = drawn(3, D)
  found = np.asarray(codebooks.k_means(jax.random.key(0), jnp.asarray(x), 8))
  np.testing.assert_allclose(x[nearest(x, found)], found, rtol=1e-12)
