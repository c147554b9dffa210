"""What the samples of a run are compared with: real images of its data set.

A split of the data set is the reference. Another one, judged as if it were
samples, says what real images themselves would score: the baseline without
which the numbers cannot be read.

Dimensions: N images, H height, W width, C channels.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict
import numpy as np

from common_flax import evaluation
from common_flax import sources
from common_flax import terminal
from common_flax.config import UserError
from common_flax.data.source import Source
from common_flax.evaluation import Nearest
from common_flax.evaluation import Protocol
from common_flax.evaluation import Seen
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import features as features_lib
from common_flax.metrics.classifier import Classifier
from common_flax.metrics.features import Extractor
from common_flax.metrics.features import FEATURES
from common_flax.metrics.resizing import RESIZES

# Real images of a split that are looked at, as most published figures have it.
MAX_REAL = 50_000

AUTO = 'auto'


@dataclasses.dataclass(frozen=True)
class Eyes:
  """Which network looks at images; the fields are flags of commands."""

  features: str  # AUTO, or one of FEATURES
  inception_weights: str | None  # a file
  resize: str  # of RESIZES


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags that say how images are compared."""
  flags.DEFINE_enum(
    'features',
    AUTO,
    (AUTO, *FEATURES),
    'Network to see with; by default inception if its weights are given, else '
    'a classifier of labelled images, else a fixed random one.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'inception_weights',
    None,
    'pt_inception-2015-12-05-6726825d.pth; by default it is downloaded if it '
    'is needed.',
    flag_values=values,
  )
  flags.DEFINE_enum(
    'resize',
    'clean',
    tuple(RESIZES),
    'How images come to 299 x 299 pixels for inception.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_neighbours',
    evaluation.DEFAULT_NEIGHBOURS,
    'Whose distance is the radius around an image.',
    1,
    flag_values=values,
  )


def eyes_of(values: flags.FlagValues) -> Eyes:
  """The network that the flags choose."""
  return Eyes(values.features, values.inception_weights, values.resize)


