"""Layers with one right answer and several speeds."""
