"""Metrics of sample quality, and the feature networks that they use."""
