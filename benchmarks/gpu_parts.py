"""What `benchmarks.gpu` measures, and with which sizes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Part:
  """A measurement.

  Attributes:
    name: names it for --only.
    title: heads its table.
    commands: arguments of Python, run one after the other. {folder} stands for
      a folder of the part, {json} for a file that holds its result, and ~ for a
      space within an argument.
    small: the same with small sizes.
    seconds: time limit.
    module: the module that must exist.
  """

  name: str
  title: str
  commands: tuple[str, ...]
  small: tuple[str, ...]
  seconds: int
  module: str


def _step_part(
  name: str, title: str, sizes: str, small: str, seconds: int
) -> Part:
  """A table of train steps, ours and PyTorch's, see `benchmarks.table`."""
  module = f'benchmarks.{name.partition("-")[0]}'
  command = f'-m {module} --output={{json}}'
  return Part(
    name,
    title,
    (f'{command} {sizes}',),
    (f'{command} --rounds=2 --steps=1 {small}',),
    seconds,
    module,
  )


_DCGAN_CONTENDERS = (
  '--only=ours,~bfloat16 --only=PyTorch '
  '--only=PyTorch,~channels_last,~compiled '
  '--only=PyTorch,~channels_last,~compiled,~bfloat16'
)
_SMALL_DCGAN = '--base_features=4 --batch_size=8 --only=ours,~bfloat16'
_WARM = '--config=configs/dcgan.py --config.num_steps=1 --workdir={folder}'
_EVALUATE = '-m gan_flax.evaluate --workdir={folder}/run'

# The most telling ones first.
PARTS = (
  _step_part(
    'dcgan-32',
    'A DCGAN, 32x32x1, batch 64',
    f'--rounds=9 --steps=50 {_DCGAN_CONTENDERS}',
    f'--image_size=8 {_SMALL_DCGAN}',
    100,
  ),
  _step_part(
    'dcgan-64',
    'A DCGAN, 64x64x3, batch 128',
    '--image_size=64 --channels=3 --batch_size=128 --rounds=9 --steps=30 '
    f'{_DCGAN_CONTENDERS}',
    f'--image_size=16 --channels=3 {_SMALL_DCGAN}',
    100,
  ),
  _step_part(
    'resnet',
    "R3GAN's networks, 32x32x3, batch 32",
    '--rounds=5',
    '--image_size=8 --base_features=8 --group_size=4 --batch_size=4 '
    '--only=ours,~bfloat16',
    75,
  ),
  _step_part(
    'vae',
    'A dense VAE, batch 500',
    '--rounds=9',
    '--batch_size=24 --steps=20 --only=ours,~bfloat16',
    75,
  ),
  Part(
    'tests',
    'Tests marked gpu',
    ('-m pytest tests/gpu -m gpu -n 0 -q --tb=short -rs',),
    ('-m pytest tests/gpu -m gpu -n 0 -q --tb=short -rs',),
    90,
    'pytest',
  ),
  Part(
    'training',
    'Two minutes of configs/quick.py, and the score',
    (
      '-m gan_flax.main --config=configs/quick.py '
      '--workdir={folder}/run --max_minutes=2',
      f'{_EVALUATE} --features=classifier',
    ),
    (
      '-m gan_flax.main --config=configs/dcgan.py:smoke --workdir={folder}/run',
      f'{_EVALUATE} --features=random --num_samples=64',
    ),
    200,
    'gan_flax',
  ),
  Part(
    'seeds',
    'Ten seeds at once',
    ('-m benchmarks.seeds --rounds=5',),
    (
      '-m benchmarks.seeds --config=configs/ring.py:smoke --seeds=2 '
      '--rounds=2 --steps=50',
    ),
    75,
    'benchmarks.seeds',
  ),
  Part(
    'first-step',
    'The first step with an empty cache, and again',
    (f'-m gan_flax.main {_WARM}/cold', f'-m gan_flax.main {_WARM}/warm'),
    (
      '-m gan_flax.main --config=configs/dcgan.py:smoke '
      '--workdir={folder}/cold',
      '-m gan_flax.main --config=configs/dcgan.py:smoke '
      '--workdir={folder}/warm',
    ),
    75,
    'gan_flax',
  ),
  Part(
    'overhead',
    "The training loop's overhead",
    ('-m benchmarks.overhead --steps=2000',),
    (),
    60,
    'benchmarks.overhead',
  ),
  Part(
    'input',
    'The input pipeline',
    ('-m benchmarks.input --rounds=3',),
    ('-m benchmarks.input --image_size=8 --images=256 --rounds=1',),
    60,
    'benchmarks.input',
  ),
)
