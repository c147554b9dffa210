"""Images in .npy and .npz files of NumPy.

Dimensions: N images, H height, W width, C channels.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import pathlib

import numpy as np

from common_flax.data import arrangement
from common_flax.data import arrays
from common_flax.data.own import array_keys
from common_flax.data.own import splits
from common_flax.data.own.array_keys import find_keys
from common_flax.data.own.array_keys import labels_beside
from common_flax.data.own.array_keys import with_labels_beside
from common_flax.data.own.stored_arrays import Member
from common_flax.data.own.stored_arrays import members_of
from common_flax.data.rendering import likely_white
from common_flax.data.source import ArraySource
from common_flax.data.source import checked_names
from common_flax.data.source import Report
from common_flax.errors import UserError

SUFFIXES = ('.npz', '.npy')
_CLASS_NAMES = ('class_names', 'label_names')


class ArrayImages:
  """The images of one split of an .npy or .npz file."""

  def __init__(
    self,
    name: str,
    file: pathlib.Path,
    split: str,
    *,
    labels: str | None = None,
    white_level: float | None = None,
  ):
    """Opens a file.

    Args:
      name: the file as the user named it.
      file: the file on this machine.
      split: one that the names of arrays mention, as x_train does; else 'train'
        is 90% of the images and 'test' the other 10%, a fixed random choice.
      labels: name of the array of labels, or path of an .npy of them; None for
        what is there.
      white_level: the value that is white, see `arrays.read`.

    Raises:
      UserError: naming the array, what is wrong, and the cure.
    """
    self._name, members = name, members_of(file, name)
    extra = labels_beside(labels, members)
    keys = find_keys(members, name, None if extra else labels)
    chosen, self._notes = splits.choose(keys.images, split, name, 'array')
    whole = None in keys.images
    self._key = keys.images[None if whole else chosen]
    used = {*keys.images.values(), *keys.labels.values(), *_CLASS_NAMES}
    if unused := sorted({*members} - used):
      self._notes.append(f'{name}: not used: {", ".join(unused)}.')
    images = members[self._key]
    rows, note = arrays.read(images.load(), images.name, white_level)
    self._notes += [note] if note else []
    if extra:
      keys = with_labels_beside(keys, labels, name)
      members = {**members, 'labels': extra}
    numbers = self._read_labels(members, keys, len(rows), chosen)
    train = None
    if whole:
      everything = np.arange(len(rows))
      indices = np.array(splits.seeded(everything, chosen), np.int64)
      train = rows.of(np.array(splits.seeded(everything, 'train'), np.int64))
      rows, numbers = rows.of(indices), numbers[indices]
    elif chosen in arrangement.HELD_OUT and 'train' in keys.images:
      train, _ = arrays.read(
        members[keys.images['train']].load(), name, white_level
      )
    if chosen in arrangement.HELD_OUT and train is not None:
      kept = self._without_copies(rows, train, split)
      rows, numbers = rows.of(kept), numbers[kept]
    if not len(rows):
      raise UserError(
        f'{name}: no images in split {split!r}; give it at least ten, or '
        'arrays x_train and x_test'
      )
    self._rows, self._labels = rows, numbers.astype(np.int32)
    self.channels = rows.shape[-1]

  @property
  def report(self) -> Report:
    """How arrays were read."""
    return Report(notes=(*self._notes,))

  @property
  def is_scaled(self) -> bool:
    """Whether the arrays hold other numbers than bytes."""
    return self._rows.is_scaled

  def __len__(self) -> int:
    return len(self._rows)

  def name(self, index: int) -> str:
    return f'{self._name}: {self._key}, image {index}'

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    """The images in the netpbm format, which is a header before the bytes."""
    _, height, width, channels = self._rows.shape
    kind = 'P5' if channels == 1 else 'P6'
    header = f'{kind} {width} {height} 255\n'.encode()
    images = self._rows[np.array(indices)]
    return [
      (header + image.tobytes(), int(self._labels[i]))
      for i, image in zip(indices, images, strict=True)
    ]

  def as_source(
    self, image_size: int | Sequence[int], in_memory_bytes: int
  ) -> ArraySource | None:
    """The images as they are; None unless they have this size.

    Args:
      image_size: height and width in pixels.
      in_memory_bytes: images up to this size are held in memory; larger ones
        are read from the file as needed.
    """
    if self._rows.shape[1:3] != tuple(np.broadcast_to(image_size, 2)):
      return None
    examples = self._rows.plain()
    if self._rows.nbytes <= in_memory_bytes:
      examples = np.array(self._rows)
    return ArraySource(
      examples,
      self._labels,
      self.num_classes,
      self.class_names,
      Report(notes=(*self._notes, *self._dark())),
      fingerprint=arrays.fingerprint(examples, self._labels),
    )

  def _dark(self) -> list[str]:
    """A sentence about bytes that are far below white, as of files."""
    if self.is_scaled:
      return []
    highest = 0
    for part in arrays.chunks(self._rows):
      highest = max(highest, int(self._rows[part].max()))
      if 4 * highest > 255:
        return []
    if not highest:
      return []
    return [
      f'{self._name}: has values up to {highest} where 255 is white, so that '
      'images look dark. If that is wrong, set '
      f'--config.dataset.white_level={likely_white(highest)}.'
    ]

  def _read_labels(
    self,
    members: Mapping[str, Member],
    keys: array_keys.Keys,
    num: int,
    chosen: str,
  ) -> np.ndarray:
    """The labels of the images; a class means the same in every split."""
    self.num_classes = self.class_names = None
    if not keys.labels:
      return np.full(num, -1)
    found = {}
    for split, key in keys.labels.items():
      member, count = members[key], members[keys.images[split]].shape[0]
      found[split] = arrays.read_labels(member.load(), count, member.name)
    names = {name for _, own in found.values() for name in own or ()}
    if names:
      self.class_names = tuple(sorted(names))
      order = {name: i for i, name in enumerate(self.class_names)}
      found = {
        split: (np.array([order[x] for x in own])[numbers], own)
        for split, (numbers, own) in found.items()
      }
    everything = np.concatenate([numbers for numbers, _ in found.values()])
    self.num_classes = int(everything.max()) + 1
    given = [members[key] for key in _CLASS_NAMES if key in members]
    if given and not names:
      self.class_names = checked_names(given[0].load(), given[0].name)
      self.num_classes = max(self.num_classes, len(self.class_names))
      if len(self.class_names) < self.num_classes:
        raise UserError(
          f'{given[0].name}: {len(self.class_names)} names for labels up to '
          f'{self.num_classes - 1}; name every class'
        )
    self._notes += arrays.without_gaps(everything, self.num_classes, self._name)
    return found[None if None in found else chosen][0]

  def _without_copies(
    self, rows: arrays.Rows, train: arrays.Rows, split: str
  ) -> np.ndarray:
    """The indices of images that are not trained on; all if none is left."""
    seen, kept = {*_digests(train)}, np.arange(len(rows))
    if seen:
      is_new = [digest not in seen for digest in _digests(rows)]
      kept = kept[np.array(is_new, bool)]
    if not len(kept) and len(rows):
      self._notes.append(splits.all_trained_on(split, self._name))
      return np.arange(len(rows))
    if len(kept) < len(rows):
      self._notes.append(
        f'{len(rows) - len(kept):,} images of the split {split} of '
        f'{self._name} are also trained on, and left out.'
      )
    return kept


def _digests(rows: arrays.Rows) -> Iterator[bytes]:
  for part in arrays.chunks(rows):
    for image in rows[part]:
      yield hashlib.blake2b(
        np.ascontiguousarray(image), digest_size=16
      ).digest()
