"""Evaluation of image GANs, in training and of all checkpoints."""

import functools
import json
import shutil

from conftest import read_metrics
from conftest import recipe
from conftest import saved_steps
import numpy as np
import PIL.Image
import pytest

from common_flax.errors import UserError
from common_flax.evaluation import report as report_lib
from common_flax.evaluation.protocol import Scores
from common_flax.evaluation.reference_sets import ReferenceSet
from common_flax.evaluation.selection import best_step
from gan_flax import evaluate
from gan_flax import sample
from gan_flax.train import train

EVERY = 2
CHANGES = {
  'log_every_steps': EVERY,
  'checkpoint_every_steps': EVERY,
  'sample_every_steps': 100,
  'evaluate_every_steps': EVERY,
  'evaluation_metrics': ('fid', 'recall'),
  'evaluation_features': 'random',
  'evaluation_num_samples': 70,
  'keep_checkpoints': 2,
}


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def smoke(**changes):
  config = recipe('dcgan.py', 'smoke')
  config.update(CHANGES | changes)
  return config


@pytest.fixture(scope='module')
def scored_run(tmp_path_factory):
  """The workdir of a run that was scored in training."""
  workdir = tmp_path_factory.mktemp('scored_run') / 'run'
  train(smoke(num_steps=8), workdir)
  return workdir


def test_samples_are_scored_in_training(scored_run):
  rows = read_metrics(scored_run)
  assert [row['step'] for row in rows] == [2, 4, 6, 8]
  assert all(row['fid'] > 0 and 0 <= row['recall'] <= 1 for row in rows)


@pytest.mark.slow
def test_an_interrupted_run_has_the_same_scores(scored_run, tmp_path):
  train(smoke(num_steps=4), tmp_path)
  train(smoke(num_steps=8), tmp_path)
  for row, again in zip(
    read_metrics(scored_run), read_metrics(tmp_path), strict=True
  ):
    assert (row['fid'], row['recall']) == (again['fid'], again['recall'])


@pytest.mark.parametrize(
  ('metrics', 'scores', 'expected'),
  [
    slow(('fid',), [5, 3, 4, 6, 7], [4, 8, 10]),
    slow(('recall',), [0.5, 0.3, 0.4, 0.1, 0.1], [2, 8, 10]),
    slow(('fid',), [5, 4, 3, 2, 1], [8, 10]),
    slow(('fid',), [np.nan, 3, 3, np.inf, 4], [4, 8, 10]),
  ],
)
def test_the_best_checkpoint_is_kept_beside_the_newest(
  tmp_path, monkeypatch, metrics, scores, expected
):
  scores = iter(scores)

  def score(self, samples):
    assert samples.shape == (70, 16, 16, 1)
    assert samples.dtype == np.uint8
    return Scores({metrics[0]: next(scores)})

  monkeypatch.setattr(ReferenceSet, 'score', score)
  config = smoke(evaluation_metrics=metrics)
  config.num_steps = 6
  train(config, tmp_path)
  config.num_steps = 10  # a resumed run still knows the best checkpoint
  train(config, tmp_path)
  assert saved_steps(tmp_path) == expected


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'evaluate_every_steps': 3}, 'config.evaluate_every_steps'),
    ({'evaluate_every_steps': -2}, 'config.evaluate_every_steps'),
    ({'evaluation_metrics': ('fib',)}, 'config.evaluation_metrics'),
    ({'evaluation_metrics': ('nearest',)}, 'config.evaluation_metrics'),
    ({'evaluation_metrics': ()}, 'config.evaluation_metrics'),
    ({'evaluation_features': 'vgg'}, 'config.evaluation_features'),
    ({'evaluation_resize': 'none'}, 'config.evaluation_resize'),
    ({'evaluation_num_samples': 3}, 'recall: needs 6'),
    ({'evaluation_inception_weights': 'nosuch.pth'}, 'nosuch.pth'),
  ],
)
def test_evaluation_settings_that_cannot_work_are_refused(
  tmp_path, changes, words
):
  config = smoke(num_steps=8)
  if 'evaluation_inception_weights' in changes:
    config.evaluation_features = 'auto'
  config.update(changes)
  with pytest.raises(UserError, match=words):
    train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('num_seeds', 'words'),
  [(1, 'only images can be scored'), (2, 'needs a single run')],
)
def test_scoring_points_in_training_is_refused(tmp_path, num_seeds, words):
  config = recipe('ring.py', 'smoke')
  config.num_seeds = num_seeds
  config.evaluate_every_steps = 1000
  config.log_every_steps = config.checkpoint_every_steps = 1000
  match = rf'config\.evaluate_every_steps=1000: .*{words}'
  with pytest.raises(UserError, match=match):
    train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.fixture(scope='module')
