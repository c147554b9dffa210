"""Networks through whose eyes sets of images are compared.

Three kinds, and a report always says which it was: InceptionV3, in which the
field's published figures are; a classifier of the data set's own classes; and a
fixed random network, where there are neither weights nor labels.

Dimensions: N images, H height, W width, C channels, F features, K classes.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import hashlib
import io
from typing import Any
from typing import NamedTuple
import zipfile

import numpy as np

from common_flax import caches
from common_flax import images as images_lib
from common_flax.data.source import Progress
from common_flax.data.stacked import NUM_CHANNELS
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import inception as inception_lib
from common_flax.metrics import random_network
from common_flax.metrics.classifier import Classifier

FEATURES = ('inception', 'classifier', 'random')

_DIGEST_BYTES = 16


class Activations(NamedTuple):
  """What a network says of images."""

  features: np.ndarray  # float32 [N, F]
  logits: np.ndarray | None  # float32 [N, K], of a network that classifies


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
  """A network that is ready to look at images."""

  name: str  # one of FEATURES
  digest: str  # of its weights and of how images are prepared for it
  has_classes: bool  # and so logits
  apply: Callable[[np.ndarray, Progress], Activations]  # of uint8 [N, H, W, C]
  provenance: Mapping[str, Any]  # what a report says of it


def of_inception(weights: str | None, resize: str) -> Extractor:
  """InceptionV3.

  Args:
    weights: file; None for the published one, downloaded the first time.
    resize: one of `resizing.RESIZES`.

  Raises:
    UserError: if there are no weights.
  """
  inception = inception_lib.load(weights, resize)
  return Extractor(
    'inception',
    f'inception-{inception.digest}-{resize}',
    True,
    lambda images, progress: Activations(
      *inception_lib.activations(inception, images, progress)
    ),
    {
      'features': 'inception',
      'features_sha256': inception.digest,
      'resize': resize,
    },
  )


def of_classifier(classifier: Classifier) -> Extractor:
  """A classifier of the data set's own classes."""
  return Extractor(
    'classifier',
    f'classifier-{classifier.digest}',
    True,
    lambda images, unused_progress: Activations(
      *classifier_lib.activations(classifier, images)
    ),
    _of_classifier(classifier),
  )


def of_stacks(classifier: Classifier) -> Extractor:
  """A classifier of stacked images' channels, its features side by side."""

  def apply(images: np.ndarray, unused_progress: Progress) -> Activations:
    channels = [
      classifier_lib.activations(classifier, images[..., c : c + 1])[0]
      for c in range(NUM_CHANNELS)
    ]
    return Activations(np.concatenate(channels, axis=-1), None)

  return Extractor(
    'classifier',
    f'stacks-{classifier.digest}',
    False,
    apply,
    _of_classifier(classifier),
  )


def _of_classifier(classifier: Classifier) -> dict[str, Any]:
  return {
    'features': 'classifier',
    'features_digest': classifier.digest,
    'classifier_test_accuracy': classifier.test_accuracy,
  }


def of_random_network() -> Extractor:
  """The fixed random network."""
  digest = random_network.DIGEST
  return Extractor(
    'random',
    digest,
    False,
    lambda images, progress: Activations(
      random_network.features(images, progress), None
    ),
    {'features': 'random', 'features_digest': digest},
  )


def kept(
  extractor: Extractor, images: np.ndarray, progress: Progress
) -> Activations:
  """The activations of real images, from the user's cache if they are there.

  An entry's name is a digest of the network and of every byte of the images, so
  that an old entry is never taken for other images or another network.

  Args:
    extractor: the network.
    images: uint8 [N, H, W, C].
    progress: shows how far it is, see `load_encoded`.
  """
  digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
  digest.update(repr((extractor.digest, images.shape)).encode())
  digest.update(np.ascontiguousarray(images))
  entry = caches.folder('activations') / f'{digest.hexdigest()}.npz'
  try:
    data = io.BytesIO(entry.read_bytes())
    with np.load(data, allow_pickle=False) as arrays:
      return Activations(arrays['features'], arrays.get('logits'))
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    pass  # not there, or damaged
  found = extractor.apply(images, progress)
  buffer = io.BytesIO()
  np.savez(
    buffer, **{k: v for k, v in found._asdict().items() if v is not None}
  )
  try:
    entry.parent.mkdir(parents=True, exist_ok=True)
    images_lib.write_bytes(entry, buffer.getvalue())
  except OSError:  # the next call looks at them again
    pass
  return found
