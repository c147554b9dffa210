"""Image data sets of TensorFlow Datasets, read without TensorFlow."""

import os
import re

import tensorflow_datasets as tfds

from common_flax import files
from common_flax.config import UserError
from common_flax.data import remote
from common_flax.data.source import Progress
from common_flax.data.source import unreadable_split
from common_flax.data.source import unseen


def resolve_data_dir(data_dir: str | None) -> str:
  """The folder of prepared data sets: given, TFDS_DATA_DIR, or TFDS's own."""
  data_dir = data_dir or os.environ.get('TFDS_DATA_DIR')
  return os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)


def find_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  """The builder of a TFDS data set, in the format that needs no TensorFlow.

  Args:
    name: a TFDS name such as 'mnist' or 'lsun/bedroom'.
    data_dir: where prepared data sets are.

  Raises:
    UserError: if TFDS knows no such data set, or it was prepared there in
      another format.
  """
  try:
    return tfds.builder(
      name, data_dir=data_dir, file_format='array_record', try_gcs=False
    )
  except tfds.core.DatasetNotFoundError as error:
    raise UserError(
      f'data set {name!r}: neither digits, folder nor a data set of TFDS'
    ) from error
  except Exception as error:  # builders fail in ways of their own
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


def _local_copy(name: str, data_dir: str, progress: Progress) -> str:
  """A local folder with the data set in it that a remote one holds."""
  name = re.split('[:/]', name)[0]
  copy = remote.local_copy(f'{data_dir.rstrip("/")}/{name}', progress)
  return str(copy.parent)


class TfdsImages:
  """The images and labels of one split of a prepared data set."""

  def __init__(
    self,
    name: str,
    split: str,
    data_dir: str | None,
    progress: Progress = unseen,
  ):
    """Opens the data set.

    Args:
      name: a TFDS name.
      split: a TFDS split such as 'train' or 'train[:10%]'.
      data_dir: where prepared data sets are, see `resolve_data_dir`; of the one
        in a remote folder a local copy is made.
      progress: shows how far that is, see `load_encoded`.

    Raises:
      UserError: if it is not prepared as array_record, has no images, or no
        such split.
    """
    data_dir = resolve_data_dir(data_dir)
    if files.is_remote(data_dir):
      data_dir = _local_copy(name, data_dir, progress)
    builder = find_builder(name, data_dir)
    features = dict(builder.info.features.items())
    if not isinstance(features.get('image'), tfds.features.Image):
      raise UserError(f'config.dataset.name={name!r}: it has no images')
    if not builder.is_prepared():
      raise UserError(
        f'config.dataset.name={name!r}: not prepared in {data_dir}; run '
        f'python -m common_flax.prepare --dataset={name} '
        f'--data_dir={data_dir}, or give its folder with '
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
      raise unreadable_split(split, 'it is empty')
    label = features.get('label')
    is_class = isinstance(label, tfds.features.ClassLabel)
    self.num_classes = label.num_classes if is_class else None
    self.channels = 1 if features['image'].shape[-1] == 1 else 3
    self._name = f'{name}, split {split}'
    self._path = builder.data_path

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
