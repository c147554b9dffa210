"""The files of a run: metrics, curves, TensorBoard's events."""

import io
import struct

from ml_collections import ConfigDict
import numpy as np
import PIL.Image
import pytest
from tensorboardX import RecordWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.event_pb2 import SessionLog

from common_flax.workdir import tensorboard
from common_flax.workdir import writers


def fail(*unused):
  raise OSError('no space left')


def test_an_error_in_drawing_the_last_curves_is_raised(tmp_path, monkeypatch):
  monkeypatch.setattr(writers, 'write_curves', fail)
  with (
    pytest.raises(OSError, match='no space left'),
    writers.RunWriter(tmp_path, 0) as writer,
  ):
    writer.scalars(1, {'d_loss': 1.0})
    writer.curves({'loss': ('d_loss',)})


def test_damaged_metrics_are_counted(tmp_path, capsys):
  path = tmp_path / 'metrics.jsonl'
  rows = '{"step": 2}\n\xff\n{"step": 4}\n[]\n{"step": 3}\nx\n{"step": 6'
  path.write_text(rows, encoding='latin-1')
  with writers.RunWriter(tmp_path, 4) as writer:
    assert writer.rows == [{'step': 2}, {'step': 4}]
  assert capsys.readouterr().out == (
    f'{path}: 4 damaged lines are left out: 2, 4, 5, ...\n'
  )
  assert path.read_text() == '{"step": 2}\n{"step": 4}\n'
  assert len(writers.read_rows(tmp_path)) == 2
  assert capsys.readouterr().out == ''


def test_a_damaged_picture_is_left_out_of_the_animation(tmp_path, capsys):
  with writers.RunWriter(tmp_path, 0) as writer:
    for step in (1, 2):
      writer.picture(step, np.zeros((6, 8, 1), np.uint8))
    path = tmp_path / 'samples' / 'step_00000001.png'
    path.write_bytes(b'')
    writer.gif()
  assert (tmp_path / 'samples.gif').exists()
  output = capsys.readouterr().out
  assert output.startswith(f'{path}: cannot be read')
  assert output.endswith('left out of samples.gif.\n')


@pytest.mark.parametrize('channels', [1, 3])
def test_tensorboard_has_the_picture_unchanged(tmp_path, channels):
  random = np.random.default_rng(0)
  picture = random.integers(0, 256, (6, 8, channels), np.uint8)
  with writers.RunWriter(tmp_path, 0) as writer:
    writer.picture(3, picture)
  ((step, value),) = values(tmp_path)
  assert (step, value.tag) == (3, 'samples')
  image = value.image
  assert (image.height, image.width, image.colorspace) == picture.shape
  with PIL.Image.open(io.BytesIO(image.encoded_image_string)) as decoded:
    np.testing.assert_array_equal(
      np.asarray(decoded).reshape(picture.shape), picture
    )


def test_tensorboard_has_scalars_texts_and_finite_histograms(tmp_path):
  config = ConfigDict({'num_steps': 4, 'trackers': ('tensorboard',)})
  with writers.RunWriter(tmp_path, 0, config) as writer:
    writer.scalars(2, {'d_loss': 0.5, 'g_loss': float('nan')})
    writer.histograms(2, {'norms': np.array([1.0, np.inf, 3.0])})
    writer.histograms(2, {'nothing': np.array([np.nan])})
  (_, text), (_, loss), (step, norms) = values(tmp_path)
  assert b'"num_steps": 4' in text.tensor.string_val[0]
  assert (loss.tag, loss.simple_value) == ('d_loss', 0.5)
  assert (step, norms.tag, norms.histo.num) == (2, 'norms', 2)


def test_without_trackers_there_are_no_events(tmp_path):
  config = ConfigDict({'num_steps': 4, 'trackers': ()})
  with writers.RunWriter(tmp_path, 0, config) as writer:
    writer.scalars(2, {'d_loss': 0.5})
    writer.histograms(2, {'norms': np.array([1.0, 3.0])})
    writer.picture(2, np.zeros((6, 8, 1), np.uint8))
  assert len(writer.rows) == 1
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ['metrics.jsonl', 'samples']


def test_a_resumed_run_hides_what_tensorboard_had_beyond_its_step(tmp_path):
  for start in (0, 2):
    with writers.RunWriter(tmp_path, start) as writer:
      for step in (start + 1, start + 2, start + 3):
        writer.scalars(step, {'d_loss': 0.5})
  first, second = event_files(tmp_path)
  assert not any(e.HasField('session_log') for e in events(first))
  version, start, *_ = events(second)
  assert version.file_version == 'brain.Event:2'
  assert start.session_log.status == SessionLog.START
  assert start.step == 3


def test_a_full_disk_stops_tensorboard_but_not_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr(
    tensorboard, 'RecordWriter', lambda path: RecordWriter('/dev/full')
  )
  with writers.RunWriter(tmp_path, 0) as writer:
    for step in range(1, 2001):
      writer.scalars(step, {'d_loss': 0.5})
  assert len(writers.read_rows(tmp_path)) == 2000


def event_files(workdir):
  return sorted((workdir / 'tensorboard').iterdir())


def values(workdir):
  """Steps and values in the only file of events."""
  (file,) = event_files(workdir)
  return [
    (event.step, value)
    for event in events(file)
    for value in event.summary.value
  ]


def events(file):
  """The events of a file; each follows its length, with check sums between."""
  records = file.read_bytes()
  while records:
    (length,) = struct.unpack('<Q', records[:8])
    yield Event.FromString(records[12 : 12 + length])
    records = records[12 + length + 4 :]
