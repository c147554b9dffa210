"""Pictures inside a page: as data URIs, small enough to send by mail."""

import base64
from collections.abc import Sequence
import io

from etils import epath
import numpy as np
import PIL.Image

from common_flax.report.markup import Element
from common_flax.report.markup import element
from common_flax.report.runs import Run
from common_flax.workdir import writers

_MAX_FRAMES = 24  # over training
_MAX_PRINTED = 4  # of them on paper
_FRAME_SIDE, _FRAME_BYTES = 640, 100_000  # larger pictures are made smaller
_FULL_SIDE, _FULL_BYTES = 1600, 1_000_000
_SHOWN_SIDE = 560  # CSS pixels to which small pictures are enlarged
_QUALITY = 85


def samples(run: Run, faults: list[str], prefix: str) -> Element:
  """The last samples, and those over training under a slider.

  Args:
    run: the run.
    faults: receives what cannot be read.
    prefix: of the captions; names the run if there are several.
  """
  frames = []
  for step, path in _thinned(run.pictures):
    try:
      last = writers.read_picture(path)
    except OSError as error:
      faults.append(str(error))
      continue
    frame = last.copy()  # large pictures of a long run would fill the memory
    frame.thumbnail((_FRAME_SIDE, _FRAME_SIDE))
    frames.append((step, frame))
  if not frames:
    text = f'{prefix}There are no samples yet.'
    return element('p', text, class_='missing')
  text = f'step {frames[-1][0]:,}'
  full = element(
    'figure',
    _image(last, f'Samples of {run.name} at {text}', _FULL_SIDE, _FULL_BYTES),
    element('figcaption', f'{prefix}samples at {text}'),
  )
  parts = [full]
  if len(frames) > 1:
    parts.append(_slider(run, frames, prefix))
  return element('div', *parts, class_='samples')


def _slider(
  run: Run, frames: Sequence[tuple[int, PIL.Image.Image]], prefix: str
) -> Element:
  """The pictures of which a slider shows one; on paper some, in a row."""
  num = len(frames)
  printed = set(np.linspace(0, num - 1, min(_MAX_PRINTED, num)).astype(int))
  figures = []
  for i, (step, picture) in enumerate(frames):
    alt = f'Samples of {run.name} at step {step:,}'
    kinds = ['frame', 'printed' if i in printed else '', 'on' * (i == num - 1)]
    figures.append(
      element(
        'figure',
        _image(picture, alt, _FRAME_SIDE, _FRAME_BYTES),
        element('figcaption', f'{prefix}step {step:,}'),
        class_=' '.join(filter(None, kinds)),
      )
    )
  control = element(
    'input',
    type='range',
    min='0',
    max=str(num - 1),
    value=str(num - 1),
    aria_label=f'Samples of {run.name} over training',
    data_steps=' '.join(str(step) for step, _ in frames),
  )
  label = element('p', 'Over training: ', control, class_='control')
  return element('div', label, *figures, class_='frames')


def _thinned(pictures: Sequence[tuple[int, epath.Path]]) -> list:
  """At most `_MAX_FRAMES` of the pictures, evenly spaced, with both ends."""
  if len(pictures) <= _MAX_FRAMES:
    return list(pictures)
  chosen = np.linspace(0, len(pictures) - 1, _MAX_FRAMES).round().astype(int)
  return [pictures[i] for i in chosen]


def file(path: epath.Path, alt: str, faults: list[str]) -> Element | None:
  """A picture of the workdir; None if it has none or it cannot be read."""
  if not path.exists():
    return None
  try:
    picture = writers.read_picture(path)
  except OSError as error:
    faults.append(str(error))
    return None
  image = _image(picture, alt, _FULL_SIDE, _FULL_BYTES, is_drawing=True)
  return element('figure', image, element('figcaption', alt))


def _image(
  picture: PIL.Image.Image,
  alt: str,
  max_side: int,
  max_bytes: int,
  is_drawing: bool = False,
) -> Element:
  """An image; small grids are enlarged by a whole number, pixel by pixel."""
  scale = 1 if is_drawing else max(1, _SHOWN_SIDE // max(picture.size))
  source = data_uri(picture, max_side, max_bytes)
  width = min(picture.width, max_side) * scale
  return element(
    'img',
    src=source,
    alt=alt,
    style=f'width: {width}px',
    class_='pixels' if scale > 1 else '',
  )


def data_uri(picture: PIL.Image.Image, max_side: int, max_bytes: int) -> str:
  """A picture as PNG; as a smaller JPEG where that would be too large.

  Args:
    picture: the picture.
    max_side: pixels to which a longer side is shortened.
    max_bytes: of the PNG.
  """
  if picture.mode not in ('L', 'RGB'):
    picture = picture.convert('RGB')
  if max(picture.size) > max_side:
    picture = picture.copy()
    picture.thumbnail((max_side, max_side))
  data, kind = _encoded(picture, 'PNG'), 'png'
  if len(data) > max_bytes:
    data, kind = _encoded(picture, 'JPEG', quality=_QUALITY), 'jpeg'
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def _encoded(picture: PIL.Image.Image, kind: str, **options: int) -> bytes:
  buffer = io.BytesIO()
  picture.save(buffer, kind, **options)
  return buffer.getvalue()
