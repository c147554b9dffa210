"""Judges a GAN in training by its metrics.

A generator has collapsed when it gives nearly the same sample for every z
(UDL 15.1.4). A discriminator is dead when it is always right or always wrong:
either way the generator learns nothing from it. Samples of images must also
come to resemble real ones, which their variety alone does not show.
"""

from collections.abc import Sequence
import math

import numpy as np

from common_flax.training.health import Row
from common_flax.training.health import Verdict
from gan_flax.watch.advice import advise
from gan_flax.watch.advice import Remedy

_HEALTHY = (0.5, 2.0)  # healthy range of `diversity`
_COLLAPSED = 0.35  # below this, a run that was healthy has collapsed
_SCATTERED = 4.0  # above this, samples have diverged
_NUM_LOW = 2  # consecutive low reports that make a collapse
_NUM_REPORTS = 3  # needed to judge a run that was never healthy
# (step, diversity): the generator must reach this diversity by this step.
_DEADLINES = ((500, 0.1), (1000, 0.25))
# A discriminator is dead if, in the last reports, its loss stays below _WON or
# it ranks real above generated in less than _LOST of the pairs.
_WON = 0.01  # nats; at chance the loss is 2 log 2
_LOST = 0.02

# Laws for images. They need reports over _NUM_STEPS, because a few steps of
# small batches vary too much.
_NUM_STEPS = 200
_EXPLODED = 100.0  # nats; `d_loss` and `g_loss` of a probability
_LOSING = 0.4  # `d_accuracy`; 0.5 is chance
_ALIKE = 0.05  # `mismatch`; below it a discriminator may well be confused
_NOISY = (500, 5.0)  # by this step `roughness` must be below the number
# And `mismatch`, unless it is still falling: below a share of what it was some
# steps before.
_UNLIKE = (900, 0.25)
_FALLING = (300, 0.9)
_BLIND_BELOW = 0.65  # `d_accuracy` of a discriminator that hardly sees

# Until this step, neither has `mismatch` changed by more, nor `diversity` by
# more than this factor.
_STILL = (500, 0.01, 1.1)
_TINY = 1e-9

_LOWER_G = Remedy('generator.learning_rate', 'a lower generator.learning_rate')
_HIGHER_G = Remedy(
  'generator.learning_rate', 'a higher generator.learning_rate'
)
_LOWER_D = Remedy(
  'discriminator.learning_rate', 'a lower discriminator.learning_rate'
)
_HIGHER_D = Remedy(
  'discriminator.learning_rate', 'a higher discriminator.learning_rate'
)
_DEVIATION = Remedy(
  'model.minibatch_deviation', 'model.minibatch_deviation=True'
)
_PACKING = Remedy('model.packing', 'model.packing=2')
_RELATIVISTIC = Remedy(
  'loss.name', "loss.name='relativistic' with penalty.r1 and penalty.r2"
)
_CLIPPED = Remedy('max_grad_norm', 'a max_grad_norm')
_SPECTRAL = Remedy('model.spectral_norm', 'model.spectral_norm=True')
_AUGMENTED = Remedy('augmentation', 'augmentation')
_R1 = Remedy('penalty.r1', 'penalty.r1')
_MORE_STEPS = Remedy('discriminator_steps', 'more discriminator_steps')
_SAME_Z = Remedy('model.conditioning', "model.conditioning='projection'")

_COLLAPSE = (
  'mode collapse: samples differ {:.2f} times as much as real examples do.',
  (_LOWER_G, _DEVIATION, _PACKING, _RELATIVISTIC),
)
_IGNORED = (
  'the generator ignores its latents: samples of a class differ {:.2f} times '
  'as much as real examples of a class do.',
  (_LOWER_G, _R1, _SAME_Z),
)
_SCATTER = (
  'the generator has diverged: samples differ {:.1f} times as much as real '
  'examples do.',
  (_LOWER_G, _LOWER_D, _CLIPPED),
)
_WINNING = (
  'the discriminator is never wrong (its loss is {:.4f}), and the generator no '
  'longer learns from it.',
  (_LOWER_D, _SPECTRAL, _AUGMENTED, _R1),
)
_DEAD = (
  'the discriminator is dead: it rates {:.0%} of the samples as more real than '
  'real examples.',
  (_HIGHER_D, _MORE_STEPS, _LOWER_G),
)
_LOSES = (
  'the discriminator loses: it rates {:.0%} of the samples as more real than '
  'real examples, so the generator follows a wrong lead.',
  (_LOWER_G, _HIGHER_D, _MORE_STEPS),
)
_EXPLOSION = (
  'the losses have exploded: that of the discriminator or the generator is '
  '{:.3g} nats.',
  (_LOWER_D, _LOWER_G, _CLIPPED),
)
_NOISE = (
  'samples are noisy: they have {:.0f} times the fine detail of real images.',
  (_LOWER_G, _LOWER_D, _R1),
)
_STANDS = (
  'the generator hardly learns: samples are unlike real images (their mismatch '
  'is {:.2f}, and 0 is ideal) and have been the same from the start.',
  (_HIGHER_G, _LOWER_D, _SPECTRAL),
)
_STRANGE = (
  'samples are still unlike real images (their mismatch is {:.2f}, and 0 is '
  'ideal), and the discriminator tells them apart.',
  (_HIGHER_G, _LOWER_D, _SPECTRAL, _R1),
)
_BLIND = (
  'samples are still unlike real images (their mismatch is {:.2f}, and 0 is '
  'ideal), and the discriminator hardly tells them apart.',
  (_HIGHER_D, _LOWER_G),
)


