"""What a run writes of itself, where it fails and where it does not."""

import io
import struct

import numpy as np
import PIL.Image
import pytest
from tensorboardX.proto.event_pb2 import Event

from common_flax import writers


def fail(*unused):
  raise OSError('no space left')


def test_an_error_of_the_last_curves_is_raised(tmp_path, monkeypatch):
  monkeypatch.setattr(writers, 'write_curves', fail)
  with (
    pytest.raises(OSError, match='no space left'),
    writers.RunWriter(tmp_path, 0, {'loss': ('d_loss',)}) as writer,
  ):
    writer.scalars(1, {'d_loss': 1.0})
    writer.curves()


@pytest.mark.parametrize('channels', [1, 3])
def test_tensorboard_has_the_picture_as_it_is(tmp_path, channels):
  random = np.random.default_rng(0)
  picture = random.integers(0, 256, (6, 8, channels), np.uint8)
  with writers.RunWriter(tmp_path, 0, {}) as writer:
    writer.picture(3, picture)
  (file,) = (tmp_path / 'tensorboard').iterdir()
  (shown,) = [
    (event.step, value)
    for event in events(file.read_bytes())
    for value in event.summary.value
  ]
  step, value = shown
  assert (step, value.tag) == (3, 'samples')
  image = value.image
  assert (image.height, image.width, image.colorspace) == picture.shape
  with PIL.Image.open(io.BytesIO(image.encoded_image_string)) as decoded:
    np.testing.assert_array_equal(
      np.asarray(decoded).reshape(picture.shape), picture
    )


def events(records):
  """Of a file of TensorBoard's: each has its length before it, and sums."""
  while records:
    (length,) = struct.unpack('<Q', records[:8])
    yield Event.FromString(records[12 : 12 + length])
    records = records[12 + length + 4 :]
