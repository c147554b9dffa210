"""Image data sets of TensorFlow Datasets, read without TensorFlow."""

import os

import tensorflow_datasets as tfds

from common_flax.config import UserError


def find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
  """The builder of a TFDS data set, in the format that needs no TensorFlow.

  Args:
    name: a TFDS name such as 'mnist' or 'lsun/bedroom'.
    data_dir: where prepared data sets are; None for TFDS_DATA_DIR or, without
      it, TFDS's default folder.

  Raises:
    UserError: if TFDS knows no such data set.
  """
  data_dir = data_dir or os.environ.get('TFDS_DATA_DIR') or None
  try:
    return tfds.builder(
      name, data_dir=data_dir, file_format='array_record', try_gcs=False
    )
  except tfds.core.DatasetNotFoundError as error:
    raise UserError(
      f'config.dataset.name={name!r}: neither digits, folder nor a data set of '
      'TFDS'
    ) from error
  except (ValueError, OSError, RuntimeError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(f'config.dataset.name={name!r}: {reason}') from error


class TfdsImages:
  """The images and labels of one split of a prepared data set."""

  def __init__(self, name: str, split: str, data_dir: str | None):
    """Opens the data set.

    Args:
      name: a TFDS name.
      split: a TFDS split such as 'train' or 'train[:10%]'.
      data_dir: as for `find_builder`.

    Raises:
      UserError: if it is not prepared as array_record, has no images, or no
        such split.
    """
    builder = find_builder(name, data_dir)
    features = dict(builder.info.features.items())
    if not isinstance(features.get('image'), tfds.features.Image):
      raise UserError(f'config.dataset.name={name!r}: it has no images')
    if (
      not builder.is_prepared()
      or builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD
    ):
      where = builder.data_path.parent.parent
      raise UserError(
        f'config.dataset.name={name!r}: not prepared as array_record in '
        f'{where}; run python -m common_flax.prepare --dataset={name} '
        f'--data_dir={where}, or give its folder with '
        '--config.dataset.data_dir=DIR or TFDS_DATA_DIR'
      )
    try:
      self._records = builder.as_data_source(
        split=split, decoders={'image': tfds.decode.SkipDecoding()}
      )
    except (ValueError, KeyError) as error:
      raise UserError(
        f'config.dataset.split={split!r}: {name} has the splits '
        f'{", ".join(builder.info.splits)}'
      ) from error
    label = features.get('label')
    is_class = isinstance(label, tfds.features.ClassLabel)
    self.num_classes = label.num_classes if is_class else None
    self.channels = 1 if features['image'].shape[-1] == 1 else 3
    self._name = f'{name}, split {split}'

  def __len__(self) -> int:
    return len(self._records)

  def name(self, index: int) -> str:
    return f'{self._name}, record {index}'

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    labelled = self.num_classes is not None
    return [
      (record['image'], int(record['label']) if labelled else -1)
      for record in self._records.__getitems__(indices)
    ]
