"""A folder or zip file of images, whose folders may be splits and classes."""

from collections.abc import Sequence
import hashlib
import pathlib
from typing import Protocol

from common_flax.data import arrangement
from common_flax.data.own import labels as labels_lib
from common_flax.data.own import splits
from common_flax.data.own.listing import Listing
from common_flax.data.own.listing import reason_of
from common_flax.data.own.listing import SUFFIXES
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.data.source import LeftOut
from common_flax.data.source import Report
from common_flax.errors import UserError


class Place(Protocol):
  """Where image files are: a folder, or a zip file of one."""

  name: str  # as the user named it
  base: pathlib.PurePath  # the folder in it from which paths start

  def listing(self, skip_broken: bool) -> Listing:
    """The images by relative paths, and what is left out as `shown`."""

  def shown(self, path: pathlib.PurePath | str) -> str:
    """The path of a file as the user sees it."""

  def size(self, path: pathlib.PurePath) -> int:
    """Bytes of a file."""

  def read(self, path: pathlib.PurePath) -> bytes:
    """The content of an image file."""

  def channels(self, path: pathlib.PurePath, rendering: Rendering) -> int:
    """1 for a grey image, else 3."""

  def find(self, path: str) -> bytes | None:
    """The content of another file; None if there is none."""


class FolderImages:
  """The image files in a folder and its sub-folders, sorted by path.

  Sub-folders are splits by their names, and else classes, numbered by name; see
  `common_flax.data.arrangement`. A file of labels replaces the classes. One
  image in colour makes all of them colour images.
  """

  def __init__(
    self,
    place: Place,
    split: str,
    *,
    labels: str | None = None,
    skip_corrupt: bool = False,
    rendering: Rendering = ON_WHITE,
    rest: Sequence[str] = (),
  ):
    """Lists the files.

    Args:
      place: the folder.
      split: 'train', 'test' or 'validation', or a synonym, if the folder has
        splits; without a folder 'test', that is 'validation'. Otherwise 'train'
        is 90% of the files and 'test' the other 10%, a fixed random choice.
      labels: path of a file of labels; None for those that lie in the folder,
        see `labels.of_files`, or else the class folders.
      skip_corrupt: leave out unreadable files instead of raising.
      rendering: on which it depends whether an image is grey.
      rest: further files of the folder, which have no ending of an image.

    Raises:
      UserError: if there are no images, if the splits are ambiguous, or naming
        an unreadable file.
    """
    self._place = place
    listing = place.listing(skip_corrupt)
    self._left_out = [
      *listing.left_out,
      *(LeftOut(place.shown(x), reason_of(x)) for x in rest),
    ]
    self._notes = []
    files, table = self._labelled(listing.files, labels)
    found = arrangement.arrange(
      files, listing.folders, place.name, extra=split, has_classes=table is None
    )
    self._left_out += [
      LeftOut(place.shown(x), why) for x, why in found.left_out.items()
    ]
    self._notes += [found.note] if found.note else []
    chosen = self._of_split(found, split)
    self._files, self.channels = self._readable(chosen, skip_corrupt, rendering)
    if not self._files:
      raise UserError(
        f'config.dataset.path={place.name}: no images in split {split!r}; '
        f'looked for {", ".join(SUFFIXES)} in it and its sub-folders'
        + ''.join(f'. {x}' for x in Report((*self._left_out,)).lines())
      )
    self._number(table or labels_lib.Labels([place.name], found.class_of))

  @property
  def report(self) -> Report:
    """What was left out."""
    return Report((*self._left_out,), (*self._notes,))

  def __len__(self) -> int:
    return len(self._files)

  def name(self, index: int) -> str:
    return self._place.shown(self._files[index])

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    return [
      (self._place.read(self._files[i]), self._labels[i]) for i in indices
    ]

  def _number(self, table: labels_lib.Labels) -> None:
    """Numbers the classes of the files."""
    self.num_classes = self.class_names = None
    self._labels = [-1] * len(self._files)
    if table.class_of is None:
      return
    classes = sorted({*table.class_of.values()})
    numbers = {x: x if table.has_numbers else i for i, x in enumerate(classes)}
    self.num_classes = max(numbers.values()) + 1
    if not table.has_numbers:
      self.class_names = tuple(classes)
    self._labels = [numbers[table.class_of[file]] for file in self._files]

  def _labelled(
    self, files: Sequence[pathlib.PurePath], labels: str | None
  ) -> tuple[Sequence[pathlib.PurePath], labels_lib.Labels | None]:
    """The files that have labels, and the labels; all if no file gives any."""
    table = labels_lib.of_files(self._place, files, labels)
    if table is None:
      return files, None
    self._left_out = [x for x in self._left_out if x.name not in table.files]
    self._notes += table.notes
    if table.class_of is None:
      return files, table
    reason = f'without a label in {table.name}'
    self._left_out += [
      LeftOut(self._place.shown(x), reason)
      for x in files
      if x not in table.class_of
    ]
    return [x for x in files if x in table.class_of], table

  def _of_split(
    self, found: arrangement.Arrangement, split: str
  ) -> list[pathlib.PurePath]:
    """The files of a split, without held-out ones that are trained on."""
    place = self._place
    name, notes = splits.choose(found.splits, split, place.name, 'folder')
    self._notes += notes
    if None in found.splits:
      chosen = splits.seeded(found.splits[None], name)
      train = splits.seeded(found.splits[None], 'train')
    else:
      chosen = list(found.splits[name])
      train = found.splits.get('train', ())
    if name not in arrangement.HELD_OUT:
      return chosen
    copies = splits.copies(chosen, train, place.size, self._digest)
    if chosen and len(copies) == len(chosen):
      self._notes.append(splits.all_trained_on(split, place.name))
      return chosen
    self._left_out += [
      LeftOut(place.shown(x), 'also trained on', f'as {place.shown(copies[x])}')
      for x in copies
    ]
    return [file for file in chosen if file not in copies]

  def _digest(self, file: pathlib.PurePath) -> bytes | pathlib.PurePath:
    try:
      content = self._place.read(file)
    except UserError:  # named when it is read
      return file
    return hashlib.blake2b(content, digest_size=16).digest()

  def _readable(
    self,
    files: Sequence[pathlib.PurePath],
    skip_unreadable: bool,
    rendering: Rendering,
  ) -> tuple[list[pathlib.PurePath], int]:
    """The files that can be opened, and the channels of their images.

    After one in colour, the others are opened only if unreadable ones are to be
    left out; else they are named when they are read.
    """
    readable, channels = [], 1
    for file in files:
      if channels == 3 and not skip_unreadable:
        readable.append(file)
        continue
      try:
        channels = max(channels, self._place.channels(file, rendering))
        readable.append(file)
      except UserError as error:
        if not skip_unreadable:
          raise
        detail = str(error).rpartition(': ')[2]
        shown = self._place.shown(file)
        self._left_out.append(LeftOut(shown, 'unreadable', detail))
    return readable, channels
