"""Training refuses what it cannot do: one line, status 2, nothing written."""

import subprocess
import sys

import jax
import pytest

from gan_flax import main as main_lib
from gan_flax import sample

SMOKE = '--config=configs/dcgan.py:smoke'
R3GAN = '--config=configs/r3gan.py:smoke'
CONDITIONAL = '--config=configs/conditional.py:smoke'
pytestmark = pytest.mark.usefixtures('in_the_repository')


@pytest.fixture
def fails(refuses, tmp_path):
  """Asserts that training refuses its arguments and writes nothing."""

  def check(arguments, *words, workdir=tmp_path / 'run'):
    arguments = [*arguments, f'--workdir={workdir}']
    refuses(main_lib.main, arguments, *words, folder=workdir.parent)

  return check


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['--config', '=quick', 'FILE.py']),
    (['--config=nosuch.py'], ['nosuch.py', 'no file']),
    (['--config=configs/dcgan.py:minst'], ['minst', 'mnist']),
    (['--config=setup.cfg'], ['setup.cfg']),
    ([SMOKE, '--nosuch=1'], ['nosuch']),
    ([SMOKE, 'stray'], ['stray']),
    ([SMOKE, '--config.batchsize=8'], ['batchsize', 'batch_size']),
    ([SMOKE, '--config.model.nam=dcgan'], ['model.nam', 'model.name']),
    ([SMOKE, '--config.batch_size=eight'], ['batch_size', 'eight']),
    ([SMOKE, '--config.batch_size=0'], ['batch_size', 'at least 1']),
    ([SMOKE, '--config.batch_size=12'], ['batch_size=12', '8 devices']),
    ([SMOKE, '--config.num_steps=-1'], ['num_steps']),
    ([SMOKE, '--config.steps_per_call=0'], ['steps_per_call']),
    ([SMOKE, '--config.steps_per_call=3'], ['num_steps=8', 'multiple']),
    (
      [SMOKE, '--config.steps_per_call=4', '--config.log_every_steps=6'],
      ['log_every_steps=6', 'multiple of steps_per_call=4'],
    ),
    ([SMOKE, '--profile=2'], ['--profile=2', '100:20']),
    ([SMOKE, '--profile=7:2'], ['--profile=7:2', 'num_steps=8']),
    ([SMOKE, '--config.seed=-1'], ['seed']),
    ([SMOKE, '--config.ema_decay=1.0'], ['ema_decay']),
    ([SMOKE, '--config.parallelism=xmap'], ['parallelism', 'pmap']),
    ([SMOKE, '--config.compute_dtype=int8'], ['compute_dtype', 'bfloat16']),
    ([SMOKE, '--config.compute_dtype=float64'], ['JAX_ENABLE_X64']),
    ([SMOKE, '--config.loss.name=wgan'], ['loss.name', 'non_saturating']),
    ([SMOKE, '--config.loss.name=wasserstein'], ['penalty.gradient=10.0']),
    (
      [SMOKE, '--config.model.packing=3'],
      ['batch_size=16', '24: 3 (model.packing)'],
    ),
    (
      [SMOKE, '--config.model.minibatch_deviation'],
      ['batch_size=16', '32: 1 (', '4 (model.minibatch_deviation) x 8'],
    ),
    (
      [
        SMOKE,
        '--config.model.minibatch_deviation',
        '--config.model.packing=2',
        '--config.batch_size=12',
        '--config.num_seeds=2',
      ],
      ['batch_size=12', '8: 2 (model.packing) x 4 (', 'x 1 (devices)'],
    ),
    ([SMOKE, '--config.on_collapse=x'], ['on_collapse', 'rollback, stop']),
    (
      [SMOKE, '--config.on_collapse=stop', '--config.num_seeds=2'],
      ["on_collapse='stop'", 'several runs', "'warn'"],
    ),
    (
      [SMOKE, '--config.on_collapse_max_rollbacks=0'],
      ['on_collapse_max_rollbacks=0', 'at least 1'],
    ),
    (
      [CONDITIONAL, '--config.model.packing=2'],
      ['model.packing=2', 'model.conditioning'],
    ),
    (
      [CONDITIONAL, '--config.model.generator_norm=layer'],
      ['model.conditioning', "'layer'", "'concatenation'"],
    ),
    (
      ['--config=configs/ring.py', '--config.model.conditioning=projection'],
      ['model.conditioning', "'none'", "generator_norm='batch'"],
    ),
    ([SMOKE, '--config.model.conditioning=x'], ['conditioning', 'projection']),
    ([SMOKE, '--config.penalty.r1=-1.0'], ['penalty.r1', 'at least 0']),
    ([SMOKE, '--config.penalty.r2=1.0'], ['discriminator_norm', "'layer'"]),
    ([SMOKE, '--config.penalty.every_steps=4'], ['every_steps', 'no effect']),
    (
      [SMOKE, '--config.penalty.final_share=0.5'],
      ['penalty.final_share=0.5', 'no effect'],
    ),
    (
      [R3GAN, '--config.penalty.final_share=1.5'],
      ['penalty.final_share=1.5', 'from 0 to 1'],
    ),
    (
      [SMOKE, '--config.generator.final_share=0.5'],
      ['generator.final_share=0.5', 'no effect', 'schedule=cosine'],
    ),
    (
      [R3GAN, '--config.discriminator.final_share=-0.5'],
      ['discriminator.final_share=-0.5', 'from 0 to 1'],
    ),
    ([SMOKE, '--config.penalty.max_weight=0.0'], ['penalty.max_weight']),
    (
      [SMOKE, '--config.model.discriminator_norm=instance'],
      ['discriminator_norm', 'group'],
    ),
    ([SMOKE, '--config.model.name=biggan'], ['model.name', 'dcgan']),
    ([SMOKE, '--config.model.kernel_size=3'], ['kernel_size']),
    ([SMOKE, '--config.model.grid_size=8'], ['grid_size', 'at least', '=16']),
    ([SMOKE, '--config.model.grid_size=30'], ['model.grid_size', '28, 32']),
    (
      [SMOKE, '--config.model.grid_size=(32,)'],
      ['model.grid_size=(32,)', '(HEIGHT,WIDTH)'],
    ),
    (
      [
        SMOKE,
        '--config.dataset.image_size=(16,40)',
        '--config.model.grid_size=(16,32)',
      ],
      ['model.grid_size=(16, 32)', 'at least', '(16, 40)'],
    ),
    (
      [SMOKE, '--config.model.group_size=8'],
      ['model.group_size=8', 'no effect with model.name=dcgan', '16'],
    ),
    (
      [SMOKE, '--config.model.blocks_per_stage=3'],
      ['model.blocks_per_stage=3', 'no effect', 'set it to 2'],
    ),
    (
      [R3GAN, '--config.model.kernel_size=5'],
      ['model.kernel_size=5', 'no effect with model.name=r3gan'],
    ),
    (
      [R3GAN, '--config.model.discriminator_norm=layer'],
      ["discriminator_norm='layer'", "set it to 'batch'"],
    ),
    (
      [R3GAN, '--config.model.generator_norm=batch'],
      ["generator_norm='batch'", 'remove it'],
    ),
    (
      [R3GAN, '--config.model.spectral_norm'],
      ['model.spectral_norm=True', 'no effect', 'set it to False'],
    ),
    (
      [R3GAN, '--config.model.minibatch_deviation'],
      ['model.minibatch_deviation=True', 'set it to False'],
    ),
    (
      [R3GAN, '--config.model.group_size=3'],
      ['config.model.group_size=3', 'does not divide 8', 'base_features'],
    ),
    (
      [R3GAN, '--config.model.group_size=0'],
      ['config.model.group_size=0', 'at least 1'],
    ),
    (
      [
        R3GAN,
        '--config.dataset.image_size=128',
        '--config.model.base_features=6',
      ],
      ['config.model.base_features=6', 'divisible by 4', '128x128'],
    ),
    (
      [R3GAN, '--config.dataset.name=ring'],
      ['model.name', 'model of images', 'ring', 'mlp'],
    ),
    ([SMOKE, '--config.model.latent_size=0'], ['latent_size']),
    ([SMOKE, '--config.generator.b1=1.0'], ['generator.b1']),
    ([SMOKE, '--config.generator.schedule=step'], ['schedule', 'cosine']),
    ([SMOKE, '--config.generator.learning_rate=0.0'], ['learning_rate']),
    ([SMOKE, '--config.generator.max_grad_norm=0.0'], ['max_grad_norm']),
    ([SMOKE, '--config.dataset.image_size=7'], ['image_size=7', 'least 8']),
    (
      [SMOKE, '--config.dataset.image_size=48x24'],
      ['--config.dataset.image_size=48x24', '(HEIGHT,WIDTH)'],
    ),
    ([SMOKE, '--config.dataset.crop=left'], ['dataset.crop', 'center, fit']),
    (
      [SMOKE, '--config.dataset.crop=fit', '--config.dataset.background=none'],
      ["dataset.background='none'", 'crop=fit'],
    ),
    (
      [SMOKE, '--config.dataset.crop=fit', '--config.dataset.background=red'],
      ["dataset.background='red'", 'grey'],
    ),
    ([SMOKE, '--config.dataset.split=dev'], ['dataset.split', 'train']),
    ([SMOKE, '--config.dataset.name=nosuch'], ['nosuch', 'TFDS']),
    ([SMOKE, '--config.dataset.name=folder'], ['dataset.path']),
    (
      [
        SMOKE,
        '--config.dataset.name=folder',
        '--config.dataset.path=nosuch',
      ],
      ['dataset.path', 'nosuch'],
    ),
    (
      [
        SMOKE,
        '--config.dataset.name=folder',
        '--config.dataset.path=configs',
      ],
      ['configs', 'no images'],
    ),
    ([SMOKE, '--init_from=nosuch'], ['nosuch']),
    ([SMOKE, '--config.generator.learning_rate=inf'], ['learning_rate']),
    ([SMOKE, '--config.dataset.name=mnist:9.9.9'], ['mnist:9.9.9']),
    ([SMOKE, '--config.dataset.flip', '--nosuch=1'], ['nosuch']),
    (['--config', '--nosuch=1'], ['--config: missing']),
  ],
)
def test_training_refuses(fails, arguments, words):
  fails(arguments, *words)


