"""Every mistake of a user: one clear line, status 2, nothing half-written."""

import pathlib
import shutil

import pytest

from vae_flax import evaluate
from vae_flax import main as main_lib
from vae_flax import sample

SMOKE = '--config=configs/vae.py:smoke'


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])


def contents(folder):
  return {
    path: path.read_bytes() if path.is_file() else None
    for path in folder.rglob('*')
  }


def assert_refused(capfd, main, arguments, words):
  """One line on stderr that has these words, and status 2."""
  assert main(['command', *map(str, arguments)]) == 2
  error = capfd.readouterr().err
  assert error.startswith('error: ')
  assert error.count('\n') == 1
  for word in words:
    assert word in error


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['--config']),
    (['--config=configs/vae.py:minst'], ['minst', 'mnist_2d']),
    ([SMOKE, '--config.likelyhood=bernoulli'], ['likelyhood', 'likelihood']),
    ([SMOKE, '--config.likelihood=poisson'], ['likelihood', 'logistic']),
    (
      [SMOKE, '--config.dataset.binarise=none'],
      ['dataset.binarise', 'grey', 'stochastic', 'likelihood=logistic'],
    ),
    (
      [SMOKE, '--config.likelihood=logistic'],
      ['dataset.binarise', 'none', 'likelihood=bernoulli'],
    ),
    ([SMOKE, '--config.dataset.binarise=yes'], ['binarise', 'threshold']),
    ([SMOKE, '--config.dataset.binarise_seed=-1'], ['binarise_seed']),
    ([SMOKE, '--config.model.name=vqvae'], ['model.name', 'mlp']),
    ([SMOKE, '--config.model.hidden_sizes=()'], ['hidden_sizes']),
    ([SMOKE, '--config.model.hidden_sizes=(0,)'], ['hidden_sizes']),
    ([SMOKE, '--config.model.activation=relux'], ['activation', 'tanh']),
    ([SMOKE, '--config.model.max_log_var=0.0'], ['max_log_var']),
    ([SMOKE, '--config.model.latent_size=0'], ['latent_size']),
    ([SMOKE, '--config.dataset.image_size=(8,7)'], ['image_size', 'least 8']),
    (
      [
        SMOKE,
        '--config.dataset.crop=random',
        '--config.dataset.binarise=fixed',
      ],
      ['dataset.binarise', 'crop=random', 'stochastic'],
    ),
    ([SMOKE, '--config.likelihood_scale=0.0'], ['likelihood_scale']),
    (
      [SMOKE, '--config.likelihood_scale=1e-20'],
      ['likelihood_scale', '0.0001'],
    ),
    (
      [SMOKE, '--config.likelihood_components=0'],
      ['likelihood_components', 'at least 1'],
    ),
    ([SMOKE, '--config.objective=vae'], ['objective', 'iwae']),
    ([SMOKE, '--config.num_importance_samples=0'], ['num_importance_samples']),
    ([SMOKE, '--config.kl=exact'], ['config.kl', 'closed_form']),
    ([SMOKE, '--config.beta=-1.0'], ['beta']),
    ([SMOKE, '--config.beta=inf'], ['beta', 'finite']),
    (
      [SMOKE, '--config.kl=monte_carlo', '--config.free_bits_nats=0.1'],
      ['free_bits_nats=0.1', 'closed_form'],
    ),
    ([SMOKE, '--config.kl_warmup_steps=-1'], ['kl_warmup_steps']),
    ([SMOKE, '--config.free_bits_nats=-0.5'], ['free_bits_nats']),
    (
      [SMOKE, '--config.objective=iwae', '--config.beta=2.0'],
      ['beta=2.0', 'objective=elbo', 'set it to 1.0'],
    ),
    (
      [SMOKE, '--config.objective=dreg', '--config.free_bits_nats=0.1'],
      ['free_bits_nats', 'dreg'],
    ),
    (
      [
        SMOKE,
        '--config.objective=iwae',
        '--config.num_importance_samples=100000',
        '--config.batch_size=80000',
      ],
      ['batch_size=80000', 'num_importance_samples=100000', 'GiB'],
    ),
    ([SMOKE, '--config.optimizer.learning_rate=0.0'], ['learning_rate']),
    ([SMOKE, '--config.batch_size=12'], ['batch_size=12', '8 devices']),
    ([SMOKE, '--init_from=nosuch'], ['nosuch']),
    ([SMOKE, '--nosuch=1'], ['nosuch']),
  ],
)
def test_training_refuses(capfd, tmp_path, arguments, words):
  workdir = tmp_path / 'run'
  assert_refused(
    capfd, main_lib.main, [*arguments, f'--workdir={workdir}'], words
  )
  assert not workdir.exists()


