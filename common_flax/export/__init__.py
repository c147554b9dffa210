"""Trained networks as files that live without this package.

`python -m common_flax.export --workdir=DIR --output=FOLDER` writes them;
`load_exported(FOLDER)` runs them.
"""

from common_flax.export.load import load_exported

__all__ = ['load_exported']
