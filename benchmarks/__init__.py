"""Benchmarks of this project; see README.md."""