def judge(
  rows: Sequence[Row],
  *,
  is_classifier: bool,
  data_fault: str | None = None,
  suspects: Sequence[Remedy] = (),
) -> Verdict:
  """Judges a run by its metrics.

  Args:
    rows: the rows of metrics.jsonl, ordered by step. Rows without `mismatch`,
      of points or of an older version, are not judged by the laws for images.
    is_classifier: whether the discriminator returns a probability. A critic
      returns a score, and the generator may learn from one that is never wrong.
    data_fault: why no GAN can learn from the training data, if so.
    suspects: remedies that come before those of the failure.
  """
  if data_fault:
    return Verdict(data_fault, is_healthy=False)
  # With several seeds, the worst one is judged.
  lowest = 'diversity_lowest' if 'diversity_lowest' in rows[-1] else 'diversity'
  diversities = [_known(row, lowest) for row in rows]
  failure = (
    _judge_progress(rows)
    or _judge_diversity(rows, diversities)
    or _judge_discriminator(rows, is_classifier)
    or _judge_images(rows, is_classifier)
  )
  if failure:
    (words, remedies), value = failure
    warning = f'{words.format(value)} {advise(suspects, remedies)}'
    return Verdict(warning, is_healthy=False)
  is_varied = _HEALTHY[0] <= diversities[-1] <= _HEALTHY[1]
  is_strange = (
    _known(rows[-1], 'roughness') > _NOISY[1]
    or _known(rows[-1], 'mismatch') > _UNLIKE[1]
  )  # False for points
  return Verdict(is_healthy=is_varied and not is_strange)


_Failure = tuple[tuple[str, tuple[Remedy, ...]], float]


def _judge_diversity(
  rows: Sequence[Row], diversities: Sequence[float]
) -> _Failure | None:
  now = diversities[-1]
  if now > _SCATTERED:
    return _SCATTER, now
  floors = [
    floor
    for num_steps, floor in _DEADLINES
    if len(rows) >= _NUM_REPORTS and rows[-1]['step'] >= num_steps
  ]
  if any(value >= _HEALTHY[0] for value in diversities):
    floors.append(_COLLAPSED)
  # A single low report may be an outlier.
  latest = diversities[-_NUM_LOW:]
  if any(np.max(latest) < floor for floor in floors):  # False for NaN
    return _COLLAPSE, now
  return None


def _judge_discriminator(
  rows: Sequence[Row], is_classifier: bool
) -> _Failure | None:
  rows = rows[-_NUM_REPORTS:]
  if len(rows) < _NUM_REPORTS:
    return None
  loss = _largest(rows, 'd_loss')
  if is_classifier and loss < _WON:
    return _WINNING, loss
  share = _largest(rows, 'd_accuracy')
  if share < _LOST:
    return _DEAD, 1 - share
  return None


def _judge_progress(rows: Sequence[Row]) -> _Failure | None:
  """Whether images far from real ones have been the same in all reports."""
  if rows[-1]['step'] < _STILL[0] or len(rows) < _NUM_REPORTS:
    return None
  mismatch = _smallest(rows, 'mismatch')  # NaN for points: all tests fail
  drift = _largest(rows, 'mismatch') - mismatch
  growth = _largest(rows, 'diversity') / max(
    _smallest(rows, 'diversity'), _TINY
  )
  if mismatch > _UNLIKE[1] and drift < _STILL[1] and growth < _STILL[2]:
    return _STANDS, mismatch
  return None


def _judge_images(rows: Sequence[Row], is_classifier: bool) -> _Failure | None:
  """The laws for images, on the reports of the last _NUM_STEPS steps or more.

  Means of `d_accuracy` are taken, because one of few steps says little.
  """
  step = rows[-1]['step']
  recent = [row for row in rows if row['step'] > step - _NUM_STEPS]
  latest = rows[-max(_NUM_REPORTS, len(recent)) :]
  is_known = all('mismatch' in row for row in latest)
  if not is_known or len(latest) < _NUM_REPORTS or step < _NUM_STEPS:
    return None
  accuracy = float(np.mean([_known(row, 'd_accuracy') for row in latest]))
  loss = max(_smallest(latest, name) for name in ('d_loss', 'g_loss'))
  if is_classifier and loss > _EXPLODED:
    return _EXPLOSION, loss
  mismatch = _smallest(latest, 'mismatch')
  roughness = _smallest(latest, 'roughness')
  looks_real = mismatch < _ALIKE and roughness < _NOISY[1]
  if accuracy < _LOSING and not looks_real:
    return _LOSES, 1 - accuracy
  if step >= _NOISY[0] and roughness > _NOISY[1]:
    return _NOISE, roughness
  if 'class_diversity' in rows[-1]:
    within = _largest(latest, 'class_diversity')
    if step >= _DEADLINES[-1][0] and within < _DEADLINES[-1][1]:
      return _IGNORED, within
  earlier = [
    _known(row, 'mismatch') for row in rows if row['step'] <= step - _FALLING[0]
  ]
  if step < _UNLIKE[0] or not earlier or mismatch < _FALLING[1] * earlier[-1]:
    return None
  if mismatch > _UNLIKE[1]:
    return (_BLIND if accuracy < _BLIND_BELOW else _STRANGE), mismatch
  return None


def _known(row: Row, name: str) -> float:
  """A metric; NaN if it is missing or was not finite."""
  value = row.get(name)
  return math.nan if value is None else value


def _largest(rows: Sequence[Row], name: str) -> float:
  """The largest value of a metric; NaN if one of them is unknown."""
  return float(np.max([_known(row, name) for row in rows]))


def _smallest(rows: Sequence[Row], name: str) -> float:
  """The smallest value of a metric; NaN if one of them is unknown."""
  return float(np.min([_known(row, name) for row in rows]))
