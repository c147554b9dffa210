"""Feature extractors: the networks in whose features images are compared.

There are three kinds, and every report names the one used: InceptionV3, which
published results rely on; a classifier trained on the data set's own classes;
and a fixed random network, which needs neither weights nor labels.

Dimensions: N images, H height, W width, C channels, F features, K classes.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import hashlib
import io
from typing import Any
from typing import NamedTuple

import numpy as np

from common_flax.data import caches
from common_flax.data.stacked import NUM_CHANNELS
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import inception as inception_lib
from common_flax.metrics import random_network
from common_flax.metrics.classifier import Classifier

FEATURES = ('inception', 'classifier', 'random')

_DIGEST_BYTES = 16


class Activations(NamedTuple):
  """A network's outputs for a set of images."""

  features: np.ndarray  # float32 [N, F]
  logits: np.ndarray | None  # float32 [N, K], if the network is a classifier


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
  """A feature extractor with its weights."""

  name: str  # one of FEATURES
  digest: str  # of the weights and the preprocessing; the cache key
  has_classes: bool  # whether `apply` gives logits
  apply: Callable[[np.ndarray], Activations]  # takes uint8 [N, H, W, C]
  provenance: Mapping[str, Any]  # entries for a report


def inception_extractor(weights: str | None, resize: str) -> Extractor:
  """Creates the extractor of InceptionV3 features.

  Args:
    weights: path of the weights; None for the published ones, which are
      downloaded the first time.
    resize: one of `resizing.RESIZES`.

  Raises:
    UserError: if the weights cannot be found, downloaded or read.
  """
  inception = inception_lib.load(weights, resize)
  return Extractor(
    'inception',
    f'inception-{inception.digest}-{resize}',
    True,
    lambda images: Activations(*inception_lib.activations(inception, images)),
    {
      'features': 'inception',
      'features_sha256': inception.digest,
      'resize': resize,
    },
  )


def classifier_extractor(classifier: Classifier) -> Extractor:
  """Creates the extractor of a classifier's penultimate features."""
  return Extractor(
    'classifier',
    f'classifier-{classifier.digest}',
    True,
    lambda images: Activations(*classifier_lib.activations(classifier, images)),
    _classifier_provenance(classifier),
  )


def stacked_classifier_extractor(classifier: Classifier) -> Extractor:
  """Creates the extractor for stacked images.

  It classifies each channel alone and concatenates the features.
  """

  def apply(images: np.ndarray) -> Activations:
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
    _classifier_provenance(classifier),
  )


def _classifier_provenance(classifier: Classifier) -> dict[str, Any]:
  return {
    'features': 'classifier',
    'features_digest': classifier.digest,
    'classifier_test_accuracy': classifier.test_accuracy,
  }


def random_extractor() -> Extractor:
  """Creates the extractor of the fixed random network's features."""
  digest = random_network.DIGEST
  return Extractor(
    'random',
    digest,
    False,
    lambda images: Activations(random_network.features(images), None),
    {'features': 'random', 'features_digest': digest},
  )


def cached(extractor: Extractor, images: np.ndarray) -> Activations:
  """Applies an extractor to images through the user's cache.

  The cache key is a digest of the network and of every byte of the images, so
  an entry is never used for other images or another network.

  Args:
    extractor: the network.
    images: uint8 [N, H, W, C].
  """
  digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
  digest.update(repr((extractor.digest, images.shape)).encode())
  digest.update(np.ascontiguousarray(images))
  entry = caches.folder('activations') / f'{digest.hexdigest()}.npz'
  content = caches.read(entry)
  if content is not None:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
      return Activations(arrays['features'], arrays.get('logits'))
  activations = extractor.apply(images)
  buffer = io.BytesIO()
  np.savez(
    buffer, **{k: v for k, v in activations._asdict().items() if v is not None}
  )
  caches.write(entry, buffer.getvalue())
  return activations