def metrics_of(names: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
  """The metrics that --metrics names; all that are known if it names none.

  Raises:
    UserError: naming one that is unknown.
  """
  for name in names:
    if name not in known:
      raise UserError(
        f'--metrics={name}: there is no such metric here; take some of '
        f'{",".join(known)}'
      )
  return tuple(dict.fromkeys(names)) or known


def metrics_in_training(names: Sequence[str]) -> tuple[str, ...]:
  """The metrics of config.evaluation_metrics.

  Raises:
    UserError: naming one that is unknown, or not for training.
  """
  known = [name for name in evaluation.METRICS if name != 'nearest']
  for name in names:
    if name not in known:
      raise UserError(
        f'config.evaluation_metrics={name!r}: take some of {", ".join(known)}'
      )
  return tuple(names)


def classifier_of(dataset: ConfigDict) -> Classifier:
  """The classifier of a labelled data set; of stacks that of their channels.

  Raises:
    UserError: if its images have no labels.
  """
  known = sources.base_of(dataset) if dataset.name == 'stacked' else dataset
  return classifier_lib.trained_on(
    sources.load(known, 'train'),
    sources.load(known, 'test'),
    progress=terminal.track,
  )


def choose(eyes: Eyes, *, is_labelled: bool) -> str:
  """The name of the network to see with, of FEATURES."""
  if eyes.features != AUTO:
    return eyes.features
  if eyes.inception_weights:
    return 'inception'
  return 'classifier' if is_labelled else 'random'


def without_labels(name: str, eyes: Eyes) -> Extractor:
  """The network 'inception' or 'random'.

  Raises:
    UserError: if there are no weights for it.
  """
  if name == 'inception':
    return features_lib.of_inception(eyes.inception_weights, eyes.resize)
  return features_lib.of_random_network()


def extractor_of(
  dataset: ConfigDict, num_classes: int | None, eyes: Eyes
) -> Extractor:
  """The network that looks at a data set's images.

  Args:
    dataset: a run's `config.dataset`.
    num_classes: of its images; None if they have no labels.
    eyes: which one.

  Raises:
    UserError: if there are no weights or labels for it.
  """
  name = choose(eyes, is_labelled=num_classes is not None)
  if name != 'classifier':
    return without_labels(name, eyes)
  if num_classes is None:
    raise UserError(
      '--features=classifier: the data set has no labels; take inception or '
      'random'
    )
  make = features_lib.of_classifier
  if dataset.name == 'stacked':
    make = features_lib.of_stacks
  return make(classifier_of(dataset))


class Judged(NamedTuple):
  """What samples were found to be."""

  metrics: dict[str, float]
  picture: np.ndarray | None  # uint8 [H', W', C], if 'nearest' was asked for


def _see(extractor: Extractor, source: Source) -> Seen:
  images = sources.first_examples(source, MAX_REAL)
  return evaluation.look(extractor, images, terminal.track, keep=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
  """Real images of a data set, seen and ready to compare with."""

  extractor: Extractor
  protocol: Protocol
  real: Seen  # of the split asked for
  other: Seen | None  # of another split, if it is needed and there
  train: Seen | None  # one of the two; None unless 'nearest' is asked for
  held_out: Nearest | None  # of the one that is not

  def judge(self, samples: np.ndarray) -> Judged:
    """Judges samples, uint8 [N, H, W, C]."""
    seen = evaluation.look(self.extractor, samples, terminal.track)
    metrics = evaluation.measure(seen, self.real, self.protocol)
    if self.held_out is None:
      return Judged(metrics, None)
    closest = evaluation.nearest(seen, self.train)
    metrics |= evaluation.memorisation(closest, self.held_out)
    picture = evaluation.nearest_picture(samples, self.train.images, closest)
    return Judged(metrics, picture)

  def baseline(self, num_samples: int) -> dict[str, float]:
    """What as many real images of the other split score, if there is one."""
    if self.other is None:
      return {}
    some = evaluation.chosen(self.other, slice(num_samples))
    if not evaluation.is_enough(self.protocol, len(some), len(self.real)):
      return {}
    metrics = evaluation.measure(some, self.real, self.protocol)
    if self.held_out is not None:
      metrics |= evaluation.memorisation(self.held_out, self.held_out)
    return metrics

  def provenance(self, num_samples: int) -> dict[str, Any]:
    """How the metrics of so many samples are made."""
    found = {'num_real': len(self.real), **self.extractor.provenance}
    if self.other is not None:
      found['num_baseline'] = min(num_samples, len(self.other))
    if self.train is not None:
      found['num_train'] = len(self.train)
    return found | self.protocol.provenance(num_samples, len(self.real))


def of_data(
  open_split: Callable[[str], Source],
  dataset: ConfigDict,
  split: str,
  eyes: Eyes,
  protocol: Protocol,
  num_samples: int,
) -> Reference:
  """The reference for samples of a run.

  Args:
    open_split: opens the split of a name, the images as models see them.
    dataset: the run's `config.dataset`.
    split: to compare with; the baseline is 'train', or 'test' for that.
    eyes: the network to see with.
    protocol: what to measure.
    num_samples: how many there will be.

  Raises:
    UserError: if there is no such split, nothing to see with, or there are too
      few images or samples.
  """
  source = open_split(split)
  evaluation.check_sizes(protocol, num_samples, len(source))
  extractor = extractor_of(dataset, source.num_classes, eyes)
  evaluation.check_classes(protocol, extractor)
  real, other = _see(extractor, source), None
  try:
    another = open_split('test' if split == 'train' else 'train')
    other = _see(extractor, another)
  except UserError as error:  # there is none
    if 'nearest' in protocol.metrics:
      raise UserError(
        f'--metrics=nearest: needs another split; {error}'
      ) from error
  train, held_out = None, None
  if 'nearest' in protocol.metrics:
    train, rest = (real, other) if split == 'train' else (other, real)
    held_out = evaluation.nearest(rest, train)
  return Reference(extractor, protocol, real, other, train, held_out)


def of_training(
  dataset: ConfigDict, source: Source, eyes: Eyes, protocol: Protocol
) -> Reference:
  """The reference for samples of a run in training: what it is trained on.

  Raises:
    UserError: if there is nothing to see with.
  """
  extractor = extractor_of(dataset, source.num_classes, eyes)
  evaluation.check_classes(protocol, extractor)
  return Reference(
    extractor, protocol, _see(extractor, source), None, None, None
  )
