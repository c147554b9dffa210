"""The explorer's pages of VAEs, and what they show as pure functions."""

from collections.abc import Mapping
from typing import Any


def reads(config: Mapping[str, Any]) -> bool:
  """Whether the fields of a config.json are those of a VAE."""
  is_discrete = 'codebook' in config
  return 'likelihood' in config and 'optimizer' in config and not is_discrete
