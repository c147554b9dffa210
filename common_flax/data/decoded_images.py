"""Decoded and resized images, cached between runs.

The name of a cache entry is a digest of everything that determines its content:
the encoded images, the size, the version of the decoder.

Dimensions: N examples, H height, W width, C channels.
"""

from collections.abc import Callable
from collections.abc import Iterator
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np

from common_flax.data import caches
from common_flax.data.cropping import stored
from common_flax.data.decode import check_grey
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode_with_facts
from common_flax.data.rendering import Facts
from common_flax.data.rendering import likely_white
from common_flax.data.rendering import NO_BACKGROUND
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.data.source import ArraySource
from common_flax.data.source import chunks
from common_flax.data.source import EncodedImages
from common_flax.data.source import LeftOut
from common_flax.data.source import Report
from common_flax.errors import UserError
from common_flax.images import sides
from common_flax.images import Size
from common_flax.images import size_text
from common_flax.progress import track

# Increased whenever `decode` returns other pixels or the entry format changes.
_DECODE_VERSION = 3
# Encoded images of at least this many bytes are decoded by several threads; on
# smaller ones the threads would wait for each other.
_THREADED_BYTES = 16_384
_CHUNK = 256  # small encoded images read at a time


def _digests(
  encoded: EncodedImages, size: Size, rendering: Rendering
) -> tuple[str, str]:
  """The name of the cache entry of these images, and their fingerprint."""
  height, width = sides(size)
  options = (
    _DECODE_VERSION,
    height if height == width else (height, width),
    *(encoded.channels, len(encoded)),
    *(rendering.background, rendering.white_level),
    *(('whole',) if rendering.is_whole else ()),
  )
  digest = hashlib.blake2b(digest_size=16)
  examples = (
    example
    for _, data, labels in chunks(encoded, _CHUNK)
    for example in zip(data, labels, strict=True)
  )
  for data, label in track(examples, len(encoded), 'Checking images'):
    digest.update(f'{len(data)} {label} '.encode())
    digest.update(data)
  fingerprint = digest.hexdigest()
  name = f'{options} {fingerprint}'.encode()
  return hashlib.blake2b(name, digest_size=16).hexdigest(), fingerprint


def _decode_all(
  encoded: EncodedImages, size: Size, rendering: Rendering, **options: bool
) -> Iterator[tuple[int, tuple[np.ndarray, Facts] | CorruptImageError, int]]:
  """Yields (index, pixels and facts or error, label), in order.

  Args:
    encoded: the encoded images.
    size: of the result.
    rendering: how images become opaque, 8 bits deep, and of this size.
    **options: of `decode_with_facts`.
  """

  def decode_one(data: bytes) -> tuple[np.ndarray, Facts] | CorruptImageError:
    try:
      return decode_with_facts(
        data, size, encoded.channels, rendering, **options
      )
    except CorruptImageError as error:
      return error

  ((first, _),) = encoded.read([0])
  threads = os.cpu_count() if len(first) >= _THREADED_BYTES else 1
  chunk = _CHUNK if threads == 1 else 4 * threads
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for indices, data, labels in chunks(encoded, chunk):
      run = map if threads == 1 else pool.map
      yield from zip(indices, run(decode_one, data), labels, strict=True)


def _covers(
  encoded: EncodedImages, size: Size, rendering: Rendering
) -> Iterator[np.ndarray]:
  """The images that can be decoded, until a size just fits into each."""
  results = _decode_all(encoded, size, rendering, is_cover=True)
  for _, result, _ in track(results, len(encoded), 'Resizing images'):
    if not isinstance(result, CorruptImageError):
      yield result[0]


