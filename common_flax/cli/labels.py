"""The classes of a conditional model's samples, by number or by name.

Dimensions: N samples.
"""

from collections.abc import Sequence
import re

import numpy as np

from common_flax.cli.given_latents import Given
from common_flax.errors import UserError
from common_flax.workdir import classes

COLUMNS = 8  # samples per row of a class or an interpolation
_MAX_LISTED = 20  # names of classes in a message

# A class by number or name, or one for each sample.
Label = int | str | Sequence[int | str] | np.ndarray | None


def class_numbers(
  num_classes: int | None, class_names: Sequence[str] | None, label: Label
) -> np.ndarray:
  """The numbers of classes given by number or name, int32 of any shape.

  Args:
    num_classes: that the model knows; None if it is not conditional.
    class_names: that of class 0 first; None for numbers.
    label: the classes.

  Raises:
    UserError: naming a class that does not exist.
  """
  try:
    given = np.asarray(label)
  except ValueError as error:
    raise UserError(f'label={label}: is no list of classes') from error
  if num_classes is None:
    shown = ','.join(map(str, given.ravel()[:_MAX_LISTED]))
    raise UserError(
      f'label={shown}: the model is not conditional; train one that is, with '
      'config.model.conditioning'
    )
  names = class_names or classes.numbered(num_classes)
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


def of_samples(
  num_classes: int | None,
  class_names: Sequence[str] | None,
  num: int,
  label: Label = None,
) -> np.ndarray | None:
  """The classes of `num` samples.

  Args:
    num_classes: that the model knows; None if it is not conditional.
    class_names: that of class 0 first; None for numbers.
    num: number of samples.
    label: one class for all samples, or the class of each, [num], by number or
      by name; None for one class per row of 8, in turn.

  Returns:
    int32 [num], or None if the model is not conditional.

  Raises:
    UserError: naming a class that does not exist.
  """
  if label is None:
    if num_classes is None:
      return None
    return in_rows(num, range(num_classes))
  numbers = class_numbers(num_classes, class_names, label)
  if numbers.shape not in ((), (num,)):
    raise UserError(
      f'label: has the shape {list(numbers.shape)}; give one class, or one '
      f'for each of the {num} samples'
    )
  return np.broadcast_to(numbers, num)


def of_flags(
  num_classes: int | None,
  class_names: Sequence[str] | None,
  label: Sequence[str] | None,
  num: int,
) -> np.ndarray | None:
  """The classes that --label names, one per row of 8, in turn; int32 [num].

  Args:
    num_classes: that the model knows; None if it is not conditional.
    class_names: that of class 0 first; None for numbers.
    label: value of --label; None for all classes.
    num: number of samples.

  Raises:
    UserError: naming a class that does not exist.
  """
  if label is None:
    return of_samples(num_classes, class_names, num)
  try:
    return in_rows(num, class_numbers(num_classes, class_names, label))
  except UserError as error:
    raise UserError(f'--{error}') from error


def in_rows(num: int, numbers: Sequence[int]) -> np.ndarray:
  """The classes of `num` samples that have one class per row of 8, in turn.

  Returns:
    int32 [num].
  """
  rows = np.arange(num) // COLUMNS
  return np.asarray(numbers, np.int32)[rows % len(numbers)]


def of_given(
  num_classes: int | None,
  class_names: Sequence[str] | None,
  given: Given,
  label: Sequence[str] | None,
  num: int,
  is_walk: bool,
) -> np.ndarray | None:
  """The classes of samples whose latents are given.

  Args:
    num_classes: that the model knows; None if it is not conditional.
    class_names: that of class 0 first; None for numbers.
    given: the latents, and perhaps their labels.
    label: value of --label, before which those labels give way.
    num: number of samples.
    is_walk: whether they are the frames of a walk, which keeps one class.

  Returns:
    int32 [num], or None if the model is not conditional.

  Raises:
    UserError: naming a class that does not exist or is missing, or if there
      are neither one class nor as many as samples.
  """
  where = given.flag
  if label is not None:
    where, chosen = f'--label={",".join(label)}', label
  elif given.labels is not None:
    chosen = given.labels
    if num_classes is None:
      raise UserError(
        f'{where}: has `labels`, and the model is not conditional; store the '
        'latents alone'
      )
  elif num_classes is not None:
    raise UserError(
      f'--label: missing; the run is conditional: name the class of {where}, '
      'or one for each'
    )
  else:
    return None
  try:
    numbers = class_numbers(num_classes, class_names, chosen)
  except UserError as error:
    start = f'{where}: ' if label is None else '--'
    raise UserError(f'{start}{error}') from error
  kinds = {*numbers.tolist()}
  if len(kinds) > 1 and is_walk:
    raise UserError(
      f'{where}: {len(kinds)} classes, and this kind keeps one; name it with '
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
