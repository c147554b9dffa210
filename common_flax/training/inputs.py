"""The inputs of a run: its source, and the shape of its batches.

Dimensions: U batches per step, S runs, B batch.
"""

from collections.abc import Iterator
import dataclasses
import math
from typing import Any

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax.data.batches import Batch
from common_flax.data.batches import example_batches
from common_flax.data.batches import Labelled
from common_flax.data.source import Report
from common_flax.data.source import report_of
from common_flax.data.source import Source
from common_flax.workdir import classes
from common_flax.workdir import layout


@dataclasses.dataclass(frozen=True)
class Inputs:
  """The batches of one run, or of several runs with different seeds."""

  source: Source
  batch_size: int  # B
  batches_per_step: int  # U
  num_seeds: int  # S
  with_labels: bool  # whether batches are `Labelled`

  @property
  def kind(self) -> str:
    """The plural noun for the examples."""
    return 'images' if len(self.source.example_shape) == 3 else 'points'

  @property
  def report(self) -> Report:
    """What was left out of the data, and other notes."""
    return report_of(self.source)

  def describe(self, config: ConfigDict, workdir: epath.PathLike) -> str:
    """Describes the training data and the seeds in a few lines."""
    lines = [
      f'{len(self.source):,} {self.kind} {self.source.example_shape} of '
      f'{config.dataset.name}'
    ]
    lines += self.report.lines(str(epath.Path(workdir) / layout.LEFT_OUT))
    if self.num_seeds > 1:
      last = config.seed + self.num_seeds - 1
      lines.append(
        f'{self.num_seeds} runs at once, with seeds {config.seed} to {last}'
      )
    return '\n'.join(lines)

  @property
  def info(self) -> dict[str, Any]:
    """The description of the data in checkpoints, as JSON."""
    info = {
      'image_shape': self.source.example_shape,
      'num_examples': len(self.source),
      'num_classes': self.source.num_classes,
    }
    fingerprint = getattr(self.source, 'fingerprint', None)
    if fingerprint is not None:
      info['content'] = fingerprint
    if self.report.background is not None:
      info['background'] = self.report.background
    return info

  @property
  def class_names(self) -> tuple[str, ...] | None:
    """The names of the classes; None if the data has none."""
    return data.class_names(self.source)

  def check_classes(self, workdir: epath.PathLike, is_resumed: bool) -> None:
    """Checks the names of the classes, before anything is written.

    Raises:
      UserError: if they are wrong, or not those of the conditional run that is
        to be resumed.
    """
    names = self.class_names
    if is_resumed and self.with_labels:
      classes.check(workdir, names)

  def write_names(self, workdir: epath.PathLike) -> None:
    """Writes the names of the classes, and of the files that are left out.

    Raises:
      UserError: if a file cannot be written.
    """
    classes.write(workdir, self.class_names)
    layout.write_left_out(workdir, self.report.text())

  @property
  def axes(self) -> tuple[int, ...]:
    """The leading axes of a step's batches, (U, B) or (U, S, B)."""
    several = (self.num_seeds,) if self.num_seeds > 1 else ()
    return (self.batches_per_step, *several, self.batch_size)

  @property
  def bytes_per_step(self) -> int:
    """Size of the examples of one step."""
    shape = (*self.axes, *self.source.example_shape)
    return math.prod(shape) * self.source.dtype.itemsize

  def abstract(self) -> Batch:
    """The shapes and types of a step's batches."""
    shape = (*self.axes, *self.source.example_shape)
    examples = jax.ShapeDtypeStruct(shape, self.source.dtype)
    if not self.with_labels:
      return examples
    return Labelled(examples, jax.ShapeDtypeStruct(self.axes, np.int32))

  def batches(
    self, seed: int, start_step: int, num_steps: int, rows: slice
  ) -> Iterator[Batch]:
    """Yields one run's batches [U, B, ...], starting at a step.

    Args:
      seed: seed of the run.
      start_step: train steps completed.
      num_steps: train steps of the whole run.
      rows: the rows of each batch that this process reads.
    """
    return example_batches(
      self.source,
      seed=seed,
      batch_size=self.batch_size,
      batches_per_step=self.batches_per_step,
      start_step=start_step,
      num_steps=num_steps,
      with_labels=self.with_labels,
      rows=rows,
    )