@dataclasses.dataclass
class _Account:
  """What an entry's report.json tells of the images; JSON throughout."""

  corrupt: list[tuple[int, str]]  # index and reason
  transparent: int = 0
  with_frames: int = 0
  small: int = 0
  padded: int = 0
  # depth -> number of images, their highest value, and that which is white.
  depths: dict[str, list[float]] = dataclasses.field(default_factory=dict)

  def add(self, facts: Facts) -> None:
    self.transparent += facts.is_transparent
    self.with_frames += facts.has_frames
    self.small += facts.is_small
    self.padded += facts.is_padded
    number, highest, _ = self.depths.get(facts.depth, (0, 0, 0))
    self.depths[facts.depth] = [
      number + 1,
      max(highest, facts.highest),
      facts.white,
    ]

  def notes(self, size: Size, background: str, is_scaled: bool) -> list[str]:
    """What the images do not show; of scaled arrays no level is suggested."""
    shown = f'laid on {background} (dataset.background)'
    if background == NO_BACKGROUND:
      shown = 'which dataset.background=none drops'
    first = 'of which only the first is taken'
    found = [
      (self.transparent, f'with transparency, {shown}'),
      (self.with_frames, f'with several frames or pages, {first}'),
      (self.small, f'smaller than {size_text(size)} pixels, and enlarged'),
    ]
    total = int(sum(number for number, *_ in self.depths.values()))
    notes = [f'{n:,} of {total:,} images: {what}.' for n, what in found if n]
    depths = {} if is_scaled else self.depths
    for depth, (number, highest, white) in sorted(depths.items()):
      if 4 * highest > white >= highest or not highest:
        continue
      verb = 'look dark' if highest < white else 'are cut off at white'
      notes.append(
        f'{int(number):,} of {total:,} images: {depth}, with values up to '
        f'{highest:g} where {white:g} is white, so that they {verb}. If that '
        f'is wrong, set --config.dataset.white_level={likely_white(highest)}.'
      )
    return notes


def _decode_into(
  images: np.ndarray,
  encoded: EncodedImages,
  skip_corrupt: bool,
  rendering: Rendering,
) -> tuple[np.ndarray, _Account]:
  """Decodes all images into the first rows of `images`.

  Returns:
    The labels, int32, and what there is to say.

  Raises:
    UserError: naming a corrupt image, or if no image remains.
  """
  labels, account = [], _Account([])
  for index, result, label in track(
    _decode_all(encoded, images.shape[1:3], rendering),
    len(encoded),
    'Decoding images',
  ):
    if not isinstance(result, CorruptImageError):
      images[len(labels)], facts = result
      labels.append(label)
      account.add(facts)
    elif skip_corrupt:
      account.corrupt.append((index, str(result)))
    else:
      raise UserError(
        f'{encoded.name(index)}: cannot be decoded ({result}); repair or '
        'remove it, or skip such images with '
        '--config.dataset.skip_corrupt=True'
      )
  if not labels:
    raise UserError(f'{encoded.name(0)}: none of the images can be decoded')
  return np.asarray(labels, np.int32), account


def _make_entry(
  entry: pathlib.Path,
  encoded: EncodedImages,
  shape: tuple[int, ...],
  skip_corrupt: bool,
  rendering: Rendering,
) -> None:
  with caches.new_entry(entry) as folder:
    free = shutil.disk_usage(folder).free
    if free < np.prod(shape):
      raise OSError(f'only {free / 2**30:.1f} GiB are free')
    images = np.lib.format.open_memmap(
      folder / 'images.npy', 'w+', np.uint8, shape
    )
    labels, account = _decode_into(images, encoded, skip_corrupt, rendering)
    images.flush()
    np.save(folder / 'labels.npy', labels)
    text = json.dumps(dataclasses.asdict(account))
    (folder / 'report.json').write_text(text)
    caches.write_checksums(folder, images)


def _read_entry(
  entry: pathlib.Path, shape: tuple[int, ...], in_memory: bool
) -> tuple[np.ndarray, np.ndarray, _Account]:
  """Reads decoded images, their labels and what there is to say of them.

  Images that stay on the disk are not compared with their checksum.

  Raises:
    OSError, ValueError, TypeError, EOFError: if the entry is damaged.
  """
  images = np.load(entry / 'images.npy', mmap_mode='r', allow_pickle=False)
  labels = np.load(entry / 'labels.npy', allow_pickle=False)
  account = _Account(**json.loads((entry / 'report.json').read_text()))
  if images.shape != shape or images.dtype != np.uint8:
    raise ValueError('images.npy holds other images')
  if in_memory:
    images = np.array(images)
  caches.check(entry, images if in_memory else None)
  return images, labels, account


