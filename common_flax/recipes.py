"""The recipes that the distribution brings, by name.

They are the files of `configs/`, which a wheel holds as `common_flax/configs/`.
Reading a recipe's docstring does not run it; `config.load` does.
"""

import ast
from collections.abc import Mapping
import dataclasses
import difflib
import os
import pathlib
import re
import textwrap

from common_flax.errors import UserError

_HERE = pathlib.Path(__file__).parent
_FOLDERS = (_HERE / 'configs', _HERE.parent / 'configs')  # wheel, repository
_COMMAND = re.compile(r'python -m \w+\.\w+')
# A variant's row in a docstring: two spaces, its name, its description, which
# goes on in lines that are indented further.
_VARIANT = re.compile(
  r'^  (\(none\)|\w+)  +(\S.*(?:\n   +\S.*)*)', re.MULTILINE
)
_SENTENCE_END = re.compile(r'(?<!\bet al)\.(?= [A-Z0-9]|$)')


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What the docstring of a recipe says."""

  summary: str
  command: str  # that runs it, such as 'python -m FAMILY.main'
  variants: Mapping[str, str]  # descriptions by name, '' first


def shipped() -> dict[str, pathlib.Path]:
  """The files of the recipes by name, sorted."""
  folder = next(filter(pathlib.Path.is_dir, _FOLDERS), None)
  paths = sorted(folder.glob('[!_]*.py')) if folder else []
  return {path.stem: path for path in paths}


def read(path: pathlib.Path) -> Recipe:
  """Reads the docstring of a recipe without running it."""
  text = ast.get_docstring(ast.parse(path.read_text('utf-8'))) or ''
  command = _COMMAND.search(text)
  return Recipe(
    text.partition('\n')[0],
    command.group() if command else '',
    {
      '' if name == '(none)' else name: ' '.join(description.split())
      for name, description in _VARIANT.findall(text)
    },
  )


def find(spec: str) -> tuple[str, str]:
  """The file and the variant of a recipe.

  Args:
    spec: `NAME` of a recipe that is shipped, or `FILE.py`; either may be
      followed by `:VARIANT`. A name goes before a file that is called the same.

  Raises:
    UserError: if there is no such recipe.
  """
  given, _, variant = spec.partition(':')
  files = shipped()
  if given in files:
    return str(files[given]), variant
  path = os.path.expanduser(given)
  if os.path.isfile(path):
    return path, variant
  name = os.path.splitext(os.path.basename(path))[0]
  if name != given:  # a path
    missing = f'there is no file {given}'
    cure = 'give the path of a recipe FILE.py, or the name of one'
  else:
    missing = 'there is no recipe of this name'
    cure = f'give one of {", ".join(files)}, or the path of a FILE.py'
  close = difflib.get_close_matches(name, files, n=1)
  if close:
    again = spec.replace(given, close[0], 1)
    cure = f'did you mean --config={again}?'
  raise UserError(f'--config={spec}: {missing}; {cure}')


def check_command(spec: str, usage: str) -> None:
  """Refuses recipes of other commands.

  Args:
    spec: see `find`; files are not checked.
    usage: the text of --help, which names the command.

  Raises:
    UserError: naming the command that the recipe is for.
  """
  path = shipped().get(spec.partition(':')[0])
  command = read(path).command if path else ''
  if command not in usage:
    raise UserError(
      f'--config={spec}: is a recipe of `{command}`; use that command'
    )


def listing(usage: str, width: int | None = None) -> str:
  """A line for each variant of a command's recipes.

  Args:
    usage: the text of --help, which names the command.
    width: columns to which descriptions are shortened; None leaves them whole.
  """
  lines = []
  for name, path in shipped().items():
    recipe = read(path)
    if recipe.command not in usage:
      continue
    lines += ['', _first_sentence(recipe.summary, width)]
    specs = [f'{name}:{variant}'.rstrip(':') for variant in recipe.variants]
    column = max(map(len, specs), default=0)
    room = width and max(width - column - 4, 20)
    for spec, text in zip(specs, recipe.variants.values(), strict=True):
      lines.append(f'  {spec:<{column}}  {_first_sentence(text, room)}')
  return '\n'.join(lines[1:])


def _first_sentence(text: str, width: int | None) -> str:
  """The first sentence of a text without its full stop, in one line."""
  sentence = _SENTENCE_END.split(text, maxsplit=1)[0]
  if width is None:
    return sentence
  return textwrap.shorten(
    sentence, width, placeholder=' ...', break_on_hyphens=False
  )
