"""Figures of latent variable models with a known likelihood."""
