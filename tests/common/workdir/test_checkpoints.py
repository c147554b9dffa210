"""Checkpoints: which are kept, restored and skipped."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.workdir import checkpoints as checkpoints_lib
from common_flax.workdir.checkpoints import CheckpointStore


@pytest.fixture
def replicated():
  return sharding.create('jit').state_sharding


def create():
  return {'a': jnp.arange(6.0).reshape(2, 3), 'step': jnp.int32(0)}


def save_steps(folder, steps, keep, replicated):
  add = jax.jit(
    lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0
  )
  state = jax.device_put(create(), replicated)
  with CheckpointStore(folder, keep) as checkpoints:
    for step in steps:
      state = add(state)
      checkpoints.save(step, {'state': state}, {'shape': [step]})
      for _ in range(3):  # what was saved is overwritten at once
        state = add(state)


def read(checkpoints, step, replicated):
  abstract = checkpoints_lib.abstract_like(create, replicated)
  return checkpoints.restore(step, 'state', abstract)


def test_the_newest_are_kept_with_their_arrays(tmp_path, replicated):
  save_steps(tmp_path / 'c', [1, 2, 5, 9], 2, replicated)
  with CheckpointStore(tmp_path / 'c') as checkpoints:
    assert checkpoints.steps() == [5, 9]
    for number, step in ((8, 5), (12, 9)):
      state = read(checkpoints, step, replicated)
      np.testing.assert_array_equal(state['a'], create()['a'] + number + 1)
      assert state['a'].sharding == replicated
      assert checkpoints.info(step) == {'shape': [step]}


def test_the_best_is_kept_at_any_age(tmp_path, replicated):
  state = jax.device_put(create(), replicated)
  with CheckpointStore(tmp_path / 'c', 2) as checkpoints:
    for step in (1, 2, 3, 4):
      checkpoints.save(step, {'state': state}, {}, best=1)
    checkpoints.wait()
    assert checkpoints.steps() == [1, 3, 4]
    checkpoints.save(5, {'state': state}, {}, best=4)
    checkpoints.wait()
    assert checkpoints.steps() == [4, 5]


def test_one_that_is_still_being_written_is_waited_for(
  tmp_path, replicated, monkeypatch
):
  write = checkpoints_lib._InfoHandler._write

  async def write_late(self, *arguments):
    time.sleep(0.3)
    await write(self, *arguments)

  monkeypatch.setattr(checkpoints_lib._InfoHandler, '_write', write_late)
  state = jax.device_put(create(), replicated)
  with CheckpointStore(tmp_path / 'c', 2) as checkpoints:
    checkpoints.save(1, {'state': state}, {'shape': [1]})
    assert checkpoints.info(1) == {'shape': [1]}
    checkpoints.save(2, {'state': state}, {'shape': [2]})
    restored = read(checkpoints, 2, replicated)
    np.testing.assert_array_equal(restored['a'], create()['a'])


def test_reading_does_not_create_the_folder(tmp_path):
  with CheckpointStore(tmp_path / 'c') as checkpoints:
    assert checkpoints.steps() == []
    with pytest.raises(UserError, match='train first'):
      checkpoints.newest(lambda step: step)
  assert not (tmp_path / 'c').exists()


def test_the_newest_undamaged_checkpoint_is_read(tmp_path, replicated, capsys):
  save_steps(tmp_path / 'c', [1, 2, 3], 3, replicated)

  def damaged_from(first):
    def read(step):
      if step >= first:
        raise OSError(f'bad\nblock {step}')
      return step * 10

    return read

  with CheckpointStore(tmp_path / 'c', 3) as checkpoints:
    assert checkpoints.newest(damaged_from(9)) == (3, 30)
    assert capsys.readouterr().out == ''
    assert checkpoints.newest(damaged_from(2)) == (1, 10)
    output = capsys.readouterr().out
    assert 'bad block 3' in output
    assert 'taking 1 instead' in output
    with pytest.raises(UserError, match=r'none of its checkpoints.*block 3'):
      checkpoints.newest(damaged_from(0))


def test_discarded_checkpoints_are_moved_aside(tmp_path, replicated):
  save_steps(tmp_path / 'c', [1, 2, 3], 3, replicated)
  state = jax.device_put(create(), replicated)
  for _ in range(2):
    with CheckpointStore(tmp_path / 'c', 3) as checkpoints:
      checkpoints.discard_after(1)
      assert checkpoints.steps() == [1]
      # A step before the discarded ones is saved again.
      checkpoints.save(2, {'state': state}, {})
    with CheckpointStore(tmp_path / 'c') as checkpoints:
      assert checkpoints.steps() == [1, 2]
  names = sorted(path.name for path in (tmp_path / 'c_discarded').iterdir())
  assert names == ['2', '2-1', '3']


class AnotherError(Exception):
  """The error that ends a run."""


def fail_later(checkpoints, monkeypatch):
  """Makes a store fail as Orbax does after a failed save in the background."""

  def fail():
    raise ValueError('RESOURCE_EXHAUSTED')

  monkeypatch.setattr(checkpoints, 'wait', fail)


def test_a_failed_save_does_not_hide_an_earlier_error(tmp_path, monkeypatch):
  with (
    pytest.raises(AnotherError),
    CheckpointStore(tmp_path / 'c', 3) as checkpoints,
  ):
    fail_later(checkpoints, monkeypatch)
    raise AnotherError


def test_a_failed_save_is_forgotten_where_it_does_not_matter(
  tmp_path, monkeypatch, replicated
):
  state = jax.device_put(create(), replicated)
  with CheckpointStore(tmp_path / 'c', 3) as checkpoints:
    with monkeypatch.context() as patch:
      fail_later(checkpoints, patch)
      checkpoints.settle()
    checkpoints.save(2, {'state': state}, {})
    checkpoints.settle()
    assert checkpoints.whole_steps() == [2]