def evaluated(scored_run, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('evaluated') / 'run'
  shutil.copytree(scored_run, workdir)
  assert run(workdir, '--all_checkpoints') == 0
  return workdir


def run(workdir, *arguments):
  return evaluate.main(
    [
      'evaluate',
      f'--workdir={workdir}',
      '--features=random',
      '--num_samples=100',
      '--metrics=fid,precision,nearest,sliced_wasserstein',
      *arguments,
    ]
  )


def report(workdir):
  return json.loads((workdir / 'evaluation.json').read_text())


def test_every_checkpoint_is_measured(evaluated):
  found = report(evaluated)
  provenance = found['provenance']
  rows = provenance['checkpoints']
  assert [row['step'] for row in rows] == saved_steps(evaluated)
  assert rows[-1]['fid'] == found['fid']
  assert provenance['checkpoint_step'] == 8
  best = min(rows, key=lambda row: row['fid'])
  assert provenance['best_step'] == best['step']
  for name in ('evaluation.png', 'nearest.png'):
    with PIL.Image.open(evaluated / name) as picture:
      assert np.asarray(picture).std() > 5


def test_a_checkpoint_may_be_chosen(evaluated, capfd, tmp_path):
  rows = report(evaluated)['provenance']['checkpoints']
  step = rows[0]['step']
  assert run(evaluated, f'--step={step}') == 0
  assert report(evaluated)['fid'] == rows[0]['fid']
  assert report(evaluated)['provenance']['checkpoint_step'] == step
  output = tmp_path / 'samples.npz'
  arguments = [f'--workdir={evaluated}', f'--output={output}', f'--step={step}']
  assert sample.main(['sample', *arguments]) == 0
  assert f'of step {step}' in capfd.readouterr().out
  assert run(evaluated, '--step=1') == 2
  error = capfd.readouterr().err
  assert error.startswith('error: --step=1: ')
  assert error.count('\n') == 1


def test_provenance_is_stored_beside_the_numbers(evaluated):
  assert run(evaluated) == 0
  found = report(evaluated)
  provenance = found.pop('provenance')
  assert provenance['features'] == 'random'
  assert provenance['num_samples'] == provenance['num_baseline'] == 100
  assert provenance['num_real'] == 297
  assert provenance['num_train'] == 1500
  assert provenance['split'] == 'test'
  assert provenance['num_neighbours'] == 5
  assert provenance['num_projections'] == 512
  assert found['real_fid'] < found['fid']
  assert found['real_nearest_train_ratio'] == 1
  assert found['real_memorised_share'] == pytest.approx(0.01, abs=0.005)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(evaluated):
  results = []
  for seed in (0, 0, 1):
    assert run(evaluated, f'--seed={seed}') == 0
    results.append(report(evaluated)['fid'])
  assert results[0] == results[1] != results[2]


@pytest.mark.slow
def test_evaluating_a_diverged_run_is_refused(scored_run, tmp_path, capfd):
  config = recipe('dcgan.py', 'smoke')
  config.num_steps = 2
  config.generator.learning_rate = 1e38
  config.discriminator.learning_rate = 1e38
  config.ema_decay = 0.0
  config.on_nan = 'warn'
  train(config, tmp_path / 'run')
  assert run(tmp_path / 'run') == 2
  error = capfd.readouterr().err
  assert 'are not finite' in error
  assert error.count('\n') == 1


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--metrics=fid,fib'], '--metrics=fib'),
    (['--metrics=kid', '--num_samples=1'], 'kid: needs 2'),
    (['--split=nosuch'], 'nosuch'),
    (['--features=inception', '--inception_weights=README.md'], 'README.md'),
    (['--all_checkpoints', '--step=2'], '--step'),
  ],
)
def test_wrong_arguments_of_evaluation_are_refused(
  scored_run, capfd, arguments, words
):
  assert run(scored_run, *arguments) == 2
  error = capfd.readouterr().err
  assert words in error
  assert error.count('\n') == 1
  assert not (scored_run / 'evaluation.json').exists()


@pytest.mark.parametrize(
  ('named', 'criterion'),
  [
    ([], 'nll_nats'),
    (['recall', 'fid'], 'recall'),
    (['nearest'], 'nearest_train_ratio'),
    (['likelihood', 'fid'], 'nll_nats'),
    (['inception_score', 'fid'], 'nll_nats'),  # the features have no classes
  ],
)
def test_checkpoints_are_compared_by_the_first_metric_named(named, criterion):
  metrics = {'nll_nats': 1.0, 'fid': 2.0, 'recall': 0.5, 'kl_nats': 3.0}
  metrics['nearest_train_ratio'] = 1.0
  assert report_lib._criterion(named, metrics) == criterion


def test_a_metric_without_a_best_value_has_no_best_step():
  assert best_step({2: 1.0, 4: 0.5}, 'kl_nats') is None


def test_the_first_of_equal_scores_is_the_best():
  assert best_step({2: 1.0, 4: 0.5, 6: 0.5}, 'fid') == 4
  assert best_step({2: 1.0, 4: 0.5, 6: 1.0}, 'recall') == 2
  assert best_step({2: None, 4: float('nan')}, 'fid') is None


def test_a_table_of_many_metrics_has_a_row_each(capsys, monkeypatch):
  monkeypatch.setenv('COLUMNS', '100')
  metrics = {'fid': 3.25, 'real_fid': 0.5, 'by_class': [1, 2], 'precision': 1}
  report_lib.print_metrics(metrics, 'Title')
  printed = capsys.readouterr().out
  assert 'Title' in printed
  assert 'by class' not in printed
  (line,) = (line for line in printed.splitlines() if 'fid' in line)
  assert line.split()[1::2] == ['fid', '3.250', '0.500']
