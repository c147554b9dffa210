"""A run that hooks may be called with, which notes what they write."""

import contextlib
import types

import jax.numpy as jnp
from ml_collections import ConfigDict

from common_flax.training.health import Failure
from common_flax.training.loop import Moment
from common_flax.training.meter import Meter

NUM_STEPS = 20
FAILURE = Failure('it fails.', 'stop', 0, 'on_failure')


class Record:
  """Notes what is written."""

  def __init__(self):
    self.rows = []
    self.pictures = []
    self.calls = []

  def scalars(self, step, values):
    self.rows.append({'step': step, **values})

  def curves(self, panels):
    self.calls.append('curves')

  def picture(self, step, picture):
    self.pictures.append((step, picture))

  def gif(self):
    self.calls.append('gif')

  @contextlib.contextmanager
  def trace(self):
    self.calls.append('traces')
    yield
    self.calls.append('traced')


class Run:
  """As much of a run as hooks use."""

  def __init__(self, is_first_process=True, num_seeds=1, **changes):
    self.info = {'num_examples': 3}
    self.kind_of_examples = 'images'
    self.config = ConfigDict(
      {
        'num_steps': NUM_STEPS,
        'steps_per_call': 1,
        'log_every_steps': 2,
        'on_save_error': 'stop',
        'checkpoint_every_steps': 4,
        'evaluation_metrics': ('fid',),
        **changes,
      }
    )
    self.is_first_process = is_first_process
    self.record = Record()
    self.parallel = types.SimpleNamespace(local=lambda x: x, gather=lambda x: x)
    self.said, self.shown, self.pictured = [], [], []
    self.progress = types.SimpleNamespace(
      say=self.said.append,
      report=lambda *shown: self.shown.append(shown),
      picture=lambda step, unused_picture: self.pictured.append(step),
    )
    self.checkpoints = types.SimpleNamespace(whole_steps=list)
    self.exits = []
    self.at_exit = self.exits.append
    self._num_seeds = num_seeds

  def members(self, state):
    for i in range(self._num_seeds):
      yield i, state if self._num_seeds == 1 else state[i]

  def rates(self, seconds):
    return {'images_per_second': 8 / seconds}


def moment(run, step, state=None, **flags):
  state = jnp.float32(step) if state is None else state
  return Moment(run, step, state, Meter(run.parallel.local), **flags)
