"""Sources of images and points, opened by name or made from arrays."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from common_flax.data import digits
from common_flax.data import own
from common_flax.data import stacked
from common_flax.data import worlds
from common_flax.data.arrays import from_arrays
from common_flax.data.decoded_images import load_decoded
from common_flax.data.fields import CUSTOM
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.data.source import ArraySource
from common_flax.data.source import check_source
from common_flax.data.source import class_names
from common_flax.data.source import first_examples
from common_flax.data.source import Source
from common_flax.data.tfds_images import TfdsImages
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from common_flax.images import sides
from common_flax.images import Size

__all__ = [
  'ArraySource',
  'Source',
  'class_names',
  'first_examples',
  'for_source',
  'from_arrays',
  'given',
  'load',
  'load_for_training',
  'load_source',
  'of_run',
  'rendering_of',
  'stacked_base',
]

# Larger decoded sources are memory-mapped.
IN_MEMORY_BYTES = 2**30


def given(source: Any, labels: Any = None) -> Source | None:
  """The source that a caller gives from Python.

  Args:
    source: an array of images, see `from_arrays`; or a source, which is checked
      at a few of its examples; or None.
    labels: labels of the images of an array.

  Raises:
    UserError: if they cannot be trained on.
  """
  if source is None:
    if labels is not None:
      raise UserError('labels: belong to an array of images; give it as source')
    return None
  is_array = hasattr(source, '__array__') or isinstance(source, list | tuple)
  if is_array and not hasattr(source, 'example_shape'):
    return from_arrays(source, labels)
  if labels is not None:
    raise UserError('labels: belong to an array; a source has its own labels')
  check_source(source)
  return source


def of_run(config: ConfigDict, source: Source | None) -> Source:
  """The training data of a run: what was given, or what its config names."""
  if source is not None:
    return source
  return load_for_training(config.dataset)


def for_source(config: ConfigDict, source: Source | None) -> ConfigDict:
  """The config of a run whose source is given from Python.

  Args:
    config: of the run; returned as it is without a source.
    source: the given images.

  Returns:
    The config with `dataset.name` 'custom', so that nothing mistakes the data
    for that which the config named.

  Raises:
    UserError: if the source holds no images of `dataset.image_size`.
  """
  if source is None:
    return config
  if len(source.example_shape) != 3:
    raise UserError(
      'source: holds points, and runs take images from Python; for points, set '
      f'config.dataset.name={" or ".join(WORLDS)}'
    )
  size = config.dataset.image_size
  if tuple(source.example_shape[:-1]) != sides(size):
    raise UserError(
      f'config.dataset.image_size={size}: the examples of the source have the '
      f'shape {source.example_shape}; set it to their height and width'
    )
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.dataset.name = CUSTOM
  return config


def load(
  dataset: ConfigDict, split: str, *, for_training: bool = False
) -> Source:
  """Opens one split of the data set of a run's `config.dataset`.

  Args:
    dataset: the run's `config.dataset`.
    split: the split.
    for_training: whether `dataset.crop` 'random' has an effect; without
      training, it is 'center'.

  Raises:
    UserError: naming the wrong field or file.
  """
  if dataset.name == CUSTOM:
    raise UserError(
      f'config.dataset.name={CUSTOM!r}: this data was given from Python, and a '
      'command cannot load it; call train(config, workdir, source=SOURCE)'
    )
  is_cropped = for_training and dataset.crop == 'random'
  source = load_source(
    dataset.name,
    split,
    dataset.image_size,
    data_dir=dataset.data_dir,
    path=dataset.path,
    labels=dataset.labels,
    stack_of=dataset.stack_of,
    skip_corrupt=dataset.skip_corrupt,
    rendering=rendering_of(dataset),
    is_cropped=is_cropped,
  )
  wide = getattr(source, 'wide', None)
  if not is_cropped or (wide is not None and wide.can_differ):
    return source
  note = (
    'dataset.crop=random changes nothing: all images have the shape of '
    f'dataset.image_size={dataset.image_size}.'
  )
  notes = (*source.report.notes, note)
  return dataclasses.replace(
    source, report=dataclasses.replace(source.report, notes=notes)
  )


def rendering_of(dataset: ConfigDict) -> Rendering:
  """How the images of a run's `config.dataset` are rendered."""
  return Rendering(
    dataset.background, dataset.white_level, dataset.crop == 'fit'
  )


def load_for_training(dataset: ConfigDict) -> Source:
  """Opens the split to train on, cropped at random if `dataset.crop` is so."""
  return load(dataset, dataset.split, for_training=True)


def stacked_base(dataset: ConfigDict) -> ConfigDict:
  """The `config.dataset` of the grey images behind 'stacked'."""
  base = dataset.copy_and_resolve_references()
  with base.unlocked():
    base.name = dataset.stack_of
  return base


def load_source(
  name: str,
  split: str,
  image_size: Size,
  *,
  data_dir: str | None = None,
  path: str | None = None,
  labels: str | None = None,
  stack_of: str = 'digits',
  skip_corrupt: bool = False,
  rendering: Rendering = ON_WHITE,
  is_cropped: bool = False,
) -> Source:
  """Opens a source and decodes all of its images.

  Args:
    name: 'digits', 'folder', 'stacked', a toy world such as 'ring', or the name
      of a TFDS data set.
    split: 'train' or 'test'; for TFDS any of its splits.
    image_size: in pixels; toy worlds ignore it.
    data_dir: folder of prepared TFDS data sets; None for TFDS_DATA_DIR.
    path: the folder or file of 'folder'.
    labels: file of labels of 'folder', or the name of an array or column.
    stack_of: name of the grey source behind 'stacked'.
    skip_corrupt: skip images that cannot be decoded instead of raising.
    rendering: how images become opaque, 8 bits deep, and of one shape.
    is_cropped: whether batches are cropped at random.

  Raises:
    UserError: naming the wrong field or file.
  """
  if name == 'digits':
    return digits.load(split, image_size, rendering, is_cropped=is_cropped)
  if name in WORLDS:
    return worlds.load(name, split)
  options = dict(skip_corrupt=skip_corrupt, rendering=rendering)
  if name == 'stacked':
    options |= dict(data_dir=data_dir, path=path, labels=labels)
    base = load_source(stack_of, split, image_size, **options)
    return stacked.stack(base, stack_of, split)
  if name == 'folder':
    encoded = own.open_images(path, split, labels=labels, **options)
    source = own.as_it_is(encoded, image_size, IN_MEMORY_BYTES)
    if source is not None:
      return source
    options['rendering'] = own.rendering_left(encoded, rendering)
  else:
    encoded = TfdsImages(name, split, data_dir)
  return load_decoded(
    encoded,
    image_size,
    in_memory_bytes=IN_MEMORY_BYTES,
    is_cropped=is_cropped,
    **options,
  )
