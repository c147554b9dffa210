"""Generative adversarial networks (Understanding Deep Learning, chapter 15)."""

from common_flax import __version__ as __version__
