"""Stacked images: their classes, and sources that cannot be stacked."""

import dataclasses

import numpy as np
import pytest

from common_flax import data
from common_flax.data import digits
from common_flax.data import stacked
from common_flax.errors import UserError

SIZE = 8


@pytest.fixture(scope='module')
def base():
  return digits.load('test', SIZE)


@pytest.fixture(scope='module')
def stacks():
  return data.load_source('stacked', 'test', SIZE)


def test_sizes_are_those_of_pacgan(stacks):
  assert len(stacks) == 26_000
  assert stacks.example_shape == (SIZE, SIZE, 3)
  assert stacks.dtype == np.uint8
  assert stacks.labels.dtype == np.int32
  assert stacks.num_classes == 1000
  train = data.load_source('stacked', 'train', SIZE)
  assert len(train) == 128_000
  assert not np.array_equal(train.labels[:100], stacks.labels[:100])


def test_channels_show_the_classes_of_the_label(stacks, base):
  classes = {}
  for image, label in zip(base.examples, base.labels, strict=True):
    classes.setdefault(image.tobytes(), set()).add(int(label))
  for image, label in zip(
    stacks.examples[:200], stacks.labels[:200], strict=True
  ):
    digits_of_label = f'{label:03d}'
    for channel, digit in enumerate(digits_of_label):
      assert int(digit) in classes[image[..., channel].tobytes()]


def test_labels_are_joined_as_digits_of_a_number():
  labels = np.array([[0, 0, 1], [1, 2, 3], [9, 9, 9]])
  np.testing.assert_array_equal(stacked.join_labels(labels, 10), [1, 123, 999])
  np.testing.assert_array_equal(stacked.join_labels(labels[:1], 4), [1])
  np.testing.assert_array_equal(
    stacked.join_labels(labels[1:2], 4), [16 + 8 + 3]
  )


def test_all_thousand_modes_occur(stacks):
  assert np.bincount(stacks.labels, minlength=1000).min() > 0


def test_stacks_never_change(stacks, base):
  again = stacked.stack(base, 'digits', 'test')
  np.testing.assert_array_equal(again.examples, stacks.examples)
  np.testing.assert_array_equal(again.labels, stacks.labels)
  # Written down once: a change here would change every resumed run.
  np.testing.assert_array_equal(stacks.labels[:4], [849, 609, 368, 181])


def refused(*arguments):
  with pytest.raises(UserError) as error:
    stacked.stack(*arguments)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_another_split_is_refused(base):
  message = refused(base, 'digits', 'validation')
  assert message.startswith("config.dataset.split='validation'")
  assert 'train and test' in message


def test_another_split_is_refused_by_name():
  with pytest.raises(UserError, match=r'config\.dataset\.split.*train and te'):
    data.load_source('stacked', 'all', SIZE)


@pytest.mark.parametrize(
  'changes',
  [
    {'examples': np.zeros((297, SIZE, SIZE, 3), np.uint8)},
    {'num_classes': None},
  ],
  ids=['colours', 'no labels'],
)
def test_what_cannot_be_stacked_is_refused(base, changes):
  message = refused(dataclasses.replace(base, **changes), 'pets', 'test')
  assert message.startswith("config.dataset.stack_of='pets'")
  assert 'digits or mnist' in message


@pytest.mark.parametrize(('size', 'split'), [(64, 'train'), (128, 'test')])
def test_stacks_that_would_fill_the_memory_are_refused(base, size, split):
  large = np.broadcast_to(np.uint8(0), (297, size, size, 1))
  message = refused(dataclasses.replace(base, examples=large), 'digits', split)
  assert message.startswith(f'config.dataset.image_size={size}')
  assert '1 GiB' in message
