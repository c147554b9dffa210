"""Runs that were half trained by an earlier version go on.

older_runs/ holds their workdirs at step 4, written on 26 November 2026, and the
mean and the norm of every array of the state that the same version reached at
step 8. They were trained by the recipes dcgan.py:smoke and, with a dense model
of 16 hidden units, vae.py:smoke.
"""

import json
import pathlib
import tarfile

import numpy as np
import pytest
from saved_arrays import arrays_of

from gan_flax import config as gan_config
from gan_flax import evaluate as gan_evaluate
from gan_flax import sample as gan_sample
from gan_flax import train as gan_train
from vae_flax import config as vae_config
from vae_flax import evaluate as vae_evaluate
from vae_flax import sample as vae_sample
from vae_flax import train as vae_train

OLDER_RUNS = pathlib.Path(__file__).with_name('older_runs')
FAMILIES = {
  'gan': (gan_config, gan_train, gan_sample, gan_evaluate),
  'vae': (vae_config, vae_train, vae_sample, vae_evaluate),
}


@pytest.fixture(params=FAMILIES)
def older(request, tmp_path):
  """The name of a family and a copy of its half trained workdir."""
  with tarfile.open(OLDER_RUNS / f'{request.param}.tar.xz') as archive:
    archive.extractall(tmp_path, filter='data')
  return request.param, tmp_path / request.param


def test_an_older_run_resumes_to_the_same_state(older):
  name, workdir = older
  config_lib, train_lib, _, _ = FAMILIES[name]
  config = config_lib.read(workdir).unlock()
  config.num_steps = 8
  assert train_lib.train(config.lock(), workdir) is None
  expected = json.loads((OLDER_RUNS / f'{name}.json').read_text())
  arrays = arrays_of(workdir, 8)
  assert arrays.keys() == expected.keys()
  for array_name, (mean, norm) in expected.items():
    array = np.asarray(arrays[array_name], np.float64)
    # Other devices and compilers round differently.
    error = max(abs(array.mean() - mean), abs(np.linalg.norm(array) - norm))
    assert error <= 5e-3 * max(norm, 1e-3), array_name


def test_an_older_run_is_sampled_and_evaluated(older):
  name, workdir = older
  _, _, sample_lib, evaluate_lib = FAMILIES[name]
  output = workdir / 'samples.npz'
  arguments = ['command', f'--workdir={workdir}']
  few = '--num_samples=20'
  assert sample_lib.main([*arguments, few, f'--output={output}']) == 0
  with np.load(output) as arrays:
    assert arrays['images'].shape == (20, 16, 16, 1)
    assert arrays['images'].std() > 1
  metrics = '--metrics=sliced_wasserstein'
  assert evaluate_lib.main([*arguments, few, metrics]) == 0
  report = json.loads((workdir / 'evaluation.json').read_text())
  assert report['sliced_wasserstein'] > 0
  assert report['provenance']['checkpoint_step'] == 4
