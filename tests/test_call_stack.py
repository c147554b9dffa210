"""The path from a training command to its first update is short."""

import pathlib
import traceback

from conftest import ROOT
import pytest

from gan_flax import main as gan_main
from gan_flax import steps as gan_steps
from vae_flax import main as vae_main
from vae_flax import steps as vae_steps
from vq_flax import main as vq_main
from vq_flax import steps as vq_steps

FOLDERS = ('gan_flax', 'vae_flax', 'vq_flax', 'common_flax')
MAX_FILES = 5
MAX_FRAMES = 8


@pytest.mark.parametrize(
  ('main', 'recipe', 'steps', 'update', 'train_file'),
  [
    pytest.param(
      gan_main.main,
      'configs/dcgan.py:smoke',
      gan_steps,
      'discriminator_step',
      'gan_flax/train.py',
      id='gan',
    ),
    pytest.param(
      vae_main.main,
      'configs/vae.py:smoke',
      vae_steps,
      'loss',
      'vae_flax/train.py',
      id='vae',
    ),
    pytest.param(
      vq_main.main,
      'configs/vq.py:smoke',
      vq_steps,
      'loss',
      'vq_flax/train.py',
      id='vq',
    ),
  ],
)
@pytest.mark.usefixtures('in_the_repository')
def test_the_call_stack_at_the_first_update_is_short(
  monkeypatch, tmp_path, main, recipe, steps, update, train_file
):
  stacks = []
  original = getattr(steps, update)

  def noted(*arguments, **options):
    stacks.append(traceback.extract_stack())
    return original(*arguments, **options)

  monkeypatch.setattr(steps, update, noted)
  arguments = [f'--config={recipe}', f'--workdir={tmp_path}/run']
  assert main(['command', *arguments]) == 0
  paths = [pathlib.Path(frame.filename) for frame in stacks[0]]
  inside = [path for path in paths if path.is_relative_to(ROOT)]
  inside = [str(path.relative_to(ROOT)) for path in inside]
  inside = [path for path in inside if path.startswith(FOLDERS)]
  assert train_file in inside
  assert len(set(inside)) <= MAX_FILES
  assert len(inside) + 1 <= MAX_FRAMES  # with the update itself
