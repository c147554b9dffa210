"""Images as bytes, as floats and as files."""

import io

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from common_flax import images


def test_every_byte_survives_the_round_trip():
  every = np.arange(256, dtype=np.uint8)
  for dtype in (jnp.float32, jnp.bfloat16):
    signed = images.to_signed(jnp.asarray(every), dtype)
    assert signed.min() == -1
    assert signed.max() == 1
  signed = images.to_signed(jnp.asarray(every))
  np.testing.assert_array_equal(images.from_signed(signed), every)


def test_quantising_rounds_and_clips():
  signed = jnp.array([-2.0, -1.0, 0.0, 0.003, 1.0, 7.0])
  assert images.from_signed(signed).tolist() == [0, 0, 128, 128, 255, 255]


@pytest.mark.parametrize('num', [1, 2, 5, 9, 64])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_grid_shows_every_image_in_its_place(num, channels):
  random = np.random.default_rng(0)
  pictures = random.integers(0, 256, (num, 4, 6, channels), np.uint8)
  grid = images.grid(pictures, margin=1)
  columns = int(np.ceil(np.sqrt(num)))
  for i, picture in enumerate(pictures):
    top, left = 1 + 5 * (i // columns), 1 + 7 * (i % columns)
    np.testing.assert_array_equal(grid[top : top + 4, left : left + 6], picture)
  assert (grid[0] == 128).all()
  assert (grid[-1] == 128).all()


def test_a_picture_is_written_atomically(tmp_path):
  path = tmp_path / 'x.png'
  images.write_png(path, np.full((4, 4, 3), 7, np.uint8))
  assert (np.asarray(PIL.Image.open(path)) == 7).all()
  with pytest.raises((TypeError, ValueError)):
    images.write_png(path, np.zeros((4, 4, 5), np.uint8))
  assert [p.name for p in tmp_path.iterdir()] == ['x.png']
  assert (np.asarray(PIL.Image.open(path)) == 7).all()


def test_a_gif_holds_every_frame(tmp_path):
  frames = [PIL.Image.new('L', (8, 8), 40 * i) for i in range(5)]
  images.write_gif(tmp_path / 'x.gif', frames, seconds=1)
  data = (tmp_path / 'x.gif').read_bytes()
  with PIL.Image.open(io.BytesIO(data)) as gif:
    assert gif.n_frames == 5
    assert gif.info['loop'] == 0
