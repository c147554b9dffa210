"""Where a run goes back to."""

from common_flax.alarms import last_healthy
from common_flax.alarms import Verdict

ROWS = [{'step': step, 'good': good} for step, good in ((2, 1), (4, 1), (6, 0))]


def judge(rows):
  return Verdict(is_healthy=rows[-1]['good'] == 1)


def test_the_newest_healthy_checkpoint_is_taken():
  assert last_healthy([2, 4, 6], ROWS, judge) == 4
  assert last_healthy([6, 2], ROWS, judge) == 2


def test_a_checkpoint_is_judged_by_what_was_known_then():
  assert last_healthy([5, 6], ROWS, judge) == 5
  seen = []

  def note(rows):
    seen.append([row['step'] for row in rows])
    return Verdict(is_healthy=False)

  assert last_healthy([3, 6], ROWS, note) is None
  assert seen == [[2, 4, 6], [2]]


def test_there_may_be_none():
  assert last_healthy([], ROWS, judge) is None
  assert last_healthy([6], ROWS, judge) is None
  assert last_healthy([1], ROWS, judge) is None  # before the first report
