"""The files that `benchmarks.quality` leaves: a table, its numbers, curves."""

from collections.abc import Iterator
from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from benchmarks import turns
from common_flax.cli import plotting

METRICS = ('fid', 'kid', 'precision', 'recall', 'density', 'coverage')
HEADER = (
  'contender',
  'seconds',
  'steps',
  'FID, each round',
  'relative',
  'KID x 1,000',
  *METRICS[2:],
  'rarest class',
)


def rows_of(results: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
  """Medians over rounds of each contender, as rows of a table."""
  names = list(dict.fromkeys(row['contender'] for row in results))
  first = [row['fid'] for row in results if row['contender'] == names[0]]
  for name in names:
    rows = [row for row in results if row['contender'] == name]

    def median(key, rows=rows):
      return float(np.median([row.get(key, np.nan) for row in rows]))

    fids = [row['fid'] for row in rows]
    # In the last round, some contenders may be still to come.
    ratios = [fid / peer for fid, peer in zip(fids, first, strict=False)]
    yield [
      name,
      f'{median("seconds"):.0f}',
      f'{median("steps"):,.0f}',
      ' '.join(f'{fid:.2f}' for fid in fids),
      ' '.join(f'{ratio:.2f}' for ratio in ratios),
      f'{1000 * median("kid"):.2f}',
      *(f'{median(key):.3f}' for key in METRICS[2:]),
      f'{median("rarest_class"):.1%}',
    ]


def _draw_curves(
  results: Sequence[dict[str, Any]], real: float | None, file: pathlib.Path
) -> None:
  """Draws the FID over seconds, one line a round."""
  figure = plotting.create_figure(7, 4.5)
  panel = figure.subplots()
  names = list(dict.fromkeys(row['contender'] for row in results))
  for row in results:
    index = names.index(row['contender'])
    panel.plot(
      *zip(*row['curve'], strict=True),
      marker='.',
      color=plotting.COLOURS[index % len(plotting.COLOURS)],
      label=row['contender'] if row['seed'] == results[0]['seed'] else None,
    )
  if real:
    panel.axhline(
      real, color=plotting.GREY, linestyle='--', label='real images'
    )
  panel.set_yscale('log')
  plotting.finish(panel, '', 'seconds of training, start included', 'FID')
  panel.legend(frameon=False)
  figure.savefig(file)


def write(
  results: Sequence[dict[str, Any]],
  real: dict[str, float],
  minutes: float,
  output: pathlib.Path,
) -> str:
  """Writes all files about the results so far; returns the table."""
  blank = [''] * (len(HEADER) - 4)
  baseline = ['real training images', '', '', f'{real["fid"]:.2f}', *blank]
  rows = [*rows_of(results), baseline] if real else list(rows_of(results))
  table = turns.markdown(HEADER, rows)
  text = f'{minutes:g} min, {turns.machine()}\n\n{table}\n'
  (output / 'quality.md').write_text(text)
  turns.write_json(
    str(output / 'quality.json'),
    {
      'machine': turns.machine(),
      'minutes': minutes,
      'real': real,
      'results': results,
    },
  )
  _draw_curves(results, real.get('fid'), output / 'quality.png')
  return text
