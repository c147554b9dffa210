"""Judges images of anyone's making against others.

  python -m common_flax.compare IMAGES_A IMAGES_B [--output=FILE.json]
      [--metrics=NAME,NAME] [--features=inception|classifier|random]
      [--inception_weights=FILE] [--resize=clean|legacy] [--num_neighbours=5]

A are judged as samples of what B show: precision is the share of A among B,
recall the share of B among A. Each is a folder of images, or an .npz with the
array `images` uint8 [N, H, W, C], all of one size. The metrics are fid, kid,
inception_score, precision, recall, density, coverage and sliced_wasserstein. A
classifier can be asked for where B have labels: sub-folders, or the array
`labels` int [N]. What the two halves of B score against each other stands
beside it. Prints a table, and writes a JSON file if one is named.
"""

from collections.abc import Sequence
import dataclasses
import json
import sys
import time

from absl import flags
import numpy as np

from common_flax import commands
from common_flax import evaluation
from common_flax import image_sets
from common_flax import references
from common_flax import reports
from common_flax import sample_files
from common_flax import terminal
from common_flax.config import UserError
from common_flax.data.source import ArraySource
from common_flax.evaluation import Protocol
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import features as features_lib
from common_flax.metrics.features import Extractor

_METRICS = tuple(name for name in evaluation.METRICS if name != 'nearest')
_TEST_SHARE = 10  # one image in so many tests the classifier
_SEED = 0  # of the halves


def _extractor(reference: ArraySource, eyes: references.Eyes) -> Extractor:
  """The network to see with.

  Raises:
    UserError: if there are no weights or labels for it.
  """
  name = references.choose(eyes, is_labelled=False)
  if name != 'classifier':
    return references.without_labels(name, eyes)
  if reference.num_classes is None:
    raise UserError(
      '--features=classifier: IMAGES_B have no labels; take inception or random'
    )
  is_test = np.arange(len(reference)) % _TEST_SHARE == 0
  parts = (
    dataclasses.replace(
      reference,
      examples=reference.examples[chosen],
      labels=reference.labels[chosen],
    )
    for chosen in (~is_test, is_test)
  )
  return features_lib.of_classifier(
    classifier_lib.trained_on(*parts, progress=terminal.track)
  )


def _alike(a: ArraySource, b: ArraySource) -> tuple[np.ndarray, np.ndarray]:
  """Both sets with as many channels, grey ones repeated.

  Raises:
    UserError: if their images are of different sizes.
  """
  sizes = [f'{x.shape[2]} x {x.shape[1]}' for x in (a.examples, b.examples)]
  if sizes[0] != sizes[1]:
    raise UserError(
      f'IMAGES_A are of {sizes[0]} pixels and IMAGES_B of {sizes[1]}; make all '
      'images the same size'
    )
  channels = max(a.example_shape[-1], b.example_shape[-1])
  return tuple(
    x.examples
    if x.example_shape[-1] == channels
    else np.repeat(x.examples, channels, axis=-1)
    for x in (a, b)
  )


def compare(
  a: ArraySource, b: ArraySource, protocol: Protocol, eyes: references.Eyes
) -> tuple[dict[str, float], dict[str, object]]:
  """Judges images against others.

  Args:
    a: to be judged.
    b: to be judged against.
    protocol: what to measure.
    eyes: the network to see with.

  Returns:
    The metrics, those of `real_...` being of one half of b against the other;
    and how they were made.

  Raises:
    UserError: if the images cannot be compared, or are too few.
  """
  samples, real = _alike(a, b)
  evaluation.check_sizes(protocol, len(samples), len(real))
  extractor = _extractor(dataclasses.replace(b, examples=real), eyes)
  evaluation.check_classes(protocol, extractor)
  seen = [
    evaluation.look(extractor, images, terminal.track, keep=True)
    for images in (samples, real)
  ]
  metrics = evaluation.measure(*seen, protocol)
  order = np.random.default_rng(_SEED).permutation(len(real))
  halves = [
    evaluation.chosen(seen[1], part) for part in np.array_split(order, 2)
  ]
  found = {}
  if evaluation.is_enough(protocol, *map(len, halves)):
    found = evaluation.measure(*halves, protocol)
  metrics |= {f'real_{k}': v for k, v in found.items()}
  provenance = {
    'num_samples': len(samples),
    'num_real': len(real),
    'num_baseline': len(real) // 2 if found else 0,
    **extractor.provenance,
    **protocol.provenance(len(samples), len(real)),
  }
  return metrics, provenance


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_list(
    'metrics', [], 'Names, see above; all by default.', flag_values=values
  )
  flags.DEFINE_string(
    'output', None, 'FILE.json for all numbers.', flag_values=values
  )
  references.define_flags(values)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  paths = commands.parse(values, arguments, ('IMAGES_A', 'IMAGES_B'))
  if values.output:
    sample_files.check(values.output, is_file=True)
  metrics = references.metrics_of(values.metrics, _METRICS)
  protocol = Protocol(metrics, values.num_neighbours)
  start = time.monotonic()
  sets = [image_sets.read(path, terminal.track) for path in paths]
  found, provenance = compare(*sets, protocol, references.eyes_of(values))
  seconds = time.monotonic() - start
  numbers = ' and '.join(f'{len(images):,}' for images in sets)
  reports.print_metrics(
    found,
    f'{numbers} images, seen by {provenance["features"]}',
    this='A against B',
    baselines={'real': 'halves of B'},
  )
  print(f'In {terminal.duration(seconds)}.')
  if values.output:
    provenance |= {'images': list(paths), 'seconds': seconds}
    text = json.dumps({**found, 'provenance': provenance}, indent=2)
    sample_files.write_bytes(values.output, f'{text}\n'.encode())
    print(f'All numbers: {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
