"""A classifier trained on a data set's own classes, to evaluate samples with.

A small convolutional network is trained once on the real images and their
labels, and kept in the user's cache under a digest of its training data. Its
predictions on samples tell which classes a model generates, and how often. Its
penultimate layer is a feature space in which sets of images are compared, as
Heusel et al. (2017, arXiv:1706.08500) do with Inception.

Dimensions: N images, B batch, H height, W width, C channels, K classes,
F features.
"""

import dataclasses
import functools
import hashlib
import pathlib
from typing import Any

from flax import linen as nn
from flax import serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax

from common_flax import images as images_lib
from common_flax import prng
from common_flax.cpu import compiler
from common_flax.data import caches
from common_flax.data.batches import ExampleOrder
from common_flax.data.source import ArraySource
from common_flax.errors import UserError
from common_flax.metrics.chunks import in_chunks
from common_flax.progress import track

Params = Any

# Part of the cache key: increment when training changes.
_VERSION = 1

NUM_FEATURES = 128  # F
_FIRST_WIDTH, _LAST_WIDTH = 32, 128  # features of the convolutions
_LARGEST_MAP = 7  # pixels; larger feature maps are halved again
_DROPOUT_RATE = 0.2

_SEED = 0
_BATCH_SIZE = 64
# Three epochs, within these bounds on the number of steps.
_NUM_EPOCHS = 3
_MIN_STEPS = 1000
_MAX_STEPS = 10_000
_LEARNING_RATE = 3e-3
_WARMUP_SHARE = 0.1  # of the steps
_WEIGHT_DECAY = 0.01
_LABEL_SMOOTHING = 0.1
_MAX_SHIFT = 1 / 12  # of the image's side
_MAX_DISTORTION = 0.15  # of each coefficient of a linear map

_CHUNK = 250  # images per forward pass


