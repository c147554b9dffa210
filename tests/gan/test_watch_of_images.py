"""The watch's laws for images, on runs that were recorded and made-up ones.

`watched_runs.json` holds the metrics of small runs of `benchmarks.watch`, some
of them broken on purpose: by name, what the watch knew of the run, and its
metrics at each report.
"""

import json
import pathlib
import runpy

import numpy as np
import pytest

from common_flax.config import flatten
from gan_flax import config as gan_config
from gan_flax import watch
from gan_flax.watch import advice
from gan_flax.watch import judgement

RECORDED = json.loads(
  (pathlib.Path(__file__).parent / 'watched_runs.json').read_text()
)


def rows_of(run):
  """The rows of metrics.jsonl."""
  columns = run['metrics']
  return [
    dict(zip(columns, values, strict=True))
    for values in zip(*columns.values(), strict=True)
  ]


def config_with(**changes):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(changes)
  return config


def spoken(run):
  """The step at which the watch speaks first, and what it says."""
  rows = rows_of(run)
  suspects = advice.suspects(config_with(**run['changes']))
  for i, row in enumerate(rows):
    warning = judgement.judge(
      rows[: i + 1],
      is_classifier=run['is_classifier'],
      data_fault=run['data_fault'],
      suspects=suspects,
    ).warning
    if warning:
      return row['step'], warning
  return None, ''


@pytest.mark.parametrize(
  'name', [name for name in RECORDED if name.startswith('broken')]
)
def test_the_watch_speaks_of_a_broken_run_and_names_its_cause(name):
  run = RECORDED[name]
  step, warning = spoken(run)
  assert step == run['speaks_at'] <= 1000
  assert run['cure'] in warning
  assert '\n' not in warning


@pytest.mark.parametrize(
  'name', [name for name in RECORDED if name.startswith('healthy')]
)
def test_the_watch_is_silent_about_a_healthy_run(name):
  assert spoken(RECORDED[name]) == (None, '')


@pytest.mark.parametrize('name', RECORDED)
def test_rows_of_older_versions_are_judged_by_older_laws(name):
  """Without `mismatch`, as for points."""
  run = RECORDED[name]
  if run['data_fault']:
    return
  columns = {k: v for k, v in run['metrics'].items() if k != 'mismatch'}
  _, warning = spoken(run | {'metrics': columns})
  assert not any(
    words in warning for words in ('loses', 'noisy', 'unlike', 'ignores')
  )


GOOD = {
  'd_loss': 1.0,
  'g_loss': 1.0,
  'd_accuracy': 0.8,
  'diversity': 1.0,
  'mismatch': 0.02,
  'roughness': 1.0,
  'class_diversity': 1.0,
}


def judged(*steps, before=1.0, **changes):
  """The verdict on good rows with some values changed.

  Args:
    steps: of the rows, but for one that comes before three of them.
    before: its factor on `mismatch`.
    changes: values in all rows.
  """
  # Another diversity, so that the samples have not stood still.
  first = {'step': steps[0] - 500, **GOOD, **changes, 'diversity': 0.8}
  first['mismatch'] = first['mismatch'] and before * first['mismatch']
  rows = [first, *({'step': step, **GOOD, **changes} for step in steps)]
  if len(steps) < judgement._NUM_REPORTS or first['step'] <= 0:
    del rows[0]
  return judgement.judge(rows, is_classifier=True)


@pytest.mark.parametrize(
  ('changes', 'words', 'step'),
  [
    ({'g_loss': judgement._EXPLODED + 1}, 'the losses have exploded', 200),
    (
      {
        'd_accuracy': judgement._LOSING - 0.01,
        'mismatch': judgement._ALIKE + 0.01,
      },
      'the discriminator loses',
      200,
    ),
    (
      {'roughness': judgement._NOISY[1] + 0.1},
      'samples are noisy',
      judgement._NOISY[0],
    ),
    (
      {'class_diversity': judgement._DEADLINES[-1][1] - 0.01},
      'the generator ignores its latents',
      judgement._DEADLINES[-1][0],
    ),
    (
      {'mismatch': judgement._UNLIKE[1] + 0.01},
      'the discriminator tells them apart',
      judgement._UNLIKE[0],
    ),
    (
      {'mismatch': judgement._UNLIKE[1] + 0.01, 'd_accuracy': 0.5},
      'the discriminator hardly tells them apart',
      judgement._UNLIKE[0],
    ),
  ],
)
def test_laws_for_images_need_three_reports_and_time(changes, words, step):
  steps = (step - 100, step - 50, step)
  verdict = judged(*steps, **changes)
  assert words in verdict.warning
  assert not verdict.is_healthy
  assert judged(*steps) == (None, True)
  assert judged(*steps[1:], **changes).warning is None
  assert judged(*(s - 1 for s in steps), **changes).warning is None


def test_images_that_become_more_like_real_ones_are_given_time():
  steps = (800, 900, 1000)
  changes = {'mismatch': judgement._UNLIKE[1] + 0.01}
  assert judged(*steps, before=1.0, **changes).warning
  assert judged(*steps, before=1.2, **changes) == (None, False)


