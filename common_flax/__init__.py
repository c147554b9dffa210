"""Code that all model families share."""

__version__ = '0.1.0'  # of the distribution; setup.cfg reads it here
