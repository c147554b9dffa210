"""The published weights of InceptionV3: read from a file, or downloaded once.

pytorch-fid's first release converted them from TensorFlow's of 2015-12-05. They
are not part of this software.
"""

import hashlib
import os
import pathlib
import urllib.request

import numpy as np

from common_flax import files
from common_flax.data import caches
from common_flax.errors import UserError
from common_flax.metrics import torch_weights
from common_flax.progress import track

NAME = 'pt_inception-2015-12-05-6726825d.pth'
URL = (
  'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/'
  + NAME
)
_SHA256_PREFIX = '6726825d'  # the hash in the file's name
_TIMEOUT = 60  # seconds without data
_BLOCK = 2**20  # bytes
_MAX_BYTES = 2**30  # of a weights file


def cached() -> pathlib.Path:
  """Path of the downloaded weights in the user's cache."""
  return caches.folder('inception') / NAME


def read(path: str | None) -> tuple[str, dict[str, np.ndarray], str]:
  """Reads the weights.

  Args:
    path: of a file; None for the published one, which is downloaded unless it
      is in the user's cache.

  Returns:
    The path of the file, its tensors by name, and its SHA-256.

  Raises:
    UserError: if the file cannot be found, downloaded or read.
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
  """Downloads the published file, and keeps it if its hash is right."""
  cure = f'pass {NAME} with --inception_weights=FILE, or use other --features'
  try:
    with urllib.request.urlopen(URL, timeout=_TIMEOUT) as response:
      size = int(response.headers.get('Content-Length') or 0)
      blocks = iter(lambda: response.read(_BLOCK), b'')
      data = b''.join(track(blocks, -(-size // _BLOCK), f'Downloading {NAME}'))
  except (OSError, ValueError) as error:  # the types of urllib's errors
    reason = getattr(error, 'reason', error)
    raise UserError(f'{URL}: cannot be downloaded: {reason}; {cure}') from error
  digest = hashlib.sha256(data).hexdigest()
  if not digest.startswith(_SHA256_PREFIX):
    raise UserError(
      f'{URL}: the download has the SHA-256 {digest}, not {_SHA256_PREFIX}...; '
      f'{cure}'
    )
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(target, data)
  except OSError as error:
    raise UserError(
      f'{target}: cannot be written to: {error.strerror or error}'
    ) from error
