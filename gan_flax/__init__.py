"""Generative adversarial networks (Understanding Deep Learning, chapter 15)."""
