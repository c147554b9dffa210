"""Flags of the commands that were given have an effect, or are refused."""

from absl import flags
import pytest

from common_flax.cli import commands
from common_flax.cli import training_command
from common_flax.distributed import processes
from common_flax.errors import UserError
from common_flax.evaluation import reference_sets
from common_flax.evaluation.protocol import METRICS
from common_flax.training import limits
from common_flax.workdir import layout
from gan_flax import config as gan_config
from gan_flax import evaluate as gan_evaluate
from gan_flax import sample as gan_sample
from vae_flax import config as vae_config
from vae_flax import evaluate as vae_evaluate
from vae_flax import sample as vae_sample
from vae_flax.drawing import kinds

INCEPTION = '--features=inception'
WEIGHTS = '--inception_weights=FILE'


def check_flags(metrics, *arguments):
  values = flags.FlagValues()
  reference_sets.define_flags(values)
  commands.parse(values, arguments)
  reference_sets.check_flags(values, metrics)


@pytest.mark.parametrize(
  ('metrics', 'arguments', 'words'),
  [
    (['modes'], ['--features=random'], '--features=random: has no effect on'),
    (['classes'], [INCEPTION], 'on classes; remove it'),
    (['likelihood'], [WEIGHTS], 'on likelihood; remove it'),
    (['modes'], ['--resize=legacy'], '--resize=legacy'),
    (['modes'], ['--num_neighbours=3'], '--num_neighbours=3'),
    (['fid', 'kid'], ['--num_neighbours=3'], 'on fid, kid; remove it'),
    (['fid'], ['--features=random', WEIGHTS], 'use --features=inception'),
    (['fid'], ['--features=classifier', '--resize=legacy'], '--resize=legacy'),
    (METRICS, ['--resize=legacy'], 'without --features=inception; add it'),
  ],
)
def test_flags_that_the_metrics_do_not_use_are_refused(
  metrics, arguments, words
):
  with pytest.raises(UserError) as caught:
    check_flags(metrics, *arguments)
  assert words in str(caught.value)


@pytest.mark.parametrize(
  ('metrics', 'arguments'),
  [
    (['modes'], []),
    (['modes'], ['--resize=clean', '--num_neighbours=5']),  # the defaults
    (METRICS, ['--num_neighbours=3', '--features=random']),
    (['fid'], [INCEPTION, WEIGHTS, '--resize=legacy']),
    (['fid', 'modes'], [WEIGHTS, '--resize=legacy']),
  ],
)
def test_flags_that_the_metrics_use_are_accepted(metrics, arguments):
  check_flags(metrics, *arguments)


def workdir_of(tmp_path, config_lib, **changes):
  """The folder of a run that has not trained."""
  config = config_lib.default().unlock()
  config.update_from_flattened_dict(changes)
  layout.write_config(tmp_path, config)
  return f'--workdir={tmp_path}'


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--split=train'], '--split=train: has no effect with --kind=prior'),
    (['--kind=manifold', '--split=train'], '--kind=manifold; remove it'),
    (['--kind=manifold', '--seed=1'], '--seed=1: has no effect'),
    (['--kind=latents', '--num_samples=9'], '--num_samples=9: has no effect'),
    (['--images=x'], '--kind=prior; use --kind=reconstruction'),
    (['--kind=traversal', '--images=x'], '--images=x: has no effect'),
    (['--kind=manifold', '--images=x'], '--images=x: has no effect'),
    (['--kind=latents', '--images=x', '--split=train'], 'with --images'),
    (['--kind=reconstruction', '--seeds=1'], '--seeds=1: has no effect'),
    (['--kind=walk', '--images=x', '--seeds=1'], '--images=x: has no effect'),
    (['--kind=walk', '--seeds=1', '--num_samples=9'], '--kind=walk; remove it'),
    (['--latents=x', '--num_samples=9'], 'with --latents; remove it'),
    (['--frames=9'], '--frames=9: has no effect without --kind=walk'),
  ],
)
def test_a_kind_of_picture_refuses_what_it_does_not_use(
  refuses, tmp_path, arguments, words
):
  arguments = ['--workdir=nosuch', f'--output={tmp_path}/x.npz', *arguments]
  refuses(vae_sample.main, arguments, words, folder=tmp_path)


def test_a_manifold_is_a_square():
  with pytest.raises(UserError, match=r'--num_samples=30: .* use 25 or 36'):
    kinds.check_square('manifold', 30)
  kinds.check_square('manifold', 25)
  kinds.check_square('prior', 30)


def test_a_truncation_beyond_uniform_latents_is_refused(refuses, tmp_path):
  workdir = workdir_of(
    tmp_path, gan_config, **{'model.latent_distribution': 'uniform'}
  )
  arguments = [workdir, f'--output={tmp_path}/x.png', '--truncation=1.5']
  words = '--truncation=1.5: has no effect', 'limit below 1'
  refuses(gan_sample.main, arguments, *words, folder=tmp_path)


def test_an_evaluation_of_points_refuses_features(refuses, tmp_path):
  workdir = workdir_of(
    tmp_path, gan_config, **{'dataset.name': 'ring', 'model.name': 'mlp'}
  )
  arguments = [workdir, '--features=random']
  refuses(gan_evaluate.main, arguments, 'on modes', folder=tmp_path)


def test_an_evaluation_of_stacks_refuses_features(refuses, tmp_path):
  workdir = workdir_of(tmp_path, gan_config, **{'dataset.name': 'stacked'})
  refuses(gan_evaluate.main, [workdir, INCEPTION], 'classes', folder=tmp_path)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--metrics=fid', '--num_importance_samples=9'], '--metrics=likelihood'),
    (['--metrics=likelihood', '--num_samples=9'], '--num_importance_samples'),
    (['--metrics=likelihood', '--features=random'], 'on likelihood'),
  ],
)
def test_an_evaluation_of_a_vae_refuses_what_it_does_not_use(
  refuses, tmp_path, arguments, words
):
  workdir = workdir_of(tmp_path, vae_config)
  refuses(vae_evaluate.main, [workdir, *arguments], words, folder=tmp_path)


@pytest.mark.usefixtures('in_the_repository')
@pytest.mark.parametrize(
  'flag', ['coordinator=a:1', 'num_processes=2', 'process_id=1']
)
def test_other_processes_are_refused_with_distributed_off(flag):
  arguments = ['--config=configs/dcgan.py:smoke', '--distributed=off']
  with pytest.raises(UserError, match='has no effect with --distributed=off'):
    training_command.parse(['main', *arguments, f'--{flag}'], 'main', '')


def test_several_processes_refuse_to_go_on_without_saving(monkeypatch):
  config = gan_config.default().unlock()
  config.on_save_error = 'warn'
  limits.check_devices(config, 1)
  monkeypatch.setattr(processes, 'count', lambda: 2)
  with pytest.raises(UserError, match=r'on_save_error.*always stop'):
    limits.check_devices(config, 1)
  limits.check_devices(config, 1, is_resumed=True)
