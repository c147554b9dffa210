"""Scores one set of images against another, whatever made them.

  python -m common_flax.compare IMAGES_A IMAGES_B [--output=FILE.json]
      [--metrics=NAME,NAME] [--features=inception|classifier|random]
      [--inception_weights=FILE] [--resize=clean|legacy] [--num_neighbours=5]

IMAGES_A are the samples and IMAGES_B the real images: precision is the share of
A on the manifold of B, recall the share of B on the manifold of A. Each is a
folder of images, or an .npz or .npy of them as `common_flax.data.arrays` reads
it; all images must have the same size. The metrics are fid, kid,
inception_score, precision, recall, density, coverage and sliced_wasserstein.
The classifier features need labels of B: one sub-folder per class, or the array
`labels` [N]. As a baseline, one half of B is scored against the other. Prints a
table, and writes all numbers to --output.
"""

from collections.abc import Sequence
import dataclasses
import json
import sys
import time

from absl import flags
import numpy as np

from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.cli import terminal
from common_flax.data import image_sets
from common_flax.data.source import ArraySource
from common_flax.errors import UserError
from common_flax.evaluation import protocol as protocol_lib
from common_flax.evaluation import reference_sets
from common_flax.evaluation import report
from common_flax.evaluation.protocol import METRICS
from common_flax.evaluation.protocol import Protocol
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import features as features_lib
from common_flax.metrics.features import Extractor

_METRICS = tuple(name for name in METRICS if name != 'nearest')
_TEST_EVERY = 10  # every tenth image tests the classifier
_SEED = 0  # of the split of B into halves


def _create_extractor(real: ArraySource, spec: ExtractorSpec) -> Extractor:
  """Creates the feature extractor.

  Raises:
    UserError: if the weights or labels that it needs are missing.
  """
  name = spec.resolve(is_labelled=False)
  if name != 'classifier':
    return reference_sets.create_unsupervised_extractor(name, spec)
  if real.num_classes is None:
    raise UserError(
      '--features=classifier: IMAGES_B have no labels; choose inception or '
      'random'
    )
  is_test = np.arange(len(real)) % _TEST_EVERY == 0
  train, test = (
    dataclasses.replace(
      real, examples=real.examples[mask], labels=real.labels[mask]
    )
    for mask in (~is_test, is_test)
  )
  return features_lib.classifier_extractor(
    classifier_lib.load_or_train(train, test)
  )


def _match_channels(
  a: ArraySource, b: ArraySource
) -> tuple[np.ndarray, np.ndarray]:
  """The images of both sets; if one set is grey and one in colour, as colour.

  Raises:
    UserError: if the sets have different image sizes.
  """
  sizes = [f'{x.shape[2]} x {x.shape[1]}' for x in (a.examples, b.examples)]
  if sizes[0] != sizes[1]:
    raise UserError(
      f'IMAGES_A have {sizes[0]} pixels and IMAGES_B {sizes[1]}; make all '
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
  a: ArraySource, b: ArraySource, protocol: Protocol, spec: ExtractorSpec
) -> tuple[dict[str, float], dict[str, object]]:
  """Scores one set of images against another.

  Args:
    a: the images to score.
    b: the reference images.
    protocol: the metrics.
    spec: the feature extractor.

  Returns:
    The metrics, with `real_...` for one half of b scored against the other; and
    what they depend on.

  Raises:
    UserError: if the sets cannot be compared, or are too small.
  """
  samples, real = _match_channels(a, b)
  protocol_lib.check_sizes(protocol, len(samples), len(real))
  extractor = _create_extractor(dataclasses.replace(b, examples=real), spec)
  protocol_lib.note_missing_classes(protocol, extractor)
  extracted_a, extracted_b = (
    protocol_lib.extract(extractor, images, use_cache=True)
    for images in (samples, real)
  )
  metrics = protocol_lib.compute_metrics(extracted_a, extracted_b, protocol)
  order = np.random.default_rng(_SEED).permutation(len(real))
  halves = [extracted_b.subset(half) for half in np.array_split(order, 2)]
  baseline = {}
  if protocol_lib.has_enough_images(protocol, *map(len, halves)):
    baseline = protocol_lib.compute_metrics(*halves, protocol)
  metrics |= {f'real_{k}': v for k, v in baseline.items()}
  provenance = {
    'num_samples': len(samples),
    'num_real': len(real),
    'num_baseline': len(real) // 2 if baseline else 0,
    **extractor.provenance,
    **protocol.provenance(len(samples), len(real)),
  }
  return metrics, provenance


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_list(
    'metrics',
    [],
    'Names of metrics, see above; all by default.',
    flag_values=values,
  )
  flags.DEFINE_string('output', None, 'FILE.json to write.', flag_values=values)
  reference_sets.define_flags(values)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  paths = commands.parse(values, arguments, ('IMAGES_A', 'IMAGES_B'))
  if values.output:
    outputs.check(values.output, [outputs.NUMBERS])
  metrics = reference_sets.requested_metrics(values.metrics, _METRICS)
  reference_sets.check_flags(values, metrics)
  protocol = Protocol(metrics, values.num_neighbours)
  start = time.monotonic()
  sets = [image_sets.read(path) for path in paths]
  spec = reference_sets.extractor_spec(values)
  metrics, provenance = compare(*sets, protocol, spec)
  seconds = time.monotonic() - start
  sizes = ' and '.join(f'{len(images):,}' for images in sets)
  report.print_metrics(
    metrics,
    f'{sizes} images, {provenance["features"]} features',
    this='A against B',
    baselines={'real': 'halves of B'},
  )
  print(f'Compared in {terminal.duration(seconds)}.')
  if values.output:
    provenance |= {'images': list(paths), 'seconds': seconds}
    text = json.dumps({**metrics, 'provenance': provenance}, indent=2)
    outputs.write_bytes(values.output, f'{text}\n'.encode())
    print(f'All numbers: {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
