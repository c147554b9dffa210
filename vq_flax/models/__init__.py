"""Encoder and decoder of grids of cells."""
