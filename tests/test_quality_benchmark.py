"""The benchmark of quality in a given time."""

import json
import time

import numpy as np
import pytest

from benchmarks import quality
from benchmarks import quality_report
from gan_flax.main import main


def result(contender, seed, fid, steps=10):
  row = dict.fromkeys(('kid', 'precision', 'recall', 'density', 'coverage'), 0)
  return row | {
    'contender': contender,
    'seed': seed,
    'fid': fid,
    'steps': steps,
    'seconds': 60.0,
  }


def test_a_row_holds_each_round_and_its_ratio_to_the_first_contender():
  results = [
    result('peer', 0, 8.0),
    result('ours', 0, 2.0, steps=1000),
    result('peer', 1, 10.0),
    result('ours', 1, 5.0, steps=3000),
  ]
  peer, ours = quality_report.rows_of(results)
  assert len(peer) == len(ours) == len(quality_report.HEADER)
  assert peer[:5] == ['peer', '60', '10', '8.00 10.00', '1.00 1.00']
  assert ours[:5] == ['ours', '60', '2,000', '2.00 5.00', '0.25 0.50']


def test_a_round_may_be_unfinished():
  results = [result(name, seed, 4.0) for seed in (0, 1) for name in 'ab']
  results.append(result('a', 2, 2.0))
  first, second = quality_report.rows_of(results)
  assert first[4] == '1.00 1.00 1.00'
  assert second[4] == '1.00 1.00'


def test_a_wrong_recipe_is_refused_before_anything_is_trained(tmp_path, capsys):
  argv = ['quality', '--config.generator.b1=2.0']
  assert quality.main([*argv, f'--output={tmp_path / "new"}']) == 2
  error = capsys.readouterr().err
  assert (
    error.startswith('error: config.generator.b1') and '\n' not in error[:-1]
  )
  assert not (tmp_path / 'new').exists()


@pytest.mark.slow
def test_a_recipe_is_trained_and_scored_over_time(tmp_path, monkeypatch):
  def run(command, **unused_environment):
    began = time.time()
    argv = [x for x in command if not x.startswith('--max_minutes')]
    assert main([*argv, '--config.num_steps=60']) == 0
    return time.time() - began

  monkeypatch.setattr(quality, '_run', run)
  argv = ['quality', '--configs=configs/dcgan.py:smoke', '--nopeer']
  argv += ['--config.checkpoint_every_steps=20', '--num_samples=100']
  argv += ['--rounds=1', f'--output={tmp_path}']
  assert quality.main(argv) == 0
  (row,) = json.loads((tmp_path / 'quality.json').read_text())['results']
  seconds, fids = np.transpose(row['curve'])
  assert (np.diff(seconds) > 0).all() and len(fids) == 3
  assert fids[-1] == row['fid'] < fids[0] and row['steps'] == 60
  assert (tmp_path / 'quality.png').exists()
