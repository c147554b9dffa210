"""Where a user's machine keeps what can be made again."""

import os
import pathlib


def folder(name: str) -> pathlib.Path:
  """The folder `name` of this software's caches, which may not exist yet.

  They are below XDG_CACHE_HOME, by default ~/.cache; deleting them costs
  nothing but the time to make their content again.
  """
  root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return pathlib.Path(root) / 'gan_vae_flax' / name
