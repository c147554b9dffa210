"""Which arrays of a file are images and labels, by their names."""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import re

from common_flax.data import arrangement
from common_flax.data.own.stored_arrays import Member
from common_flax.data.own.stored_arrays import members_of
from common_flax.errors import UserError

_IMAGES = ('images', 'image', 'imgs', 'img', 'x', 'data', 'samples', 'pixels')
_LABELS = ('labels', 'label', 'y', 'targets', 'target', 'classes', 'class')


def _role(key: str) -> tuple[str | None, str]:
  """The split that an array's name mentions, and the rest of the name."""
  words = re.split(r'[\W_]+', key.lower())
  if len(words) == 1:
    joined = re.fullmatch(r'([xy])(train|test|val)|(train|test|val)([xy])', key)
    words = [x for x in joined.groups() if x] if joined else words
  found = [x for x in words if arrangement.split_named(x)]
  if len(found) != 1:
    return None, '_'.join(words)
  rest = '_'.join(x for x in words if x not in found)
  return arrangement.split_named(found[0]), rest or 'images'


@dataclasses.dataclass(frozen=True)
class Keys:
  """The names of the arrays of images and labels, by split.

  The split None holds all images of a file without splits.
  """

  images: Mapping[str | None, str]
  labels: Mapping[str | None, str]


def find_keys(
  members: Mapping[str, Member], shown: str, given: str | None
) -> Keys:
  """Finds images and labels by name.

  Args:
    members: the arrays.
    shown: the file, for errors.
    given: name of the array of labels; None to find it.

  Raises:
    UserError: if the names do not tell.
  """
  roles = {key: _role(key) for key in members}
  label_names = _LABELS if given is None else (_role(given)[1],)
  images, labels = (
    {
      split: key
      for name in reversed(names)
      for key, (split, rest) in roles.items()
      if rest == name
    }
    for names in (_IMAGES, label_names)
  )
  if not images and 'arr_0' in members:  # np.savez(file, images, labels)
    images = {None: 'arr_0'}
    if 'arr_1' in members and not labels:
      labels = {None: 'arr_1'}
  if not images:
    likely = [key for key, x in members.items() if len(x.shape) in (3, 4)]
    if len(likely) != 1:
      raise UserError(
        f'{shown}: has no array `images` or `x_train`, only '
        f'{", ".join(sorted(members)) or "none"}; rename that of the images'
      )
    images = {roles[likely[0]][0]: likely[0]}
  if None in images and len(images) > 1:
    other = min(key for split, key in images.items() if split)
    raise UserError(
      f'{shown}: {images[None]} names no split, and {other} does; rename or '
      'remove one of them'
    )
  labels = {split: key for split, key in labels.items() if split in images}
  if labels and (missing := sorted({*images} - {*labels})):
    there = min(labels)
    raise UserError(
      f'{shown}: {labels[there]} has the labels of {images[there]}, but '
      f'{images[missing[0]]} has none; add or remove labels'
    )
  if given is not None and not labels:
    raise UserError(
      f'config.dataset.labels={given}: no array of this name in {shown}; it '
      f'has {", ".join(sorted(members))}'
    )
  return Keys(images, labels)


def labels_beside(
  given: str | None, members: Mapping[str, Member]
) -> Member | None:
  """The labels in a file of their own; None if they are not given as one."""
  if given is None or _is_key(given, members):
    return None
  if not given.lower().endswith('.npy'):
    raise UserError(
      f'config.dataset.labels={given}: no array of this name, and no .npy of '
      f'labels; the arrays are {", ".join(sorted(members))}'
    )
  if not os.path.isfile(os.path.expanduser(given)):
    raise UserError(f'config.dataset.labels={given}: no such file')
  return members_of(pathlib.Path(os.path.expanduser(given)), given)['images']


def with_labels_beside(keys: Keys, given: str, shown: str) -> Keys:
  """The keys where a file of their own has the labels, of all images.

  Args:
    keys: those of the images.
    given: the file of labels, for errors.
    shown: the file of images, for errors.

  Raises:
    UserError: if the images are in splits.
  """
  if None not in keys.images:
    raise UserError(
      f'config.dataset.labels={given}: is one array of labels, and {shown} has '
      f'the splits {", ".join(map(str, keys.images))}; store the labels beside '
      'them as y_train and so on'
    )
  return Keys(keys.images, {None: 'labels'})


def _is_key(given: str, members: Mapping[str, Member]) -> bool:
  rests = {_role(key)[1] for key in members}
  return given in members or _role(given)[1] in rests
