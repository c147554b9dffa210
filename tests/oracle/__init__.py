"""Comparisons with reference implementations; a package for its names."""
