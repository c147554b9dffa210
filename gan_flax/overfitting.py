"""Watches whether the discriminator memorises its training images.

A discriminator that has learnt what real images are like scores training and
held-out images alike. One that knows its training images by heart scores
held-out images like generated ones, and the generator learns from it no more.
Karras et al. (2020), arXiv:2006.06676, equation 1, measure this as

  r_v = (E[f(train)] - E[f(held out)]) / (E[f(train)] - E[f(generated)]).

Dimensions: N examples, H height, W width, C channels.
"""

from collections.abc import Sequence
import functools
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.data.batches import Labelled
from common_flax.data.source import Source
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from common_flax.training.health import Row
from common_flax.training.health import Verdict
from common_flax.training.watch import Watch
from gan_flax import batches
from gan_flax.gan import for_whole_batches
from gan_flax.gan import GAN
from gan_flax.models.discriminators import GROUP_SIZE
from gan_flax.state import GANState

_NUM_EXAMPLES = 128  # of each kind; a report costs less than one train step
_NUM_FEWEST = 32  # fewer held-out images tell nothing
_HIGH = 0.5  # above this, the discriminator knows most images by heart
_NUM_HIGH = 5  # consecutive high reports before a warning

_WARNING = (
  'the discriminator memorises its training images: it scores held-out images '
  '{share:.0%} of the way down from training images to samples, for '
  f'{_NUM_HIGH} reports now. Try {{cure}}, more images, or fewer steps.'
)
_AUGMENTATION = (
  'augmentation (augmentation.name=ada or augmentation.translation=True)'
)
_MORE_AUGMENTATION = 'a lower augmentation.target'


def held_out_source(dataset: ConfigDict, source: Source) -> Source | None:
  """Opens images that a run does not train on, for comparison.

  Args:
    dataset: the run's `config.dataset`.
    source: the images that the run trains on.

  Returns:
    Some images of the split 'test'; None if there are too few, if the run
    trains on another split than 'train' or a part of it, or if the examples
    are points or were given from Python.
  """
  if dataset.name in (*WORLDS, data.CUSTOM):
    return None
  if dataset.split.split('[')[0] != 'train' or '+' in dataset.split:
    return None
  # Of a prepared data set only those images are read that are needed.
  is_whole = dataset.name in ('digits', 'folder', 'stacked')
  try:
    split = 'test' if is_whole else f'test[:{_NUM_EXAMPLES}]'
    held_out = data.load(dataset, split)
  except UserError:  # there is no such split
    return None
  is_alike = held_out.example_shape == source.example_shape
  return held_out if is_alike and len(held_out) >= _NUM_FEWEST else None


@functools.partial(jax.jit, static_argnums=0)
def measure(
  gan: GAN,
  train: Labelled,
  held_out: Labelled,
  root: jax.Array,
  state: GANState,
) -> dict[str, jax.Array]:
  """Compares the discriminator's scores of known and of unknown images.

  Neither is distorted. Each kind is one batch, in train mode, as in training.

  Args:
    gan: the static part.
    train: training images, uint8 [N, H, W, C], and labels int32 [N].
    held_out: as many other real images.
    root: the run's root key, not consumed.
    state: the state.

  Returns:
    `d_train_score` and `d_held_out_score`, mean logits, and `d_overfit`, r_v
    between 0 and 1. Where the discriminator tells training images from samples
    by less than the standard deviation of their logits, r_v is relative to
    that deviation; it would be noise otherwise.
  """

  def apply(module, net, x, labels):
    # These batches are not split over devices, even if training batches are.
    outputs, _ = for_whole_batches(module).apply(
      {'params': net.params, 'batch_stats': net.batch_stats},
      x,
      labels if gan.is_conditional else None,
      train=True,
      mutable=['batch_stats'],
    )
    return outputs

  def logits(x, labels):
    x = batches.pack(x, gan.packing)
    return apply(gan.discriminator, state.discriminator, x, labels)

  key = prng.stream(root, 'watch')
  latents = batches.draw_latents(gan, key, len(train.labels))
  samples = apply(gan.generator, state.generator, latents, train.labels)
  of_train, of_held_out = (
    logits(images_lib.to_signed(images, gan.dtype), labels)
    for images, labels in (train, held_out)
  )
  score = of_train.mean()
  gap = score - logits(samples, train.labels).mean()
  tiny = jnp.finfo(of_train.dtype).tiny
  unit = jnp.maximum(jnp.maximum(gap, of_train.std()), tiny)
  return {
    'd_train_score': score,
    'd_held_out_score': of_held_out.mean(),
    'd_overfit': jnp.clip((score - of_held_out.mean()) / unit, 0, 1),
  }


def judge(rows: Sequence[Row], is_adaptive: bool = False) -> Verdict:
  """Warns of a discriminator that overfits for several reports.

  Args:
    rows: the rows of metrics.jsonl, ordered by step.
    is_adaptive: whether ADA distorts the images already.
  """
  latest = [row.get('d_overfit') for row in rows[-_NUM_HIGH:]]
  lowest = min(math.nan if x is None else x for x in latest)
  if len(latest) < _NUM_HIGH or not lowest > _HIGH or None in latest:
    return Verdict()
  cure = _MORE_AUGMENTATION if is_adaptive else _AUGMENTATION
  return Verdict(_WARNING.format(share=latest[-1], cure=cure))


def overfit_watch(gan: GAN, source: Source, config: ConfigDict) -> Watch | None:
  """Creates the hook that measures overfitting; None without held-out images.

  Args:
    gan: the static part.
    source: the training data.
    config: the run's config.
  """
  held_out = held_out_source(config.dataset, source)
  if held_out is None:
    return None
  sizes = len(source), len(held_out), _NUM_EXAMPLES, 2 * config.batch_size
  num = min(sizes)
  num -= num % (gan.packing * GROUP_SIZE)
  if not num:
    return None
  return Watch(
    functools.partial(measure, gan, _first(source, num), _first(held_out, num)),
    functools.partial(judge, is_adaptive=gan.is_adaptive),
  )


def _first(source: Source, num: int) -> Labelled:
  """The first `num` images of a source, and their labels."""
  labels = [source[i]['label'] for i in range(num)]
  return Labelled(data.first_examples(source, num), np.array(labels, np.int32))
