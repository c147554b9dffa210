"""Measures the class balance of generated images.

  python -m benchmarks.class_shares --images=samples.npz [--dataset=digits]

A support vector machine with scikit-learn's default settings is fitted to the
training images of a labelled dataset, resized to the size of the samples. It is
scored on the test images and then classifies the samples.
"""

from collections.abc import Sequence
import sys
from zipfile import BadZipFile

from absl import flags
import numpy as np
from sklearn import svm

from common_flax import data
from common_flax.cli import commands
from common_flax.errors import UserError

_MAX_EXAMPLES = 10_000  # fitting an SVM takes quadratic time


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'images', None, 'An .npz file with an array "images".', flag_values=values
  )
  flags.DEFINE_string(
    'dataset',
    'digits',
    'digits, or a labelled TFDS dataset.',
    flag_values=values,
  )


def _pixels(images: np.ndarray) -> np.ndarray:
  return images.reshape(len(images), -1) / 255


def class_shares(images: np.ndarray, dataset: str) -> tuple[np.ndarray, float]:
  """Classifies images; returns class shares and the classifier's accuracy.

  Args:
    images: uint8 [N, S, S, C].
    dataset: name of a labelled dataset.

  Returns:
    Class shares [classes], summing to 1, and the accuracy in [0, 1] on the real
    test images.

  Raises:
    UserError: if the images and the dataset differ in shape.
  """
  train, test = (
    data.load_source(dataset, split, images.shape[1])
    for split in ('train', 'test')
  )
  if train.example_shape != images.shape[1:]:
    raise UserError(
      f'--images: shape {images.shape[1:]} differs from the '
      f'{train.example_shape} of --dataset={dataset}; give images of that shape'
    )
  classifier = svm.SVC()
  classifier.fit(
    _pixels(train.examples[:_MAX_EXAMPLES]), train.labels[:_MAX_EXAMPLES]
  )
  accuracy = classifier.score(
    _pixels(test.examples[:_MAX_EXAMPLES]), test.labels[:_MAX_EXAMPLES]
  )
  labels = classifier.predict(_pixels(images))
  counts = np.bincount(labels, minlength=train.num_classes)
  return counts / len(images), accuracy


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'images')
  try:
    with np.load(values.images, allow_pickle=False) as file:
      images = file['images']
  except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
    raise UserError(f'--images={values.images}: {error}') from error
  shares, accuracy = class_shares(images, values.dataset)
  print(f'accuracy on real test images: {accuracy:.1%}')
  print(f'classes of {len(images):,} images:')
  for label, share in enumerate(shares):
    print(f'  {label}: {share:.1%}')
  print(f'least: {shares.min():.1%}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
