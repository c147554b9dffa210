"""The explorer's pages of GANs, and what they show as pure functions."""

from collections.abc import Mapping
from typing import Any


def reads(config: Mapping[str, Any]) -> bool:
  """Whether the fields of a config.json are those of a GAN."""
  return 'discriminator' in config and 'generator' in config
