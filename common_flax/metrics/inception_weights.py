"""The published weights of InceptionV3: given by path, or fetched once.

They come from pytorch-fid's first release, converted from TensorFlow's of
2015-12-05. They are not part of this software.
"""

import hashlib
import os
import pathlib
import urllib.request

import numpy as np

from common_flax import caches
from common_flax import files
from common_flax import images as images_lib
from common_flax import terminal
from common_flax.config import UserError
from common_flax.metrics import torch_weights

NAME = 'pt_inception-2015-12-05-6726825d.pth'
URL = (
  'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/'
  + NAME
)
_SHA256_BEGINS = '6726825d'  # as the name says
_TIMEOUT = 60  # seconds without a byte
_BLOCK = 2**20  # bytes
_MAX_BYTES = 2**30  # of a file


def cached() -> pathlib.Path:
  """Where the weights are kept once they were fetched."""
  return caches.folder('inception') / NAME


def read(path: str | None) -> tuple[str, dict[str, np.ndarray], str]:
  """The weights.

  Args:
    path: of a file; None for the published one, downloaded if it is not in the
      user's cache.

  Returns:
    The file, its tensors by name, and its SHA-256.

  Raises:
    UserError: if there is no such file, it cannot be downloaded or read.
  """
  file = cached() if path is None else pathlib.Path(os.path.expanduser(path))
  if path is None and not file.exists():
    _download(file)
  try:
    data = files.read_bytes(file, _MAX_BYTES)
  except OSError as error:
    raise UserError(
      f'--inception_weights={file}: cannot be read: {error.strerror or error}'
    ) from error
  tensors = torch_weights.parse(data, f'--inception_weights={file}')
  return str(file), tensors, hashlib.sha256(data).hexdigest()


def _download(target: pathlib.Path) -> None:
  """Fetches the published file; whole and the right one, or not at all."""
  way_out = f'give {NAME} with --inception_weights=FILE, or take other features'
  try:
    with urllib.request.urlopen(URL, timeout=_TIMEOUT) as response:
      size = int(response.headers.get('Content-Length') or 0)
      blocks = iter(lambda: response.read(_BLOCK), b'')
      data = b''.join(
        terminal.track(blocks, -(-size // _BLOCK), f'Fetching {NAME}')
      )
  except (OSError, ValueError) as error:  # urllib's errors are of these
    reason = getattr(error, 'reason', error)
    raise UserError(f'{URL}: cannot be fetched: {reason}; {way_out}') from error
  digest = hashlib.sha256(data).hexdigest()
  if not digest.startswith(_SHA256_BEGINS):
    raise UserError(
      f'{URL}: what came has the SHA-256 {digest}, not {_SHA256_BEGINS}...; '
      f'{way_out}'
    )
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    images_lib.write_bytes(target, data)
  except OSError as error:
    raise UserError(
      f'{target}: cannot be written to: {error.strerror or error}'
    ) from error
