"""Priors of latents beside N(0, I)."""
