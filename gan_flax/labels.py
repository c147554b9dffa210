"""The classes of samples, by number or by name.

Dimensions: N samples.
"""

from collections.abc import Sequence
import re

import numpy as np

from common_flax.cli.given_latents import Given
from common_flax.errors import UserError
from common_flax.workdir import classes
from gan_flax.gan import GAN

COLUMNS = 8  # samples per row of a class or an interpolation
_MAX_LISTED = 20  # names of classes in a message

# A class by number or name, or one for each sample.
Label = int | str | Sequence[int | str] | np.ndarray | None


def class_numbers(
  gan: GAN, class_names: Sequence[str] | None, label: Label
) -> np.ndarray:
  """The numbers of classes given by number or name, int32 of any shape.

  Args:
    gan: the static part.
    class_names: that of class 0 first; None for numbers.
    label: the classes.

  Raises:
    UserError: naming a class that does not exist.
  """
  try:
    given = np.asarray(label)
  except ValueError as error:
    raise UserError(f'label={label}: is no list of classes') from error
  if not gan.is_conditional:
    shown = ','.join(map(str, given.ravel()[:_MAX_LISTED]))
    raise UserError(
      f'label={shown}: the generator is not conditional; train one with '
      "config.model.conditioning='projection'"
    )
  names = class_names or classes.numbered(gan.num_classes)
  numbers = [_class_number(each, names) for each in given.ravel().tolist()]
  return np.array(numbers, np.int32).reshape(given.shape)


def _class_number(label: int | str, names: Sequence[str]) -> int:
  """The number of one class; a name goes before a number in words."""
  if isinstance(label, str):
    if label in names:
      return names.index(label)
    number = int(label) if re.fullmatch('[0-9]{1,9}', label) else None
  else:
    number = label if type(label) is int else None
  if number is None or not 0 <= number < len(names):
    raise UserError(
      f'label={label}: there is no such class; the classes are 0 to '
      f'{len(names) - 1}{_listed(names)}'
    )
  return number


def in_rows(num: int, numbers: Sequence[int]) -> np.ndarray:
  """The classes of `num` samples that have one class per row of 8, in turn.

  Returns:
    int32 [num].
  """
  rows = np.arange(num) // COLUMNS
  return np.asarray(numbers, np.int32)[rows % len(numbers)]


def of_given(
  gan: GAN,
  class_names: Sequence[str] | None,
  given: Given,
  label: Sequence[str] | None,
  num: int,
  is_walk: bool,
) -> np.ndarray | None:
  """The classes of samples whose latents are given.

  Args:
    gan: the static part.
    class_names: that of class 0 first; None for numbers.
    given: the latents, and perhaps their labels.
    label: value of --label, before which those labels give way.
    num: number of samples.
    is_walk: whether they are the frames of a walk, which keeps one class.

  Returns:
    int32 [num], or None if the GAN is not conditional.

  Raises:
    UserError: naming a class that does not exist or is missing, or if there
      are neither one class nor as many as samples.
  """
  where = given.flag
  if label is not None:
    where, chosen = f'--label={",".join(label)}', label
  elif given.labels is not None:
    chosen = given.labels
    if not gan.is_conditional:
      raise UserError(
        f'{where}: has `labels`, and the generator is not conditional; store '
        'the latents alone'
      )
  elif gan.is_conditional:
    raise UserError(
      f'--label: missing; the run is conditional: name the class of {where}, '
      'or one for each'
    )
  else:
    return None
  try:
    numbers = class_numbers(gan, class_names, chosen)
  except UserError as error:
    start = f'{where}: ' if label is None else '--'
    raise UserError(f'{start}{error}') from error
  kinds = {*numbers.tolist()}
  if len(kinds) > 1 and is_walk:
    raise UserError(
      f'{where}: {len(kinds)} classes, and a walk keeps one; name it with '
      '--label'
    )
  if len(kinds) > 1 and len(numbers) != num:
    raise UserError(
      f'{where}: {len(numbers)} classes for {num} samples; give one class, or '
      'one for each'
    )
  return np.broadcast_to(numbers if len(kinds) > 1 else numbers[0], num)


def _listed(names: Sequence[str]) -> str:
  """The names of the classes for a message; nothing if they are numbers."""
  if tuple(names) == classes.numbered(len(names)):
    return ''
  shown = ', '.join(names[:_MAX_LISTED])
  return f' ({shown}{", ..." if len(names) > _MAX_LISTED else ""})'
