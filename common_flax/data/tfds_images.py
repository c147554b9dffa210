"""Image data sets of TensorFlow Datasets (TFDS), read without TensorFlow."""

import os
import re

import tensorflow_datasets as tfds

from common_flax import files
from common_flax.data import remote
from common_flax.data.source import Report
from common_flax.data.source import unreadable_split
from common_flax.errors import UserError


def resolve_data_dir(data_dir: str | None) -> str:
  """The folder of prepared data sets: `data_dir`, TFDS_DATA_DIR, or TFDS's."""
  data_dir = data_dir or os.environ.get('TFDS_DATA_DIR')
  return os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)


def find_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  """The builder of a TFDS data set as array_record, which needs no TensorFlow.

  Args:
    name: a TFDS name such as 'mnist' or 'lsun/bedroom'.
    data_dir: folder of prepared data sets.

  Raises:
    UserError: if TFDS has no such data set, or the data set was prepared in
      another format.
  """
  try:
    return tfds.builder(
      name, data_dir=data_dir, file_format='array_record', try_gcs=False
    )
  except tfds.core.DatasetNotFoundError as error:
    raise UserError(
      f'data set {name!r}: unknown; use digits, folder or a TFDS data set'
    ) from error
  except Exception as error:  # each builder raises its own types
    reason = _one_line(error)
    if 'File format is already set' in reason:
      reason = (
        f'prepared in {data_dir} in a format that needs TensorFlow; prepare it '
        'in another folder: python -m common_flax.prepare '
        f'--dataset={name} --data_dir=DIR'
      )
    raise UserError(f'data set {name!r}: {reason}') from error


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split())[:300] or repr(error)


def _local_copy(name: str, data_dir: str) -> str:
  """Copies a data set from a remote folder; returns the local `data_dir`."""
  name = re.split('[:/]', name)[0]
  copy = remote.local_copy(f'{data_dir.rstrip("/")}/{name}')
  return str(copy.parent)


class TfdsImages:
  """The images and labels of one split of a prepared data set."""

  def __init__(
    self,
    name: str,
    split: str,
    data_dir: str | None,
  ):
    """Opens the data set.

    Args:
      name: a TFDS name.
      split: a TFDS split such as 'train' or 'train[:10%]'.
      data_dir: see `resolve_data_dir`; from a remote folder the data set is
        copied to the cache first.

    Raises:
      UserError: if the data set is not prepared as array_record, has no images,
        or has no such split.
    """
    data_dir = resolve_data_dir(data_dir)
    if files.is_remote(data_dir):
      data_dir = _local_copy(name, data_dir)
    builder = find_builder(name, data_dir)
    features = dict(builder.info.features.items())
    if not isinstance(features.get('image'), tfds.features.Image):
      raise UserError(f'config.dataset.name={name!r}: has no images')
    if not builder.is_prepared():
      raise UserError(
        f'config.dataset.name={name!r}: not prepared in {data_dir}; run '
        f'python -m common_flax.prepare --dataset={name} '
        f'--data_dir={data_dir}, or name its folder with '
        '--config.dataset.data_dir=DIR or TFDS_DATA_DIR'
      )
    try:
      self._records = builder.as_data_source(
        split=split, decoders={'image': tfds.decode.SkipDecoding()}
      )
      num_records = len(self._records)
    except Exception as error:  # TFDS and array_record raise many types
      raise unreadable_split(
        split,
        f'cannot be read from {builder.data_path} (its splits: '
        f'{", ".join(builder.info.splits)}): {_one_line(error)}',
      ) from error
    if not num_records:
      raise unreadable_split(split, 'is empty')
    label = features.get('label')
    is_class = isinstance(label, tfds.features.ClassLabel)
    self.num_classes = label.num_classes if is_class else None
    self.class_names = tuple(label.names) if self.num_classes else None
    self.channels = 1 if features['image'].shape[-1] == 1 else 3
    self._name = f'{name}, split {split}'
    self._path = builder.data_path
    self.report = Report()

  def __len__(self) -> int:
    return len(self._records)

  def name(self, index: int) -> str:
    return f'{self._name}, record {index}'

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    labelled = self.num_classes is not None
    try:
      records = self._records.__getitems__(indices)
    except Exception as error:  # array_record raises many types
      raise UserError(
        f'{self._path}: records {indices[0]} to {indices[-1]} of '
        f'{self._name} cannot be read: {_one_line(error)}'
      ) from error
    return [
      (record['image'], int(record['label']) if labelled else -1)
      for record in records
    ]