def test_fixed_binary_images_need_memory(capfd, tmp_path, monkeypatch):
  monkeypatch.setattr('common_flax.data.source.ArraySource.is_in_memory', False)
  arguments = [SMOKE, '--config.dataset.binarise=fixed']
  assert_refused(
    capfd,
    main_lib.main,
    [*arguments, f'--workdir={tmp_path}/run'],
    ['binarise', 'memory', 'stochastic'],
  )


def test_a_workdir_of_another_config_names_the_difference(capfd, trained_vae):
  before = contents(trained_vae)
  assert_refused(
    capfd,
    main_lib.main,
    [SMOKE, '--config.beta=2.0', f'--workdir={trained_vae}'],
    ['beta (was 1.0, now 2.0)'],
  )
  assert contents(trained_vae) == before


def test_a_workdir_of_the_other_family_is_refused(capfd, trained):
  assert_refused(
    capfd, main_lib.main, [SMOKE, f'--workdir={trained}'], ['config.json']
  )


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--output=x.png'], ['--workdir']),
    (['--workdir=TRAINED'], ['--output']),
    (['--workdir=nosuch', '--output=x.png'], ['nosuch']),
    (['--workdir=configs', '--output=x.png'], ['config.json']),
    (['--workdir=TRAINED', '--output=x.png', '--kind=video'], ['kind']),
    (
      ['--workdir=TRAINED', '--output=x.png', '--kind=manifold'],
      ['2 latents', 'latent_size=2'],
    ),
    (
      ['--workdir=TRAINED', '--output=x.png', '--kind=latents'],
      ['2 latents', 'latent_size=2', '--output=FILE.npz'],
    ),
    (['--workdir=TRAINED', '--output=x', '--kind=latents'], ['or .npz']),
    (
      ['--workdir=TRAINED', '--output=setup.cfg/x.npz', '--kind=latents'],
      ['setup.cfg'],
    ),
    (
      [
        '--workdir=TRAINED',
        '--output=x.png',
        '--kind=reconstruction',
        '--split=dev',
      ],
      ['split', 'train'],
    ),
  ],
)
def test_sampling_refuses(capfd, trained_vae, arguments, words):
  arguments = [a.replace('TRAINED', str(trained_vae)) for a in arguments]
  assert_refused(capfd, sample.main, arguments, words)
  assert not pathlib.Path('x.png').exists()


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['--workdir']),
    (['--workdir=nosuch'], ['nosuch']),
    (['--workdir=TRAINED', '--split=dev'], ['split', 'test']),
    (['--workdir=TRAINED', '--num_importance_samples=0'], ['num_importance']),
    (['--workdir=TRAINED', f'--num_importance_samples={2**31}'], ['1000000']),
  ],
)
def test_evaluating_refuses(capfd, trained_vae, arguments, words):
  before = contents(trained_vae)
  arguments = [a.replace('TRAINED', str(trained_vae)) for a in arguments]
  assert_refused(capfd, evaluate.main, arguments, words)
  assert contents(trained_vae) == before


def test_evaluating_without_a_checkpoint_says_train_first(
  capfd, trained_vae, tmp_path
):
  shutil.copy(trained_vae / 'config.json', tmp_path)
  assert_refused(
    capfd, evaluate.main, [f'--workdir={tmp_path}'], ['train first']
  )


@pytest.mark.parametrize('main', [main_lib.main, sample.main, evaluate.main])
def test_help_shows_the_flags_and_succeeds(capsys, main):
  assert main(['command', '--help']) == 0
  output = capsys.readouterr().out
  assert '--workdir' in output
  assert 'python -m vae_flax' in output
