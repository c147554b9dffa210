"""Autoencoders with discrete latents, whose likelihood has an honest bound."""

from common_flax import __version__ as __version__
