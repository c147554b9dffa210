"""Variational autoencoders as pure functions (UDL chapter 17)."""

from common_flax import __version__ as __version__
