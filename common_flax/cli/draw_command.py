"""Commands that draw figures of models with exact solutions."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import io

from absl import flags
import jax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common_flax import files
from common_flax import prng
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.errors import UserError

# File name -> function of a key that draws the figure.
Figures = Mapping[str, Callable[[jax.Array], Figure]]


def _png(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  FigureCanvasAgg(figure).print_png(buffer)
  return buffer.getvalue()


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'output',
    None,
    'Folder for the figures; those of the same names are replaced.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'seed', 0, 'Seed of the samples.', 0, 2**32 - 1, flag_values=values
  )


def _draw(figures: Figures, values: flags.FlagValues) -> None:
  keys = jax.random.split(
    prng.stream(prng.root_key(values.seed), 'sample'), len(figures)
  )
  outputs.check(values.output, [outputs.FOLDER], may_hold_files=True)
  with outputs.writable(values.output) as folder:
    for name in figures:
      if (folder / name).is_dir():
        raise UserError(
          f'--output={values.output}: {folder / name} is a folder'
        )
    # Nothing is written if drawing fails.
    pictures = {
      folder / name: _png(draw(key))
      for key, (name, draw) in zip(keys, figures.items(), strict=True)
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in pictures.items():
      files.write_bytes(path, data)
  for path in pictures:
    print(path)


def run(argv: Sequence[str], figures: Figures, usage: str) -> int:
  """Runs a command that draws figures into the folder --output.

  Args:
    argv: name and arguments of the command.
    figures: the figures to draw.
    usage: text of --help.

  Returns:
    The exit status.
  """

  def command(values: flags.FlagValues, arguments: list[str]) -> None:
    commands.parse(values, arguments)
    commands.require_flags(values, 'output')
    _draw(figures, values)

  return commands.run(command, argv, _define_flags, usage)
