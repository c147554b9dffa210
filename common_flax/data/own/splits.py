"""The splits of people's own data: named ones, or a fixed random choice."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from common_flax.data import arrangement
from common_flax.data.source import unreadable_split

T = TypeVar('T', bound=Hashable)

_SEED = 0
_TEST_SHARE = 0.1


def choose(
  there: Collection[str | None], split: str, path: str, part: str
) -> tuple[str, list[str]]:
  """The split that is meant by a name.

  Args:
    there: the splits of the data; None alone if they have no splits.
    split: its name or a synonym; for 'test', 'validation' will do.
    path: of the data, for errors.
    part: the kind of thing that a split is, such as 'folder'.

  Returns:
    One of `there`, or of 'train' and 'test' if they have no splits; and
    sentences to tell the user.

  Raises:
    UserError: if there is no such split.
  """
  name = arrangement.split_named(split) or split
  if None in there:
    if name not in ('train', 'test'):
      which = f'a {part} without sub-folders train and test'
      if part != 'folder':
        which = f'{path}, which names no splits,'
      raise unreadable_split(split, f'{which} has the splits train and test')
    return name, []
  if name == 'test' and name not in there:
    name = 'validation'
  if name not in there:
    raise unreadable_split(
      split, f'no {part} {path}/{split}; the splits are {", ".join(there)}'
    )
  if name == 'validation' and arrangement.split_named(split) == 'test':
    return name, [
      f'{path} has no {part} test: the split test is its {part} validation.'
    ]
  return name, []


def seeded(items: Sequence[T], split: str) -> list[T]:
  """A tenth of the items for 'test', the others for 'train', in order."""
  order = np.argsort(np.random.Philox(key=_SEED).random_raw(len(items)))
  num_test = round(_TEST_SHARE * len(items))
  chosen = order[:num_test] if split == 'test' else order[num_test:]
  return [items[i] for i in sorted(chosen)]


def copies(
  items: Sequence[T],
  others: Iterable[T],
  size: Callable[[T], int],
  digest: Callable[[T], Hashable],
) -> dict[T, T]:
  """The items whose content one of the others has: {item: the other}.

  Args:
    items: what is held out.
    others: what is trained on.
    size: bytes of an item's content; empty ones are no copies.
    digest: a digest of an item's content.
  """
  sizes = {size(x) for x in items} - {0}
  alike = [x for x in others if size(x) in sizes]
  by_digest = {digest(x): x for x in reversed(alike)}
  sizes = {size(x) for x in by_digest.values()}
  digests = {x: digest(x) for x in items if size(x) in sizes}
  return {x: by_digest[key] for x, key in digests.items() if key in by_digest}


def all_trained_on(split: str, path: str) -> str:
  """The sentence about a split all of whose images are also trained on."""
  return f'All images of the split {split} of {path} are also trained on.'
