"""Layers in their textbook form, with faster forms for CPUs."""
