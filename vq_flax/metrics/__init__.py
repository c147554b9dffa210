"""Metrics of discrete latents."""
