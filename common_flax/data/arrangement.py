"""What the names of a folder's sub-folders mean: splits and classes.

Functions of relative paths alone, so that nothing is read.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
import re

from common_flax.errors import UserError

SYNONYMS = {
  'train': ('train', 'training'),
  'test': ('test', 'testing'),
  'validation': ('validation', 'valid', 'val'),
}
_SPLIT_OF = {name: split for split, names in SYNONYMS.items() for name in names}
HELD_OUT = ('test', 'validation')

BESIDE_CLASSES = 'beside the class folders'
OUTSIDE_SPLITS = 'outside the folders of the splits'

Path = pathlib.PurePath


@dataclasses.dataclass(frozen=True)
class Arrangement:
  """The images of a folder by split, with their classes.

  Attributes:
    splits: split -> paths of its images, sorted; None holds all images of a
      folder without splits.
    class_of: path -> name of its class; None if there are no labels.
    left_out: path of an image in no split or no class -> reason.
    note: why there are no labels although there are sub-folders, or ''.
  """

  splits: Mapping[str | None, Sequence[Path]]
  class_of: Mapping[Path, str] | None
  left_out: Mapping[Path, str]
  note: str = ''


def split_named(name: str) -> str | None:
  """The split that a folder of this name holds, in any case; None if none."""
  return _SPLIT_OF.get(name.lower())


def arrange(
  paths: Sequence[Path],
  folders: Iterable[Path] = (),
  name: str = '.',
  extra: str | None = None,
  has_classes: bool = True,
) -> Arrangement:
  """Finds the splits and classes of a folder.

  The splits are sub-folders of the folder, or of each of its class folders. A
  single sub-folder that holds all images may stand between.

  Args:
    paths: the images, relative to the folder.
    folders: the sub-folders, relative to the folder, so that an empty one can
      be a split.
    name: of the folder, for errors.
    extra: name of a sub-folder that is one more split, if there are splits.
    has_classes: whether sub-folders that are no splits are classes.

  Raises:
    UserError: if held-out images might be trained on: the splits are ambiguous,
      or nested.
  """
  paths, base = sorted(paths), Path()
  inner = {*folders, *(path.parent for path in paths)}
  folders = {y for x in inner for y in (x, *x.parents)}
  while True:
    tops = {path.parts[len(base.parts)] for path in paths}
    found = _splits_below(base, folders, extra)
    only = base / min(tops, default='')
    if found or len(tops) != 1 or not _splits_below(only, folders, extra):
      break
    base = only
  here = f'{name}/{base}'.removesuffix('/.')
  if found:
    others = sorted(x for x in tops - {*found} if base / x in folders)
    _check_splits(found, others, here)
    return _by_split_first(paths, base, found, here, has_classes)
  below = {
    path.parts[0]
    for path in paths
    if len(path.parts) > 2 and split_named(path.parts[1])
  }
  if below:
    return _by_class_first(paths, below, name)
  _refuse_hidden_splits(paths, name)
  if not has_classes:
    return Arrangement({None: paths}, None, {})
  classes, left_out, note = classes_of({path: path for path in paths})
  kept = [path for path in paths if path not in left_out]
  return Arrangement({None: kept}, classes, left_out, note)


def _splits_below(
  folder: Path, folders: set[Path], extra: str | None
) -> dict[str, str]:
  """{name: split} of the sub-folders of `folder` that are splits."""
  names = sorted(x.name for x in folders if x.parent == folder and x != folder)
  found = {name: split for name in names if (split := split_named(name))}
  more = {name: name for name in names if found and name == extra}
  return more | found


def _check_splits(
  found: Mapping[str, str], others: Sequence[str], here: str
) -> None:
  """Refuses folders of splits that can be meant in several ways.

  Args:
    found: {name: split}.
    others: names of the folders beside them that hold images.
    here: the folder of them all.

  Raises:
    UserError: naming them.
  """
  for split in {*found.values()}:
    same = [name for name in found if found[name] == split]
    if len(same) > 1:
      raise UserError(
        f'{here}: {" and ".join(same)} are both the split {split}; move their '
        'images into one folder'
      )
  if len(found) == 1 and others:
    raise UserError(
      f'{here}: {min(found)} is the name of a split, but other images are in '
      f'{_some(others)}; rename {min(found)} if it is a class, rename the '
      'others to train, test or validation, or move them away'
    )


def _by_split_first(
  paths: Sequence[Path],
  base: Path,
  found: Mapping[str, str],
  here: str,
  has_classes: bool,
) -> Arrangement:
  """Arranges split/class/image."""
  splits, rest, left_out = {split: [] for split in found.values()}, {}, {}
  for path in paths:
    first, *inner = path.relative_to(base).parts
    if first not in found:
      left_out[path] = OUTSIDE_SPLITS
      continue
    held_out = [x for x in inner[:-1] if split_named(x) in HELD_OUT]
    if found[first] == 'train' and held_out:
      raise UserError(
        f'{here}/{first}: holds a folder {held_out[0]}, whose images would be '
        f'trained on; move it beside {first}, or rename it'
      )
    splits[found[first]].append(path)
    rest[path] = Path(*inner)
  classes, strays, note = classes_of(rest) if has_classes else (None, {}, '')
  kept = {
    split: [path for path in members if path not in strays]
    for split, members in splits.items()
  }
  return Arrangement(kept, classes, left_out | strays, note)


def _by_class_first(
  paths: Sequence[Path], with_splits: set[str], here: str
) -> Arrangement:
  """Arranges class/split/image."""
  splits, classes, left_out = {}, {}, {}
  for path in paths:
    split = split_named(path.parts[1]) if len(path.parts) > 2 else None
    if split is None and (len(path.parts) == 1 or path.parts[0] in with_splits):
      left_out[path] = OUTSIDE_SPLITS
    elif split is None:
      raise UserError(
        f'{here}/{min(with_splits)}: holds splits such as train and test, but '
        f'{here}/{path.parts[0]} does not; give each class folder the same '
        'splits, or move the splits to the top'
      )
    else:
      splits.setdefault(split, []).append(path)
      classes[path] = path.parts[0]
  return Arrangement(splits, classes, left_out)


def classes_of(
  rest: Mapping[Path, Path],
) -> tuple[dict[Path, str] | None, dict[Path, str], str]:
  """The classes of images, the images in none, and why there are no classes.

  Images beside class folders are strays if a class has more of them on average.

  Args:
    rest: path of an image -> its path below the folder of the classes.
  """
  parts = {path: inner.parts for path, inner in rest.items()}
  inside = {path: names[0] for path, names in parts.items() if len(names) > 1}
  strays = [path for path in parts if path not in inside]
  num_classes = len({*inside.values()})
  if not inside:
    return None, {}, ''
  if not strays:
    return inside, {}, ''
  if num_classes > 1 and len(strays) < len(inside) / num_classes:
    return inside, dict.fromkeys(strays, BESIDE_CLASSES), ''
  return (
    None,
    {},
    f'The sub-folders give no labels, as images are beside them: '
    f'{_some([*map(str, strays)])}.',
  )


def _refuse_hidden_splits(paths: Sequence[Path], here: str) -> None:
  """Refuses names that look like splits, in a folder that has none.

  Raises:
    UserError: naming them.
  """
  seen = {}
  for path in paths:
    *above, file = path.parts
    for name in above:
      for split in _splits_in(name):
        seen.setdefault(split, f'the folder {name}')
    first = re.match('[A-Za-z]+', file)
    split = split_named(first[0]) if first else None
    if split and not above:
      seen.setdefault(split, f'the file {file}')
    for name in above[1:]:
      if split_named(name) in HELD_OUT:
        seen['train'] = seen.get('train', 'the rest')
  if 'train' in seen and any(split in seen for split in HELD_OUT):
    held_out = next(seen[split] for split in HELD_OUT if split in seen)
    raise UserError(
      f'{here}: {held_out} looks like held-out images, and would be trained '
      'on; move the images of each split into a folder train, test or '
      f'validation in {here}, or rename them'
    )


@functools.lru_cache(maxsize=4096)
def _splits_in(name: str) -> set[str]:
  """The splits that a name mentions, such as test_images, trainA or TestSet."""
  words = re.findall('[A-Z]?[a-z]+|[A-Z]+(?![a-z])', name)
  words = [re.sub('(sets?|data|images?|imgs?)$', '', x.lower()) for x in words]
  return {split for word in words if (split := split_named(word))}


def _some(names: Sequence[str], most: int = 3) -> str:
  more = f' and {len(names) - most:,} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