def test_an_unprepared_data_set_names_the_command_that_prepares_it(
  fails, tmp_path
):
  fails(
    [
      SMOKE,
      '--config.dataset.name=mnist',
      f'--config.dataset.data_dir={tmp_path}/data',
    ],
    'python -m common_flax.prepare --dataset=mnist',
    f'{tmp_path}/data',
  )


def test_a_corrupt_image_is_named(fails, tmp_path, photographs):
  folder = tmp_path / 'images'
  folder.mkdir()
  good = (photographs / 'china' / '00.jpg').read_bytes()
  (folder / 'good.jpg').write_bytes(good)
  (folder / 'cut.jpg').write_bytes(good[: len(good) // 2])
  (folder / 'test').mkdir()
  (folder / 'train').mkdir()
  for path in folder.glob('*.jpg'):
    path.rename(folder / 'train' / path.name)
  fails(
    [
      SMOKE,
      '--config.dataset.name=folder',
      f'--config.dataset.path={folder}',
    ],
    'cut.jpg',
    'skip_corrupt',
  )


def test_a_conditional_gan_of_images_without_labels_is_refused(
  fails, photographs
):
  fails(
    [
      CONDITIONAL,
      '--config.dataset.name=folder',
      f'--config.dataset.path={photographs}/china',
    ],
    "config.model.conditioning='projection'",
    'sub-folder for each class',
  )


@pytest.mark.parametrize('main', [main_lib.main, sample.main])
@pytest.mark.parametrize('flag', ['--help', '-h'])
def test_help_shows_the_flags_and_succeeds(capsys, main, flag):
  assert main(['command', flag]) == 0
  output = capsys.readouterr().out
  assert '--workdir' in output
  assert 'python -m gan_flax' in output


@pytest.mark.parametrize(
  ('module', 'arguments', 'status'),
  [
    ('gan_flax.main', ['--nosuch=1', SMOKE], 2),
    pytest.param('gan_flax.main', ['--help'], 0, marks=pytest.mark.slow),
    pytest.param(
      'gan_flax.sample',
      ['--workdir=nosuch', '--output=x.png'],
      2,
      marks=pytest.mark.slow,
    ),
  ],
)
def test_commands_exit_with_their_status(module, arguments, status):
  process = subprocess.run(
    [sys.executable, '-m', module, *arguments],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert process.returncode == status
  assert 'Traceback' not in process.stderr
  assert process.stderr.count('\n') == (1 if status else 0)


def test_the_suite_runs_on_eight_devices():
  assert jax.device_count() == 8
