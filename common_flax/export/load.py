"""Loads exported networks; every model card shows this code."""

import json
import pathlib

from jax import export


def load_exported(folder: str | pathlib.Path) -> dict:
  """The functions of an exported folder by name, to call on float32 arrays."""
  folder = pathlib.Path(folder)
  parts = json.loads((folder / 'export.json').read_text())['parts']
  return {
    name: export.deserialize((folder / f'{name}.stablehlo').read_bytes()).call
    for name in parts
  }
