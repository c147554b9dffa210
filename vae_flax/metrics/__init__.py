"""Metrics of trained VAEs beside those of images."""
