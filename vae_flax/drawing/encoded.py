"""Posteriors of all images of a source, as arrays, a table or a plot.

Dimensions: N images, H height, W width, Z latent size.
"""

from collections.abc import Sequence
import csv
import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from common_flax import data
from common_flax import files
from common_flax.cli import outputs
from common_flax.cli import plotting
from common_flax.cli import sample_files
from common_flax.data.source import Source
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.progress import track
from vae_flax import generation
from vae_flax.drawing.kinds import Drawing

KIND = 'latents'
ENDINGS = (*outputs.PICTURES, '.npz', outputs.TABLE)


def write(
  output: str,
  drawing: Drawing,
  source: Source,
  names: Sequence[str] | None = None,
) -> None:
  """Writes all posteriors to FILE.npz or FILE.csv, or plots two latents.

  Args:
    output: a path that `outputs.check` accepted with ENDINGS.
    drawing: what encodes the images.
    source: the images.
    names: of the images; None for those of a data set, which have labels.

  Raises:
    UserError: if the file cannot be written.
  """
  latents = encode_all(drawing, source)
  class_names = data.class_names(source)
  ending = outputs.ending(output)
  if ending in outputs.PICTURES:
    sample_files.write_picture(output, _scatter(latents, class_names))
    return
  if names is not None:
    del latents['label']
    latents = {'name': np.array(names), **latents}
  if ending == outputs.TABLE:
    outputs.write_bytes(output, _table(latents).encode())
    return
  if names is None and class_names is not None:
    latents['class_names'] = np.array(class_names)
  sample_files.write_npz(output, latents)


def encode_all(drawing: Drawing, source: Source) -> dict[str, np.ndarray]:
  """Posteriors and labels of all images, in the order of the source."""
  rows = []
  num_chunks = -(-len(source) // CHUNK)
  chunks = chunks_of_numbers(len(source))
  for numbers in track(chunks, num_chunks, 'Encoding'):
    examples = [source[int(i)] for i in np.minimum(numbers, len(source) - 1)]
    x = drawing.x(np.stack([e['image'] for e in examples]), numbers)
    labels = np.array([e['label'] for e in examples], np.int32)
    vae = drawing.trained.vae
    mean, log_var = generation.encode(
      vae, drawing.trained.params, x, labels if vae.is_conditional else None
    )
    rows.append({'mean': mean, 'log_var': log_var, 'label': labels})
  return {
    name: np.concatenate([row[name] for row in rows])[: len(source)]
    for name in rows[0]
  }


def _table(latents: dict[str, np.ndarray]) -> str:
  """A line per image: its name or label, its means, its log-variances."""
  size = latents['mean'].shape[1]
  first = next(name for name in ('name', 'label') if name in latents)
  header = [first]
  for name in ('mean', 'log_var'):
    header += [f'{name}_{i}' for i in range(size)]
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(header)
  columns = (latents[name] for name in (first, 'mean', 'log_var'))
  for each, mean, log_var in zip(*columns, strict=True):
    numbers = map(str, [*mean, *log_var])  # as few digits as say them exactly
    writer.writerow([files.one_line(str(each)), *numbers])
  return text.getvalue()


def _scatter(
  latents: dict[str, np.ndarray], class_names: Sequence[str] | None
) -> np.ndarray:
  """Plots the posterior means [N, 2], coloured by class; uint8 [H, W, 3]."""
  figure = Figure(figsize=(6.4, 6), layout='constrained')
  canvas = FigureCanvasAgg(figure)
  axes = figure.subplots()
  for label in np.unique(latents['label']):
    name = str(label) if label >= 0 else 'no label'
    if class_names is not None and label >= 0:
      name = plotting.plain(class_names[label])
    here = latents['label'] == label
    axes.scatter(
      *latents['mean'][here].T,
      s=6,
      alpha=0.6,
      linewidths=0,
      label=name,
    )
  axes.set_aspect('equal')
  axes.set_xlabel('mean of latent 1')
  axes.set_ylabel('mean of latent 2')
  axes.grid(alpha=0.3)
  figure.legend(loc='outside right center', markerscale=3)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]
