"""Where a run goes back to."""

from common_flax.training.health import healthy_step
from common_flax.training.health import Verdict

ROWS = [{'step': step, 'good': good} for step, good in ((2, 1), (4, 1), (6, 0))]


def judge(rows):
  return Verdict(is_healthy=rows[-1]['good'] == 1)


def test_the_newest_healthy_checkpoint_is_taken():
  assert healthy_step([2, 4, 6], ROWS, [judge], 0) == 4
  assert healthy_step([6, 2], ROWS, [judge], 0) == 2


def test_a_checkpoint_is_judged_by_what_was_known_then():
  assert healthy_step([5, 6], ROWS, [judge], 0) == 5
  seen = []

  def note(rows):
    seen.append([row['step'] for row in rows])
    return Verdict(is_healthy=False)

  assert healthy_step([3, 6], ROWS, [note], 0) is None
  assert seen == [[2, 4, 6], [2]]


def test_there_may_be_none():
  assert healthy_step([], ROWS, [judge], 0) is None
  assert healthy_step([6], ROWS, [judge], 0) is None
  assert healthy_step([1], ROWS, [judge], 0) is None  # before the first report


def test_each_time_it_goes_one_further_back():
  assert healthy_step([2, 4, 6], ROWS, [judge], 1) == 2
  assert healthy_step([2, 4, 6], ROWS, [judge], 2) is None


def test_all_judges_have_to_agree():
  def late(rows):
    return Verdict(is_healthy=rows[-1]['step'] > 2)

  assert healthy_step([2, 4, 6], ROWS, [judge, late], 0) == 4
  assert healthy_step([2, 4, 6], ROWS, [judge, late], 1) is None
  assert healthy_step([2, 4, 6], ROWS, [], 0) == 6
