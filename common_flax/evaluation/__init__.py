"""Scores sets of generated images against real ones."""
