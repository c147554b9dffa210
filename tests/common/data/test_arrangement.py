"""Names of folders tell splits and classes; held-out images stay held out."""

import pathlib

import pytest

from common_flax.data.arrangement import arrange
from common_flax.errors import UserError


def paths(*folders, count=3):
  """Paths of `count` images in each of the folders."""
  return [
    pathlib.PurePath(folder, f'{i}.png')
    for folder in folders
    for i in range(count)
  ]


def counts(found):
  return {split: len(files) for split, files in found.splits.items()}


@pytest.mark.parametrize('train', ['train', 'Train', 'TRAINING'])
@pytest.mark.parametrize(
  ('other', 'split'),
  [
    ('Test', 'test'),
    ('testing', 'test'),
    ('val', 'validation'),
    ('Valid', 'validation'),
    ('VALIDATION', 'validation'),
  ],
)
def test_split_names_are_known_in_any_case(train, other, split):
  found = arrange(paths(train) + paths(other, count=2))
  assert counts(found) == {'train': 3, split: 2}
  assert found.class_of is None


def test_class_folders_may_lie_in_splits_and_splits_in_class_folders():
  names = ['train/cat', 'train/dog', 'val/cat', 'val/dog']
  swapped = ['cat/train', 'dog/train', 'cat/val', 'dog/val']
  for folders in (names, swapped, [f'archive/{name}' for name in names]):
    found = arrange(paths(*folders))
    assert counts(found) == {'train': 6, 'validation': 6}
    assert {*found.class_of.values()} == {'cat', 'dog'}


@pytest.mark.parametrize(
  ('folders', 'named'),
  [
    (['train_images', 'test_images'], 'test_images'),
    (['trainA', 'trainB', 'testA', 'testB'], 'testA'),
    (['training_set', 'TestSet'], 'TestSet'),
    (['train', 'test_images'], 'train'),
    (['train/cat', 'train/test'], 'test'),
    (['train/cat/val', 'test/cat'], 'val'),
    (['Train', 'train'], 'Train and train'),
    (['train', 'val', 'valid'], 'val and valid'),
    (['cat/train', 'cat/test', 'dog'], 'cat'),
    (['bus', 'car', 'train'], 'train'),
    (['a/b/c/test', 'a/b/c/other'], 'test'),
  ],
)
def test_folders_from_which_held_out_images_could_leak_are_refused(
  folders, named
):
  with pytest.raises(UserError, match=named):
    arrange(paths(*folders), name='photos')


def test_file_names_of_two_splits_are_refused():
  names = ('train_1', 'train_2', 'test_1', 'test_2')
  files = [pathlib.PurePath(f'{name}.png') for name in names]
  with pytest.raises(UserError, match='the file test_1'):
    arrange(files)
  assert counts(arrange(files[:2])) == {None: 2}


@pytest.mark.parametrize(
  'folders', [['test tubes', 'flasks'], ['contest', 'valley', 'trains'], ['x']]
)
def test_other_names_are_classes(folders):
  found = arrange(paths(*folders))
  assert counts(found) == {None: 3 * len(folders)}
  assert {*found.class_of.values()} == {*folders}


def test_a_class_may_be_named_train_in_each_split():
  found = arrange(paths('train/bus', 'train/train', 'test/bus', 'test/train'))
  assert counts(found) == {'train': 6, 'test': 6}
  assert {*found.class_of.values()} == {'bus', 'train'}


def test_other_folders_beside_splits_are_left_out_unless_asked_for():
  files = [*paths('train', 'test', 'masks'), pathlib.PurePath('x.png')]
  found = arrange(files)
  assert counts(found) == {'train': 3, 'test': 3}
  assert {*found.left_out} == {*paths('masks'), pathlib.PurePath('x.png')}
  assert counts(arrange(files, extra='masks'))['masks'] == 3


def test_a_stray_image_beside_class_folders_is_left_out():
  stray = pathlib.PurePath('stray.png')
  for folder in ('', 'train'):
    files = paths(*(pathlib.PurePath(folder, x) for x in ('cat', 'dog')))
    found = arrange([*files, folder / stray])
    assert {*found.class_of.values()} == {'cat', 'dog'}
    assert [*found.left_out] == [folder / stray]


def test_many_images_beside_folders_take_the_labels_away_and_are_named():
  found = arrange(paths('.', 'cat', 'dog'))
  assert counts(found) == {None: 9}
  assert found.class_of is None
  assert '0.png' in found.note


def test_an_empty_folder_of_a_split_is_a_split():
  found = arrange(paths('train'), [pathlib.PurePath('test')])
  assert counts(found) == {'train': 3, 'test': 0}
