"""The names of classes in a workdir."""

import pytest

from common_flax.errors import UserError
from common_flax.workdir import classes

NAMES = ('cats', 'dogs', 'Bücher/книги')


def test_names_are_read_as_they_were_written(tmp_path):
  classes.write(tmp_path, NAMES)
  assert classes.read(tmp_path) == NAMES
  assert classes.names_of(tmp_path, 3) == NAMES


def test_a_run_without_names_has_numbers(tmp_path):
  """Its data has none, or an earlier version trained it."""
  classes.write(tmp_path, None)
  assert not list(tmp_path.iterdir())
  assert classes.read(tmp_path) is None
  assert classes.names_of(tmp_path, 3) == ('0', '1', '2')


def test_as_many_names_as_labels_may_have(tmp_path):
  names = tuple(f'a class with a long name, {i}' for i in range(2**16))
  classes.write(tmp_path, names)
  assert classes.read(tmp_path) == names


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('{', 'cannot be read'),
    ('{}', 'list of names'),
    ('{"class_names": "ab"}', 'list of names'),
    ('{"class_names": ["a", 1]}', 'list of names'),
    ('{"class_names": ["a", ""]}', 'list of names'),
    ('{"class_names": ["a", "b", "a"]}', "two classes are called 'a'"),
    ('{"class_names": ["a"]}', 'names 1 classes, and the run has 2'),
  ],
)
def test_damaged_names_are_refused(tmp_path, text, words):
  (tmp_path / 'classes.json').write_text(text)
  with pytest.raises(UserError, match=words) as error:
    classes.names_of(tmp_path, 2)
  assert 'classes.json' in str(error.value)
  assert 'remove it' in str(error.value)


def test_damaged_names_are_replaced(tmp_path):
  (tmp_path / 'classes.json').write_text('{')
  classes.write(tmp_path, NAMES)
  assert classes.read(tmp_path) == NAMES


def test_other_names_are_refused_on_resume(tmp_path):
  classes.check(tmp_path, NAMES)  # nothing is recorded yet
  classes.write(tmp_path, NAMES)
  for names in (NAMES, None):
    classes.check(tmp_path, names)
  with pytest.raises(UserError, match="class 1 was 'dogs' and is now 'cows'"):
    classes.check(tmp_path, ('cats', 'cows', NAMES[2]))
