"""Metrics of trained GANs beside those of images and modes."""