@pytest.mark.parametrize(
  'changes',
  [
    {'roughness': judgement._NOISY[1] + 0.1},
    {'mismatch': judgement._UNLIKE[1] + 0.01},
  ],
)
def test_a_rollback_does_not_go_back_to_noise_or_strange_images(changes):
  assert judged(100, **changes) == (None, False)
  assert judged(100) == (None, True)


def test_samples_that_never_change_do_not_learn():
  far = {'mismatch': 0.5, 'diversity': 0.15}
  rows = [{'step': step, **GOOD, **far} for step in range(100, 601, 100)]
  warning = judgement.judge(rows, is_classifier=True).warning
  assert 'the generator hardly learns' in warning
  assert judgement.judge(rows[:4], is_classifier=True).warning is None
  for name, value in (('mismatch', 0.52), ('diversity', 0.18)):
    changed = [*rows[:2], {**rows[2], name: value}, *rows[3:]]
    assert judgement.judge(changed, is_classifier=True).warning is None
  near = [{**row, 'mismatch': 0.02} for row in rows]
  assert judgement.judge(near, is_classifier=True).warning is None


@pytest.mark.parametrize(
  'name', ['d_accuracy', 'mismatch', 'roughness', 'class_diversity']
)
def test_unknown_numbers_prevent_a_verdict_on_images(name):
  assert judged(900, 950, 1000, **{name: None}) == (None, True)


def test_frequent_reports_are_judged_over_as_many_steps_as_rare_ones():
  """A few steps of small batches say little about the discriminator."""
  steps = range(10, 1001, 10)
  rows = [{'step': step, **GOOD} for step in steps]
  for row in rows[-3:]:
    row['d_accuracy'] = 0.1
  assert judgement.judge(rows, is_classifier=True) == (None, True)
  for row in rows[-20:]:
    row |= {'d_accuracy': 0.35, 'mismatch': 0.1}
  warning = judgement.judge(rows, is_classifier=True).warning
  assert 'the discriminator loses' in warning


def test_a_discriminator_may_be_confused_by_samples_that_look_real():
  confused = {'d_accuracy': judgement._LOSING - 0.01}
  steps = (400, 450, 500)
  assert judged(*steps, **confused) == (None, True)
  noise = {'roughness': judgement._NOISY[1] + 0.1}
  assert 'loses' in judged(*steps, **confused, **noise).warning


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({}, None),
    (
      {'generator.learning_rate': 2e-2},
      'a lower generator.learning_rate (0.02 is very high)',
    ),
    (
      {'discriminator.learning_rate': 1e-7},
      'a higher discriminator.learning_rate (1e-07 is very low)',
    ),
    ({'generator.b1': 0.99}, 'a lower generator.b1 (0.99 is very high)'),
    (
      {'penalty.max_weight': 1e-5},
      'a higher penalty.max_weight (1e-05 is very low)',
    ),
    ({'penalty.r1': 1e5}, 'a lower penalty.r1 (100000 is very high)'),
    ({'discriminator_steps': 20}, 'a lower discriminator_steps'),
    ({'model.generator_norm': 'none'}, "model.generator_norm='batch'"),
    (
      {'batch_size': 8, 'model.packing': 8},
      'a higher batch_size / model.packing (1 is very low)',
    ),
  ],
)
def test_settings_out_of_all_proportion_are_suspects(changes, words):
  found = advice.suspects(config_with(**changes))
  assert [remedy.words for remedy in found] == ([words] if words else []) or (
    len(found) == 1 and found[0].words.startswith(words)
  )


def test_the_settings_of_all_recipes_are_usual():
  """But for ring.py:fragile, which is meant to fail."""
  folder = pathlib.Path(__file__).parents[2] / 'configs'
  for recipe in folder.glob('*.py'):
    config = runpy.run_path(str(recipe))['get_config']()
    if 'generator' in flatten(config) or hasattr(config, 'generator'):
      assert advice.suspects(config) == (), recipe


def test_suspects_replace_the_remedies_of_the_same_field():
  suspect = advice.Remedy('a', 'a higher a (1 is very low)')
  remedies = [advice.Remedy('b', 'b'), advice.Remedy('a', 'a lower a')]
  assert advice.advise([suspect], remedies) == (
    'Try a higher a (1 is very low), or b.'
  )
  assert advice.advise([], remedies) == 'Try b, or a lower a.'
  assert advice.advise([], remedies[:1]) == 'Try b.'


def test_data_that_no_gan_can_learn_is_a_fault():
  images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), np.uint8)
  assert watch.data_fault(images, 0.1) is None
  assert watch.data_fault(images[:5].repeat(4, axis=0), 0.1) is None  # few
  repeated = images[:9].repeat(12, axis=0)
  assert 'copies of 9,' in watch.data_fault(repeated, 0.1)
  assert 'single colour' in watch.data_fault(images, 0.0)
  verdict = judgement.judge(
    [{'step': 1, **GOOD}], is_classifier=True, data_fault='bad data'
  )
  assert verdict == ('bad data', False)