class _Network(nn.Module):
  """Strided convolutions down to a small map, and two dense layers."""

  num_classes: int

  @nn.compact
  def __call__(
    self, images: jax.Array, *, is_training: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Features [B, F] and logits [B, K] of images in [-1, 1], [B, H, W, C]."""
    dropout = functools.partial(
      nn.Dropout, _DROPOUT_RATE, deterministic=not is_training
    )
    x, width = images, _FIRST_WIDTH
    while max(x.shape[1:3]) > _LARGEST_MAP:
      x = nn.relu(nn.Conv(width, (3, 3), strides=2)(x))
      width = min(2 * width, _LAST_WIDTH)
    x = dropout()(x.reshape(len(x), -1))
    features = nn.relu(nn.Dense(NUM_FEATURES)(x))
    return features, nn.Dense(self.num_classes)(dropout()(features))


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
  """A trained network; apply it with `labels` or `activations`."""

  params: Params
  image_shape: tuple[int, int, int]  # (H, W, C)
  num_classes: int  # K
  test_accuracy: float  # share of the test images classified correctly
  digest: str  # of the training and test data


@functools.partial(jax.jit, static_argnums=0)
def _forward(
  num_classes: int, params: Params, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Features [B, F] and logits [B, K] of images uint8 [B, H, W, C]."""
  return _Network(num_classes).apply(
    {'params': params}, images_lib.to_signed(images), is_training=False
  )


def agreement(
  predicted: np.ndarray, labels: np.ndarray, num_classes: int
) -> dict[str, Any]:
  """How often the predicted class is the label, over all and by class.

  Args:
    predicted: int32 [N].
    labels: int32 [N], the classes that were asked for.
    num_classes: K.
  """
  agrees = predicted == labels
  by_class = [
    float(agrees[labels == k].mean())
    for k in range(num_classes)
    if (labels == k).any()
  ]
  return {
    'label_agreement': float(agrees.mean()),
    'lowest_label_agreement': min(by_class),
    'label_agreement_by_class': by_class,
  }


def activations(
  classifier: Classifier, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The outputs of the network's last two layers.

  Args:
    classifier: from `load_or_train`.
    images: uint8 [N, H, W, C].

  Returns:
    Features float32 [N, F], non-negative, and logits float32 [N, K].

  Raises:
    ValueError: if the images do not have the classifier's shape.
  """
  if images.dtype != np.uint8 or images.shape[1:] != classifier.image_shape:
    raise ValueError(
      f'images are {images.dtype} {list(images.shape)}; the classifier takes '
      f'uint8 [N, {", ".join(map(str, classifier.image_shape))}]'
    )
  return in_chunks(
    functools.partial(_forward, classifier.num_classes, classifier.params),
    images,
    _CHUNK,
  )


def labels(classifier: Classifier, images: np.ndarray) -> np.ndarray:
  """Predicted classes int32 [N], from 0 to K - 1; see `activations`."""
  _, logits = activations(classifier, images)
  return np.argmax(logits, axis=-1).astype(np.int32)


def load_or_train(
  train: ArraySource,
  test: ArraySource,
) -> Classifier:
  """Returns the classifier of a data set, from the cache if it is there.

  On one machine the same images and labels give the same bits. If the cache
  cannot be written, the network is trained on every call.

  Args:
    train: labelled images to train on, 8 pixels a side or larger.
    test: images on which the accuracy is measured.

  Raises:
    UserError: if the images have no labels.
  """
  _check_labelled(train, test)
  digest = _digest(train, test)
  entry = caches.folder('classifiers') / digest
  content = caches.read(entry)
  if content is None:
    classifier = _train(train, digest)
    is_correct = labels(classifier, test.examples) == test.labels
    classifier = dataclasses.replace(
      classifier, test_accuracy=float(np.mean(is_correct))
    )
    _write(entry, classifier)
    return classifier
  return Classifier(
    image_shape=train.example_shape,
    num_classes=train.num_classes,
    digest=digest,
    **serialization.msgpack_restore(content),
  )


def _check_labelled(train: ArraySource, test: ArraySource) -> None:
  for source in (train, test):
    if source.num_classes is None or source.dtype != np.uint8:
      raise UserError(
        'config.dataset: training a classifier needs images with labels; '
        'choose a labelled data set, or a folder with one sub-folder per class'
      )


def _digest(train: ArraySource, test: ArraySource) -> str:
  """A digest of everything that training depends on."""
  digest = hashlib.blake2b(repr(_VERSION).encode(), digest_size=16)
  for source in (train, test):
    kind = (source.examples.shape, source.num_classes)
    digest.update(repr(kind).encode())
    digest.update(np.ascontiguousarray(source.labels, '<i4'))
    for start in range(0, len(source), _CHUNK):
      chunk = source.examples[start : start + _CHUNK]
      digest.update(np.ascontiguousarray(chunk))
  return digest.hexdigest()


def _write(entry: pathlib.Path, classifier: Classifier) -> None:
  content = serialization.msgpack_serialize(
    {
      'params': jax.tree.map(np.asarray, classifier.params),
      'test_accuracy': classifier.test_accuracy,
    }
  )
  caches.write(entry, content)


def _num_steps(num_examples: int) -> int:
  num_steps = _NUM_EPOCHS * num_examples // _BATCH_SIZE
  return min(max(num_steps, _MIN_STEPS), _MAX_STEPS)


def _optimiser(num_steps: int) -> optax.GradientTransformation:
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, _LEARNING_RATE, round(_WARMUP_SHARE * num_steps), num_steps
  )
  return optax.adamw(schedule, weight_decay=_WEIGHT_DECAY)


def _train(train: ArraySource, digest: str) -> Classifier:
  """Trains a network; its accuracy is not yet measured, nan."""
  network = _Network(train.num_classes)
  num_steps = _num_steps(len(train))
  tx = _optimiser(num_steps)
  root = prng.root_key(_SEED)
  params, opt_state = _init(network, tx, train.example_shape, root)
  # One call per step: inside a compiled loop, XLA runs a CPU's convolutions on
  # a single thread.
  step = jax.jit(
    functools.partial(_step, network, tx, root), donate_argnums=(0, 1)
  )
  order = ExampleOrder(len(train), _SEED)
  description = 'Training a classifier'
  for t in track(range(num_steps), num_steps, description):
    batch = order.batch(_BATCH_SIZE, t)
    params, opt_state = step(
      params, opt_state, train.examples[batch], train.labels[batch], np.int32(t)
    )
  return Classifier(
    params=params,
    image_shape=train.example_shape,
    num_classes=train.num_classes,
    test_accuracy=np.nan,
    digest=digest,
  )


def _init(
  network: _Network,
  tx: optax.GradientTransformation,
  image_shape: tuple[int, ...],
  root: jax.Array,
) -> tuple[Params, optax.OptState]:
  @functools.partial(jax.jit, compiler_options=compiler.for_single_run())
  def init(key: jax.Array) -> tuple[Params, optax.OptState]:
    images = jnp.zeros((1, *image_shape))
    params = network.init(key, images, is_training=False)['params']
    return params, tx.init(params)

  return init(prng.stream(root, 'init'))


def _step(
  network: _Network,
  tx: optax.GradientTransformation,
  root: jax.Array,
  params: Params,
  opt_state: optax.OptState,
  images: jax.Array,
  classes: jax.Array,
  step: jax.Array,
) -> tuple[Params, optax.OptState]:
  """One update on images uint8 [B, H, W, C] and classes int32 [B]."""
  key_augment, key_dropout = jax.random.split(prng.stream(root, 'train', step))
  images = _distort(key_augment, images_lib.to_signed(images))

  def loss(params: Params) -> jax.Array:
    _, logits = network.apply(
      {'params': params},
      images,
      is_training=True,
      rngs={'dropout': key_dropout},
    )
    targets = jax.nn.one_hot(classes, network.num_classes)
    targets = optax.smooth_labels(targets, _LABEL_SMOOTHING)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))

  updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
  return optax.apply_updates(params, updates), opt_state


def _distort(key: jax.Array, images: jax.Array) -> jax.Array:
  """Augments each image with a random affine map close to the identity.

  The map rotates, scales, shears and shifts the image a little. Pixels beyond
  the edges repeat the nearest one inside.

  Args:
    key: consumed.
    images: floats [B, H, W, C].

  Returns:
    [B, H, W, C].
  """
  sizes = jnp.asarray(images.shape[1:3])[:, None, None]
  centre = (sizes - 1) / 2
  grid = jnp.indices(images.shape[1:3]) - centre  # [2, H, W]

  def distort_one(draws: jax.Array, image: jax.Array) -> jax.Array:
    linear = jnp.eye(2) + _MAX_DISTORTION * draws[:, :2]
    shift = _MAX_SHIFT * sizes * draws[:, 2:, None]
    places = jnp.einsum('ij,jhw->ihw', linear, grid) + centre + shift

    def channel(values: jax.Array) -> jax.Array:
      return jax.scipy.ndimage.map_coordinates(
        values, places, order=1, mode='nearest'
      )

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)

  draws = jax.random.uniform(key, (len(images), 2, 3), minval=-1.0)
  return jax.vmap(distort_one)(draws, images)
