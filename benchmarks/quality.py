"""Compares what GANs draw after the same time on the same machine.

  python -m benchmarks.quality [--minutes=5] [--rounds=3] [--output=FOLDER]
      [--configs=configs/dcgan.py:mnist,configs/quick.py:mnist]
      [--config.dataset.path=FOLDER ...]

In each round a plain PyTorch DCGAN and then each recipe trains for the same
time on the training images of the first recipe, alone on the machine, with the
round's number as seed. The time starts with the process: imports and
compilation count, and compiled programs are not kept between rounds. Recipes
run as users run them, with checkpoints and pictures.

Then all are scored in the features of a classifier of the real training images
at their own size (of a random network, if they have no labels), against the
test images. Arguments of the form --config.FIELD=VALUE change every recipe.

--snapshots times over the training, samples are scored by FID as well. Prints
a Markdown table and writes it to FOLDER, with `quality.json`, pictures of
samples, and `quality.png`, the FID over the seconds of training.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
from ml_collections import ConfigDict
import numpy as np

from benchmarks import quality_report
from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli import commands
from common_flax.errors import UserError
from common_flax.evaluation import reference_sets
from common_flax.evaluation.protocol import Protocol
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.metrics import classifier as classifier_lib
from common_flax.progress import track
from common_flax.workdir import layout
from gan_flax import config as gan_config
from gan_flax import trained

_PEER = 'PyTorch DCGAN'
_NUM_NEIGHBOURS = 5
_NUM_SHOWN = 64  # samples in a picture


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_list(
    'configs',
    ['configs/dcgan.py:mnist', 'configs/quick.py:mnist'],
    'Recipes.',
    flag_values=values,
  )
  flags.DEFINE_float('minutes', 5.0, 'Time to train.', 0.0, flag_values=values)
  flags.DEFINE_string('output', 'quality', 'Folder.', flag_values=values)
  flags.DEFINE_boolean(
    'peer', True, 'Whether PyTorch takes part.', flag_values=values
  )
  commands.define_integers(values, rounds=3, num_samples=10_000, snapshots=8)


@dataclasses.dataclass(frozen=True)
class Race:
  """What is the same for all contenders."""

  minutes: float  # to train
  changes: Sequence[str]  # --config.FIELD=VALUE
  num_samples: int  # to score
  num_snapshots: int  # over the training


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """A generator at a moment of its training."""

  seconds: float  # since the process started
  step: int
  draw: Callable[[], np.ndarray]  # uint8 [N, H, W, C]


@dataclasses.dataclass(frozen=True)
class Judge:
  """Scores samples against the real test images."""

  reference: reference_sets.ReferenceSet
  classifier: classifier_lib.Classifier | None  # None without labels

  def score(self, images: np.ndarray) -> dict[str, Any]:
    """All metrics of uint8 [N, H, W, C]."""
    scores = dict(self.reference.score(images).metrics)
    if self.classifier:
      labels = classifier_lib.labels(self.classifier, images)
      counts = np.bincount(labels, minlength=self.classifier.num_classes)
      scores['rarest_class'] = float(counts.min() / len(images))
    return scores

  def fid(self, images: np.ndarray) -> float:
    """The Fréchet distance alone."""
    fid = dataclasses.replace(
      self.reference, protocol=Protocol(('fid',), _NUM_NEIGHBOURS)
    )
    return fid.score(images).metrics['fid']


def create_judge(dataset: ConfigDict, num_samples: int) -> Judge:
  """Creates the judge of a data set; trains its classifier if needed."""
  test = data.load(dataset, 'test')
  reference = reference_sets.create_reference_set(
    functools.partial(data.load, dataset),
    dataset,
    'test',
    ExtractorSpec(reference_sets.AUTO, None, 'clean'),
    Protocol(quality_report.METRICS, _NUM_NEIGHBOURS),
    num_samples,
  )
  labelled = test.num_classes is not None
  classifier = reference_sets.dataset_classifier(dataset) if labelled else None
  return Judge(reference, classifier)


def _run(command: Sequence[str], **environment: str) -> float:
  """Runs a module of the project; returns the seconds that it took.

  Raises:
    UserError: if it fails; with the last line that it printed.
  """
  began = time.time()
  done = subprocess.run(
    [sys.executable, '-m', *command],
    env=os.environ | environment,
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    reason = (done.stderr or done.stdout).strip().rpartition('\n')[2]
    raise UserError(f'{" ".join(command[:2])} failed: {reason}')
  return time.time() - began


def train_peer(
  spec: str, race: Race, seed: int, folder: pathlib.Path
) -> tuple[float, list[Snapshot]]:
  """Trains the PyTorch DCGAN; returns its seconds and its snapshots."""
  _run(
    [
      'benchmarks.torch_training',
      f'--config={spec}',
      f'--minutes={race.minutes}',
      f'--seed={seed}',
      f'--num_samples={race.num_samples}',
      f'--snapshots={race.num_snapshots}',
      f'--output={folder}',
      f'--started={time.time()}',
      *(x for x in race.changes if x.startswith('--config.dataset.')),
    ]
  )
  steps = json.loads((folder / 'steps.json').read_text())
  snapshots = [
    Snapshot(
      float(name.split('_')[1].removesuffix('.npy')),
      step,
      functools.partial(np.load, folder / name),
    )
    for name, step in sorted(steps.items())
  ]
  return snapshots[-1].seconds, snapshots


def train_recipe(
  spec: str, race: Race, seed: int, folder: pathlib.Path
) -> tuple[float, list[Snapshot]]:
  """Trains a recipe; returns its seconds and some of its checkpoints."""
  began = time.time()
  with tempfile.TemporaryDirectory() as cache:
    seconds = _run(
      [
        'gan_flax.main',
        f'--config={spec}',
        f'--workdir={folder}',
        f'--max_minutes={race.minutes}',
        f'--config.seed={seed}',
        '--config.keep_checkpoints=100000',
        *race.changes,
      ],
      JAX_COMPILATION_CACHE_DIR=cache,
    )
  checkpoints = folder / layout.CHECKPOINTS
  steps = sorted(int(x.name) for x in checkpoints.iterdir() if x.name.isdigit())
  stride = -(-len(steps) // race.num_snapshots)
  chosen = steps[::-1][::stride][::-1]  # the last one is among them
  snapshots = [
    Snapshot(
      (checkpoints / str(step)).stat().st_mtime - began,
      step,
      functools.partial(_draw, folder, step, race.num_samples),
    )
    for step in chosen
  ]
  snapshots[-1] = dataclasses.replace(snapshots[-1], seconds=seconds)
  return seconds, snapshots


def _draw(folder: pathlib.Path, step: int, num: int) -> np.ndarray:
  """Draws samples of a checkpoint, all classes equally often."""
  (sampler,) = trained.load_all(folder, step=step)
  labels = None
  if sampler.gan.is_conditional:
    labels = np.arange(num) % sampler.gan.num_classes
  key = prng.stream(prng.root_key(0), 'evaluate')
  chunks = sampler.chunks(key, num, label=labels)
  return np.concatenate([np.asarray(chunk) for chunk in chunks])


def measure(
  name: str,
  train: Callable[..., tuple[float, list[Snapshot]]],
  judge: Judge,
  output: pathlib.Path,
  seed: int,
) -> dict[str, Any]:
  """Trains a contender once and scores it, over time and at the end."""
  with tempfile.TemporaryDirectory() as folder:
    seconds, snapshots = train(folder=pathlib.Path(folder) / 'run')
    curve = [
      (each.seconds, judge.fid(each.draw()))
      for each in track(snapshots[:-1], len(snapshots) - 1, 'Scoring')
    ]
    images = snapshots[-1].draw()
  scores = judge.score(images)
  curve.append((snapshots[-1].seconds, scores['fid']))
  picture = ''.join(x if x.isalnum() else '_' for x in name)
  images_lib.write_png(
    output / f'{picture}_{seed}.png', images_lib.grid(images[:_NUM_SHOWN])
  )
  return {
    'contender': name,
    'seed': seed,
    'seconds': seconds,
    'steps': snapshots[-1].step,
    'curve': curve,
    **scores,
  }


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  changes = [x for x in arguments if x.startswith('--config.')]
  commands.parse(values, [x for x in arguments if x not in changes])
  configs = [commands.load_config(spec, changes) for spec in values.configs]
  for config in configs:
    gan_config.check(config)
  dataset = configs[0].dataset
  output = pathlib.Path(values.output)
  output.mkdir(parents=True, exist_ok=True)
  judge = create_judge(dataset, values.num_samples)
  real = judge.reference.baseline_metrics(values.num_samples)
  contenders = {spec: (train_recipe, spec) for spec in values.configs}
  if values.peer:
    contenders = {_PEER: (train_peer, values.configs[0])} | contenders
  race = Race(values.minutes, changes, values.num_samples, values.snapshots)
  results = []
  for seed in range(values.rounds):
    for name, (train, spec) in contenders.items():
      bound = functools.partial(train, spec, race, seed)
      results.append(measure(name, bound, judge, output, seed))
      text = quality_report.write(results, real, values.minutes, output)
      row = results[-1]
      print(
        f'round {seed}: {name}: FID {row["fid"]:.2f} after '
        f'{row["seconds"]:.0f} s'
      )
  print(f'\n{text}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
