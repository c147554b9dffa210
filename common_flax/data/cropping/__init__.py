"""Crops of images at random places."""