def _read_or_make(
  entry: pathlib.Path,
  shape: tuple[int, ...],
  in_memory: bool,
  make: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray, _Account]:
  """The result of `_read_entry`; makes an entry that is missing or damaged."""
  if not entry.exists():
    make()
  try:
    return _read_entry(entry, shape, in_memory)
  except (OSError, ValueError, TypeError, EOFError) as error:
    print(f'{entry}: damaged ({error}); decoding the images again.')
    shutil.rmtree(entry)
    make()
    return _read_entry(entry, shape, in_memory)


def _report(
  encoded: EncodedImages,
  account: _Account,
  size: Size,
  rendering: Rendering,
) -> Report:
  before = encoded.report
  is_seen = account.transparent or account.padded
  is_scaled = getattr(encoded, 'is_scaled', False)
  notes = account.notes(size, rendering.background, is_scaled)
  corrupt = [
    LeftOut(encoded.name(index), _kind_of_damage(reason), reason)
    for index, reason in account.corrupt
  ]
  return Report(
    left_out=(*before.left_out, *corrupt),
    notes=(*before.notes, *notes),
    background=rendering.background if is_seen else None,
  )


def _kind_of_damage(reason: str) -> str:
  if reason in ('empty', 'not an image'):
    return reason
  return 'truncated' if 'truncated' in reason.lower() else 'damaged'


def load_decoded(
  encoded: EncodedImages,
  size: Size,
  *,
  skip_corrupt: bool,
  in_memory_bytes: int,
  rendering: Rendering = ON_WHITE,
  is_cropped: bool = False,
) -> ArraySource:
  """Decodes all images, or loads them from the cache.

  Args:
    encoded: the encoded images.
    size: of the result.
    skip_corrupt: skip corrupt images instead of raising.
    in_memory_bytes: decoded images up to this size are held in memory; larger
      ones are memory-mapped from the cache.
    rendering: how images become opaque, 8 bits deep, and of one shape.
    is_cropped: whether batches are cropped at random.

  Raises:
    UserError: naming a corrupt image; if no image remains; or if the cache
      cannot hold images that are too large for memory.
  """
  check_grey(rendering, encoded.channels)
  shape = (len(encoded), *sides(size), encoded.channels)
  in_memory = np.prod(shape) <= in_memory_bytes
  name, fingerprint = _digests(encoded, size, rendering)
  # An entry without corrupt images serves either setting.
  entry = caches.folder('images') / name
  if skip_corrupt and not entry.exists():
    entry = entry.with_name(f'{entry.name}_skipping')
  try:
    make = functools.partial(
      _make_entry, entry, encoded, shape, skip_corrupt, rendering
    )
    images, labels, account = _read_or_make(entry, shape, in_memory, make)
  except (OSError, ValueError, TypeError, EOFError) as error:
    if isinstance(error, UserError):
      raise
    if not in_memory:
      what = f'{np.prod(shape) / 2**30:.1f} GiB of decoded images'
      raise caches.no_room(entry.parent, what, error) from error
    images = np.empty(shape, np.uint8)
    labels, account = _decode_into(images, encoded, skip_corrupt, rendering)
  images, wide = images[: len(labels)], None
  if is_cropped:
    covers = _covers(encoded, size, rendering)
    entry = entry.with_name(f'{entry.name}_wide')
    wide = stored.load(entry, covers, images.shape, in_memory_bytes)
  return ArraySource(
    examples=images,
    labels=labels,
    num_classes=encoded.num_classes,
    class_names=encoded.class_names,
    report=_report(encoded, account, size, rendering),
    wide=wide,
    fingerprint=fingerprint,
  )
