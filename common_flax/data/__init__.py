"""Sources of images and points, by name."""

from common_flax.data import digits
from common_flax.data import stacked
from common_flax.data import worlds
from common_flax.data.decoded import load_encoded
from common_flax.data.folder import FolderImages
from common_flax.data.source import Progress
from common_flax.data.source import Source
from common_flax.data.source import unseen
from common_flax.data.tfds_images import TfdsImages
from common_flax.data.worlds import WORLDS

# Images that take no more than this are held in memory.
IN_MEMORY_BYTES = 2**30


def load_source(
  name: str,
  split: str,
  image_size: int,
  *,
  data_dir: str | None = None,
  path: str | None = None,
  stack_of: str = 'digits',
  skip_corrupt: bool = False,
  progress: Progress = unseen,
) -> Source:
  """Opens a source; every one of its images was decoded by then.

  Args:
    name: 'digits', 'folder', a world of points such as 'ring', 'stacked', or
      the name of a TFDS data set.
    split: 'train', 'test', or for TFDS any of its splits.
    image_size: height and width in pixels; nothing to a world.
    data_dir: of TFDS; None for TFDS_DATA_DIR.
    path: of 'folder'.
    stack_of: the source that 'stacked' stacks.
    skip_corrupt: leave out images that cannot be decoded instead of raising.
    progress: shows how far an iteration is, see `load_encoded`.

  Raises:
    UserError: naming the field or file that is wrong.
  """
  if name == 'digits':
    return digits.load(split, image_size)
  if name in WORLDS:
    return worlds.load(name, split)
  if name == 'stacked':
    base = load_source(
      stack_of,
      split,
      image_size,
      data_dir=data_dir,
      path=path,
      skip_corrupt=skip_corrupt,
      progress=progress,
    )
    return stacked.stack(base, stack_of, split)
  if name == 'folder':
    encoded = FolderImages(path, split, progress)
  else:
    encoded = TfdsImages(name, split, data_dir, progress)
  return load_encoded(
    encoded,
    image_size,
    skip_corrupt=skip_corrupt,
    in_memory_bytes=IN_MEMORY_BYTES,
    progress=progress,
  )
