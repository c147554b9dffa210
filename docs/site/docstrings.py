"""Turns the plain text of docstrings into reStructuredText for Sphinx.

Docstrings are written to be read in an editor: names in single backticks,
commands and tables indented, formulas as text. Formulas between dollar signs
are typeset, whether they are LaTeX or plain text with Greek letters.
"""

import re

_SECTION = re.compile(
  '(Args|Attributes|Raises|Returns|Yields|References|Example|Examples):$'
)
_PIECES = re.compile(r'(``.+?``|`[^`]+`|\$[^$\n]+\$)', re.S)
_NAME = re.compile(r'`[A-Za-z_]\w*(\.\w+)*`')
_BULLETS = ('- ', '* ')
_INDENT = re.compile(' *')


def _escaped(text: str) -> str:
  """Text without characters that mean something to reStructuredText."""
  text = re.sub(r'([\\|]|\*(?! ))', r'\\\1', text)
  return re.sub(r'(?<=\w)_(?!\w)', r'\\_', text)


def _formula(text: str) -> str:
  """A formula as LaTeX: names of several letters stand upright."""
  if '\\' in text:
    return text
  text = text.replace('½', '{1/2}').replace('||', r'\,\|\,')
  # A differential, such as dz, is no name.
  return re.sub(r'(?!d[a-z]\b)[A-Za-z]{2,}', r'\\mathrm{\g<0>}', text)


def _inline(text: str) -> str:
  """Marks up a paragraph: names become links, other code stays code."""
  pieces = _PIECES.split(text)
  for i, piece in enumerate(pieces):
    if piece.startswith('``') or _NAME.fullmatch(piece):
      continue
    if piece.startswith('`') and len(piece) > 1:
      pieces[i] = f'``{piece[1:-1].strip()}``'
    elif i % 2:
      pieces[i] = f':math:`{_formula(piece[1:-1])}`'
    else:
      pieces[i] = _escaped(piece)
  return ''.join(pieces)


def _indent(line: str) -> int:
  return len(_INDENT.match(line)[0])


def converted(lines: list[str]) -> list[str]:
  """The lines of a docstring as reStructuredText."""
  blocks, is_section = [], False
  for block in re.split(r'\n\s*\n', '\n'.join(lines).strip('\n')):
    rows = block.split('\n')
    if _indent(rows[0]) == 0:
      is_section = bool(_SECTION.match(rows[0]))
    indents = [_indent(row) for row in rows]
    if is_section:
      blocks.append(_inline(block))
    elif min(indents) > 0:  # a command, a table, a formula
      before = '' if blocks and blocks[-1].startswith('::') else '::\n\n'
      blocks.append(before + block)
    elif max(indents) > 0 and rows[0][:2] not in _BULLETS:
      first = next(i for i, indent in enumerate(indents) if indent)
      text, rest = '\n'.join(rows[:first]), '\n'.join(rows[first:])
      blocks += [_inline(text), f'::\n\n{rest}']
    else:
      blocks.append(_inline(block))
  return '\n\n'.join(blocks).split('\n')


def _process(app, what, name, thing, options, lines):
  """Rewrites the lines of a docstring in place."""
  del app, name, thing, options
  if any(lines):
    lines[:] = [*converted(lines), '']
  if what in ('attribute', 'data'):  # napoleon takes "a: b" for a type
    lines[:] = [line.replace(': ', ' – ', 1) for line in lines]


def _skip(app, what, name, thing, skip, options):
  """Leaves out what Flax and the standard library add to classes."""
  del app, what, options
  doc = getattr(thing, '__doc__', None) or ''
  is_foreign = name == 'replace' and 'replac' in doc
  return True if is_foreign else skip


def setup(app):
  """Connects both to Sphinx, before napoleon reads the sections."""
  app.connect('autodoc-process-docstring', _process, priority=100)
  app.connect('autodoc-skip-member', _skip)
