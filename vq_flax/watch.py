"""Watches a model in training for a codebook that dies."""

from collections.abc import Sequence
import functools

import jax
from ml_collections import ConfigDict

from common_flax.training.health import Row
from common_flax.training.health import Verdict
from common_flax.training.watch import Watch
from vq_flax import generation
from vq_flax.state import VQState
from vq_flax.vq import VQ

_LEAST_USED = 0.25  # of the codes, where images have enough cells for all
_CELLS_PER_CODE = 4


def codebook_watch(vq: VQ, watched: jax.Array, config: ConfigDict) -> Watch:
  """Creates the hook that counts codes and warns if hardly any are used.

  Args:
    vq: the static part.
    watched: x [N, H, W, C], images of the training data.
    config: the run's config.
  """

  def measure(unused_root: jax.Array, state: VQState) -> dict[str, jax.Array]:
    return generation.code_use(vq, state.params, watched)

  num_cells = len(watched) * vq.grid[0] * vq.grid[1]
  is_judged = num_cells >= _CELLS_PER_CODE * vq.quantiser.num_codes
  return Watch(measure, functools.partial(judge, config, is_judged))


def judge(config: ConfigDict, is_judged: bool, rows: Sequence[Row]) -> Verdict:
  """Warns if few of the codes are used.

  Args:
    config: the run's config.
    is_judged: whether the watched images have enough cells to tell.
    rows: of metrics.jsonl.
  """
  used = rows[-1]['codes_used']
  if not is_judged or used >= _LEAST_USED:
    return Verdict(None)
  if config.model.name == 'fsq':
    return Verdict(
      f'only {used:.0%} of the codes are used. Try a lower learning rate, or '
      'fewer levels in model.levels.'
    )
  return Verdict(
    f'the codebook is dying: {used:.0%} of the codes are used. Try '
    f'{_cures(config)}.'
  )


def _cures(config: ConfigDict) -> str:
  """What helps and is not in use."""
  cures = []
  if config.codebook.start != 'k_means':
    cures.append('codebook.start=k_means')
  if not config.codebook.restart_below:
    cures.append('codebook.restart_below=1.0')
  if config.codebook.learning != 'average':
    cures.append('codebook.learning=average')
  if config.model.gradient != 'rotation':
    cures.append('model.gradient=rotation')
  cures += ['fewer model.num_codes', 'model.name=fsq']
  return ', '.join(cures[:-1]) + f' or {cures[-1]}'
