"""Which states the hook saves, and which checkpoints stay."""

from fake_run import FAILURE
from fake_run import moment
from fake_run import NUM_STEPS
from fake_run import Run
import jax
import jax.numpy as jnp
import pytest

from common_flax.errors import TrainingFailedError
from common_flax.training import hooks
from common_flax.workdir.checkpoints import CheckpointStore


def checkpointing(run):
  return hooks.Checkpoints(lambda state: {'half': state / 2}, run.config)


@pytest.fixture
def run(tmp_path):
  """A run that keeps one checkpoint."""
  run = Run()
  with CheckpointStore(tmp_path / 'checkpoints', 1) as run.checkpoints:
    yield run


def test_the_best_checkpoint_is_kept_beside_the_newest(run):
  checkpoints = checkpointing(run)
  for step, fid in ((4, 5.0), (8, 1.0), (12, 3.0), (16, None), (20, 2.0)):
    run.record.scalars(step, {'fid': fid})
    checkpoints(moment(run, step))
  assert run.checkpoints.steps() == [8, 20]


def test_without_scores_the_newest_checkpoint_is_kept(run):
  checkpoints = checkpointing(run)
  for step in (4, 8, 12):
    checkpoints(moment(run, step))
  run.checkpoints.wait()
  assert run.checkpoints.steps() == [12]
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.ShapeDtypeStruct((), jnp.float32, sharding=one)
  for item, value in (('state', 12), ('half', 6)):
    assert run.checkpoints.restore(12, item, abstract) == value
  assert run.checkpoints.info(12) == run.info


def test_checkpoints_are_saved_when_due_and_at_the_last_step(run):
  checkpoints, saved = checkpointing(run), []
  run.checkpoints.save = lambda step, *unused: saved.append(step)
  checkpoints(moment(run, 0, is_start=True))
  for step in range(1, 10):
    checkpoints(moment(run, step, is_stopped=step == 9))
  assert saved == [4, 8, 9]


@pytest.mark.parametrize('wrong', ['not finite', 'failing'])
def test_a_state_that_is_no_good_is_not_saved(run, wrong):
  now = moment(run, NUM_STEPS)
  now.is_finite = wrong != 'not finite'
  now.failure = FAILURE if wrong == 'failing' else None
  checkpointing(run)(now)
  assert run.checkpoints.steps() == []


def test_a_run_goes_on_without_a_checkpoint_but_does_not_end_so(run):
  run.config.on_save_error = 'warn'
  checkpoints = checkpointing(run)
  save = run.checkpoints.save

  def fail(*unused):
    raise OSError(28, 'No space left on device')

  run.checkpoints.save = fail
  checkpoints(moment(run, 4))
  (line,) = run.said
  assert 'the checkpoint of step 4 cannot be written: No space left' in line
  run.checkpoints.save = save
  checkpoints(moment(run, 8))
  run.checkpoints.save = fail
  with pytest.raises(TrainingFailedError, match='step 20 is done but could'):
    checkpoints(moment(run, NUM_STEPS))
  assert run.checkpoints.steps() == [8]


@pytest.mark.parametrize(
  ('saved', 'left'),
  [
    ([], 'There is no checkpoint to resume from'),
    ([4, 8], 'The newest checkpoint is that of step 8'),
  ],
)
def test_a_full_disk_ends_a_run_and_says_what_is_left(run, saved, left):
  checkpoints = checkpointing(run)
  for step in saved:
    checkpoints(moment(run, step))

  def fail(*unused):
    raise OSError(28, 'No space left on device')

  run.checkpoints.save = fail
  with pytest.raises(TrainingFailedError) as raised:
    checkpoints(moment(run, 12))
  assert str(raised.value) == (
    'step 12: the checkpoint of step 12 cannot be written: No space left on '
    f'device. {left}'
  )
