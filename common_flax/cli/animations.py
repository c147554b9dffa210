"""Animations of samples, one after another: GIF, MP4 and WebP.

MP4 needs the package imageio-ffmpeg, which brings its own ffmpeg.

Dimensions: N frames, H height, W width, C channels.
"""

from collections.abc import Iterable
import dataclasses
import itertools
import pathlib
import subprocess

import numpy as np

from common_flax import images as images_lib
from common_flax.errors import UserError

_SIDE = 256  # pixels; smaller images are enlarged


@dataclasses.dataclass(frozen=True)
class Timing:
  """How an animation plays.

  Attributes:
    frames_per_second: at most 25, the most that viewers play of a GIF.
    has_pause: whether it stops at its end before it starts again.
  """

  frames_per_second: int
  has_pause: bool


SAMPLES = Timing(8, has_pause=True)  # a row of 8 in a second
_PAUSE = 2_000  # milliseconds


def check_available(path: str) -> None:
  """Checks that an animation can be written.

  Args:
    path: of the animation.

  Raises:
    UserError: if its format needs a package that is missing.
  """
  if not path.lower().endswith('.mp4'):
    return
  try:
    import imageio_ffmpeg  # an extra

    imageio_ffmpeg.get_ffmpeg_exe()
  except (ImportError, RuntimeError) as error:
    raise UserError(
      f'--output={path}: needs imageio-ffmpeg; install it: pip install '
      'imageio-ffmpeg, or use FILE.gif'
    ) from error


def write(
  target: pathlib.Path, images: Iterable[np.ndarray], timing: Timing = SAMPLES
) -> None:
  """Writes images uint8 [H, W, C] as the frames of a GIF, MP4 or WebP.

  Raises:
    OSError: if the file cannot be written.
  """
  rate, ending = timing.frames_per_second, target.suffix.lower()
  if ending == '.mp4':
    _write_mp4(target, images, rate)
    return
  frames = [images_lib.to_pil(_enlarged(image)) for image in images]
  durations = [1_000 // rate] * len(frames)
  if timing.has_pause:
    durations[-1] = _PAUSE
  images_lib.write_animation(target, frames, durations, ending)


def _enlarged(image: np.ndarray) -> np.ndarray:
  """Repeats the pixels of a small image, so that players show it large."""
  times = max(1, _SIDE // max(image.shape[:2]))
  return image.repeat(times, axis=0).repeat(times, axis=1)


def _write_mp4(
  target: pathlib.Path, images: Iterable[np.ndarray], rate: int
) -> None:
  import imageio_ffmpeg  # an extra

  partial = target.with_name(f'.{target.stem}.partial{target.suffix}')
  frames = (_video_frame(_enlarged(image)) for image in images)
  first = next(frames)
  height, width, _ = first.shape
  # Not by imageio-ffmpeg's own writer, which forks and so alarms JAX.
  command = [imageio_ffmpeg.get_ffmpeg_exe(), '-y', '-loglevel', 'error']
  command += ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}']
  command += ['-r', str(rate), '-i', '-']
  command += ['-c:v', 'libx264', '-pix_fmt', 'yuv420p']
  command += ['-crf', '12', str(partial.absolute())]  # samples have sharp edges
  try:
    with subprocess.Popen(
      command, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as video:
      for frame in itertools.chain([first], frames):
        video.stdin.write(frame.tobytes())
      _, reason = video.communicate()
    if video.returncode:
      raise OSError(f'ffmpeg: {reason.decode(errors="replace").strip()}')
    partial.replace(target)
  finally:
    partial.unlink(missing_ok=True)


def _video_frame(image: np.ndarray) -> np.ndarray:
  """The image in colour, with even sides, which the codec needs."""
  height, width, channels = image.shape
  edges = ((0, height % 2), (0, width % 2), (0, 0))
  padded = np.pad(image, edges, mode='edge')
  return np.ascontiguousarray(padded.repeat(3 // channels, axis=2))
