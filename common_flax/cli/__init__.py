"""Shared parts of commands: flags, errors, terminal, output files."""
