"""Downloads and prepares a public TFDS data set for training.

  python -m common_flax.prepare --dataset=mnist [--data_dir=DIR]

Writes the array_record format, which training reads without TensorFlow. This
command alone needs TensorFlow: pip install tensorflow-cpu.
"""

from collections.abc import Sequence
import sys

from absl import flags

from common_flax.cli import commands
from common_flax.cpu import startup
from common_flax.data.tfds_images import find_builder
from common_flax.data.tfds_images import resolve_data_dir
from common_flax.errors import UserError


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'dataset',
    None,
    'Name of a TFDS data set, such as mnist, cifar10 or celeb_a.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'data_dir',
    None,
    'Folder of prepared data sets; by default TFDS_DATA_DIR, else that of '
    'TFDS.',
    flag_values=values,
  )


def prepare(dataset: str, data_dir: str | None) -> None:
  """Downloads a data set and writes it as array_record.

  Args:
    dataset: its TFDS name.
    data_dir: target folder; None for TFDS_DATA_DIR, else TFDS's default.

  Raises:
    UserError: if the data set is unknown, TensorFlow is missing, or the
      download fails.
  """
  builder = find_builder(dataset, resolve_data_dir(data_dir))
  if builder.is_prepared():
    print(f'{dataset}: already prepared in {builder.data_path}')
    return
  if not startup.is_installed('tensorflow'):
    raise UserError(
      'preparing a data set needs TensorFlow (training does not): '
      'pip install tensorflow-cpu'
    )
  try:
    builder.download_and_prepare()
  except Exception as error:  # networks, archives and disks raise many types
    reason = ' '.join(str(error).split())[:500] or repr(error)
    raise UserError(f'--dataset={dataset}: not prepared: {reason}') from error
  splits = ', '.join(
    f'{name} {split.num_examples:,}'
    for name, split in builder.info.splits.items()
  )
  print(f'{dataset}: prepared in {builder.data_path} ({splits})')


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'dataset')
  prepare(values.dataset, values.data_dir)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
