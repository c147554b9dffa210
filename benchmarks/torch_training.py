"""Trains the plain PyTorch DCGAN for a time, as a peer of `gan_flax.main`.

  python -m benchmarks.torch_training --config=configs/dcgan.py:mnist
      --minutes=5 --output=FOLDER [--seed=0] [--base_features=64]

The data are those of the recipe. Images whose side is not 4 * 2**k are padded
with black to the next such side, and samples are cropped. Batches of 64, Adam
with rate 2e-4 and b1 0.5, `channels_last`. The time starts with the process.

--snapshots times the generator's weights are kept. When the time is over, each
of them draws samples with the statistics of its batches, as in training, and
FOLDER/samples_SECONDS.npy holds them, uint8 [N, H, W, C], beside `steps.json`.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import copy
import json
import pathlib
import sys
import time

from absl import flags
import numpy as np
import torch

from benchmarks import torch_dcgan
from common_flax import data
from common_flax.cli import commands

BATCH_SIZE = 64
_CHUNK = 500  # samples drawn at once


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string('output', None, 'Folder.', flag_values=values)
  flags.DEFINE_float('minutes', 5.0, 'Time to train.', 0.0, flag_values=values)
  flags.DEFINE_float(
    'started',
    None,
    'When the process was started, in seconds since 1970; by default now.',
    flag_values=values,
  )
  flags.DEFINE_integer('seed', 0, 'Of everything random.', flag_values=values)
  commands.define_integers(
    values, base_features=64, num_samples=10_000, snapshots=8
  )


def grid_size(size: int) -> int:
  """The smallest 4 * 2**k that is at least `size`."""
  grid = 8
  while grid < size:
    grid *= 2
  return grid


def _padded(images: np.ndarray) -> torch.Tensor:
  """uint8 [N, H, W, C] -> uint8 [N, C, S, S], padded with black."""
  size = images.shape[1]
  total = grid_size(size) - size
  sides = (total // 2, total - total // 2)
  padded = np.pad(images, ((0, 0), sides, sides, (0, 0)))
  return torch.from_numpy(padded.transpose(0, 3, 1, 2).copy())


def _batches(images: torch.Tensor) -> Iterator[torch.Tensor]:
  """Endless shuffled batches in [-1, 1]."""
  while True:
    order = torch.randperm(len(images))
    for start in range(0, len(images) - BATCH_SIZE + 1, BATCH_SIZE):
      batch = images[order[start : start + BATCH_SIZE]]
      batch = batch.to(memory_format=torch.channels_last)
      yield batch.float() / 127.5 - 1


@torch.no_grad()
def _draw(
  generator: torch.nn.Module, latent_size: int, num: int, size: int
) -> np.ndarray:
  """Draws uint8 [num, size, size, C]."""
  chunks = []
  for start in range(0, num, _CHUNK):
    latents = torch.randn(min(_CHUNK, num - start), latent_size, 1, 1)
    images = generator(latents).permute(0, 2, 3, 1)
    before = (images.shape[1] - size) // 2
    images = images[:, before : before + size, before : before + size]
    images = torch.round((images + 1) * 127.5).clamp(0, 255)
    chunks.append(images.to(torch.uint8).numpy())
  return np.concatenate(chunks)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  spec, overrides, others = commands.split_config(arguments)
  commands.parse(values, others)
  commands.require_flags(values, 'output')
  started = values.started or time.time()
  folder = pathlib.Path(values.output)
  folder.mkdir(parents=True, exist_ok=True)
  dataset = commands.load_config(spec, overrides).dataset
  source = data.load(dataset, dataset.split)
  size, _, channels = source.example_shape
  trainer = torch_dcgan.Trainer(
    grid_size(size),
    channels,
    values.base_features,
    channels_last=True,
    seed=values.seed,
  )
  kept: list[tuple[float, int, torch.nn.Module]] = []
  budget, num_steps = 60 * values.minutes, 0
  for batch in _batches(_padded(source.examples)):
    trainer.step(batch)
    num_steps += 1
    seconds = time.time() - started
    if seconds >= budget * (len(kept) + 1) / values.snapshots:
      kept.append((seconds, num_steps, copy.deepcopy(trainer.generator)))
    if seconds >= budget:
      break
  steps = {}
  for seconds, step, generator in kept:
    name = f'samples_{seconds:06.1f}.npy'
    samples = _draw(generator, trainer.latent_size, values.num_samples, size)
    np.save(folder / name, samples)
    steps[name] = step
  (folder / 'steps.json').write_text(json.dumps(steps, indent=2) + '\n')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
