"""What the explorer shows of a VAE, apart from its page."""

import numpy as np

from vae_flax.explorer import shown


def encoded(means):
  means = np.array(means, np.float32)
  labels = np.arange(len(means), dtype=np.int32)
  return shown.Encoded(means, labels, np.array([0.5, 2.0]), None)


def test_a_click_on_the_map_finds_what_is_drawn_there():
  data = encoded([[-2, 1], [0, 4], [1, 1]])
  side = shown.MAP_SIZE
  empty = shown.draw_map(encoded([[9, 9], [0, 4]]))
  assert empty.shape == (side, side, 3)
  limit = shown.reach(data.means)
  for x, y in data.means:
    pixel = (x + limit) * side / (2 * limit), (limit - y) * side / (2 * limit)
    np.testing.assert_allclose(
      shown.place_on_map(data, *pixel), [x, y], atol=1e-5
    )
    row, column = int(pixel[1]), int(pixel[0])
    assert shown.draw_map(data)[row, column].min() < 200
  assert np.abs(shown.place_on_map(data, 1e9, -5)).max() <= limit + 1e-6


def test_latents_are_ordered_by_their_use():
  means = np.array([[0.0, 1.0, 9.0], [0.0, 2.0, 19.0]])
  encoded = shown.Encoded(means, np.zeros(2), np.array([1, 3, 2]), None)
  np.testing.assert_array_equal(shown.order_by_use(encoded), [1, 2, 0])
  # A learned prior has no divergence of one latent.
  encoded = encoded._replace(kl_nats=None)
  np.testing.assert_array_equal(shown.order_by_use(encoded), [2, 1, 0])
