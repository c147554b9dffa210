"""GANs that are known to fail, and what the watch says of them."""

import os
import subprocess
import sys

from conftest import read_metrics
from conftest import ROOT
import pytest

pytestmark = pytest.mark.slow


def watched(workdir, *arguments):
  """Trains on the digits on one device; returns the lines it prints."""
  process = subprocess.run(
    [
      sys.executable,
      '-m',
      'gan_flax.main',
      '--config=configs/dcgan.py:smoke',
      f'--workdir={workdir}',
      '--config.sample_every_steps=10000',
      '--config.checkpoint_every_steps=10000',
      *arguments,
    ],
    capture_output=True,
    text=True,
    check=True,
    env={**os.environ, 'XLA_FLAGS': ''},
    cwd=ROOT,
  )
  return process.stdout.splitlines()


def test_a_generator_without_norms_collapses(tmp_path):
  lines = watched(
    tmp_path,
    '--config.num_steps=1000',
    '--config.log_every_steps=100',
    '--config.model.base_features=8',
    '--config.model.generator_norm=none',
  )
  (said,) = (line for line in lines if 'mode collapse' in line)
  assert "model.generator_norm='batch'" in said
  assert read_metrics(tmp_path)[-1]['diversity'] < 0.1


def test_a_discriminator_that_hardly_learns_is_dead(tmp_path):
  lines = watched(
    tmp_path,
    '--config.num_steps=300',
    '--config.log_every_steps=50',
    '--config.batch_size=64',
    '--config.model.base_features=16',
    '--config.discriminator.learning_rate=1e-5',
  )
  assert any('the discriminator is dead' in line for line in lines)


def test_a_generator_that_learns_too_fast_beats_the_discriminator(tmp_path):
  lines = watched(
    tmp_path,
    '--config.num_steps=300',
    '--config.log_every_steps=100',
    '--config.batch_size=32',
    '--config.model.base_features=8',
    '--config.model.latent_size=32',
    '--config.generator.learning_rate=2e-2',
    # With the 2e-4 of the recipe it recovers in time with some seeds.
    '--config.discriminator.learning_rate=1e-4',
  )
  (said,) = (line for line in lines if line.startswith('Step 300: '))
  assert 'the discriminator loses' in said
  assert 'a lower generator.learning_rate (0.02 is very high)' in said
