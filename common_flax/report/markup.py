"""HTML elements as trees, so that every text is escaped where it is written."""

from collections.abc import Iterable
from collections.abc import Sequence
import re
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str | None

# Characters that no HTML document may hold, and halves of pairs, which names of
# files that are not UTF-8 bring.
_FORBIDDEN = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]')


def element(tag: str, *children: Child, **attributes: str) -> Element:
  """Creates an element.

  Args:
    tag: its name, such as 'p'.
    *children: elements and texts; None is left out.
    **attributes: by name; an underscore at the end is removed, another one
      becomes a hyphen.
  """
  result = Element(
    tag,
    {
      name.rstrip('_').replace('_', '-'): printable(value)
      for name, value in attributes.items()
    },
  )
  for child in children:
    if isinstance(child, str):
      _add_text(result, printable(child))
    elif child is not None:
      result.append(child)
  return result


def _add_text(parent: Element, text: str) -> None:
  if len(parent):
    parent[-1].tail = (parent[-1].tail or '') + text
  else:
    parent.text = (parent.text or '') + text


def printable(text: str) -> str:
  """A text with the characters that HTML forbids shown as escapes."""
  return _FORBIDDEN.sub(lambda match: repr(match[0])[1:-1], text)


def to_html(root: Element) -> str:
  """The element as HTML; texts and attributes are escaped."""
  return ElementTree.tostring(root, encoding='unicode', method='html')


def table(
  caption: str,
  columns: Sequence[str],
  rows: Iterable[Sequence[Child]],
  kind: str = '',
) -> Element:
  """A table whose first row and first column are headers.

  Args:
    caption: what it shows.
    columns: the headers of the columns; the first is that of the row names.
    rows: of cells, the first of which is the row's name.
    kind: class of the table, such as 'numbers'.

  Returns:
    The table in an element that scrolls where the page is narrow.
  """
  head = element('tr', *(element('th', c, scope='col') for c in columns))
  body = element('tbody')
  for name, *cells in rows:
    header = element('th', name, scope='row')
    body.append(element('tr', header, *(element('td', c) for c in cells)))
  whole = element(
    'table',
    element('caption', caption),
    element('thead', head),
    body,
    class_=kind,
  )
  attributes = {'tabindex': '0', 'role': 'region', 'aria-label': caption}
  return element('div', whole, class_='scroll', **attributes)


def section(title: str, *children: Child) -> Element:
  """A part of the page with a heading, which links can name."""
  name = re.sub(r'\W+', '-', title.lower()).strip('-')
  return element('section', element('h2', title), *children, id=name)


def details(summary: str, *children: Child) -> Element:
  """A part that opens when its summary is clicked."""
  return element('details', element('summary', summary), *children)
