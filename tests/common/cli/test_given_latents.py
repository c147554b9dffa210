"""Latents by seeds and from files, and walks between them."""

import pickle

from absl import flags
import jax
import numpy as np
import pytest

from common_flax import latents as latents_lib
from common_flax.cli import commands
from common_flax.cli import given_latents
from common_flax.errors import UserError

Z = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def test_seeds_are_numbers_and_ranges_in_their_order():
  assert given_latents.parse_seeds('1,5,7-9') == [1, 5, 7, 8, 9]
  assert given_latents.parse_seeds('4294967295, 3-3,0') == [2**32 - 1, 3, 0]


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('', 'is no seed'),
    ('1,x', "'x' is no seed; give numbers and ranges"),
    ('1,,2', "'' is no seed"),
    ('-1', 'is no seed'),
    ('1.5', 'is no seed'),
    ('9-7', '9-7 runs backwards'),
    ('4294967296', 'from 0 to 4294967295'),
    ('0-4294967295', 'more than 100,000 seeds'),
  ],
)
def test_what_are_no_seeds_is_refused(text, words):
  with pytest.raises(UserError, match=f'^--seeds={text}: .*{words}'):
    given_latents.parse_seeds(text)


def test_labels_in_a_file_may_be_names(tmp_path):
  np.savez(tmp_path / 'x.npz', latents=Z, labels=['a', 'b', 'a'])
  given = given_latents.read(f'{tmp_path}/x.npz', Z.shape[1])
  assert given.labels.tolist() == ['a', 'b', 'a']


def test_no_seeds_have_no_latents():
  with pytest.raises(UserError, match='seeds: is empty; give at least one'):
    latents_lib.of_seeds(None, [])


def test_files_hold_latents_and_perhaps_labels(tmp_path):
  np.save(tmp_path / 'x.npy', Z)
  np.savez(tmp_path / 'x.npz', images=Z, latents=Z, labels=np.arange(3))
  for name in ('x.npy', 'x.npz'):
    given = given_latents.read(str(tmp_path / name), 4)
    np.testing.assert_array_equal(given.latents, Z)
    assert len(given) == 3
  np.testing.assert_array_equal(given.labels, [0, 1, 2])


def test_a_run_of_several_seeds_takes_latents_of_each(tmp_path):
  np.save(tmp_path / 'x.npy', np.stack([Z, Z + 1]))
  path = str(tmp_path / 'x.npy')
  given = given_latents.read(path, 4, num_seeds=2)
  second = given.latents_of(None, np.float32, index=1)
  np.testing.assert_array_equal(second(np.arange(3)), Z + 1)
  with pytest.raises(UserError, match=r'\[2, 3, 4\]; this run takes \[N, 4\]$'):
    given_latents.read(path, 4)


@pytest.mark.parametrize(
  ('arrays', 'words'),
  [
    ({'latents': Z[0]}, r'the shape \[4\]; this run takes \[N, 4\]'),
    ({'latents': Z[:, :3]}, r'the shape \[3, 3\]; this run takes \[N, 4\]'),
    ({'latents': Z[:0]}, r'the shape \[0, 4\]'),
    ({'latents': Z.astype(int)}, 'int64; store floats'),
    ({'latents': Z.astype(complex)}, 'complex128; store floats'),
    ({'latents': np.where(Z > 0, Z, np.nan)}, 'NaN'),
    ({'latents': np.float64([[1e300] * 4])}, 'infinity'),
    ({'latents': Z, 'labels': np.arange(2)}, r'labels are int64 \[2\]'),
    ({'latents': Z, 'labels': Z[:, 0]}, r'labels are float32 \[3\]'),
    ({'mean': Z, 'images': Z}, 'no array `latents`, only .*; store'),
    ({'latents': np.array([{}], object)}, 'cannot be read'),
  ],
)
def test_other_arrays_are_refused(tmp_path, arrays, words):
  np.savez(tmp_path / 'x.npz', **arrays)
  with pytest.raises(UserError, match=f'^--latents=.*x.npz: .*{words}'):
    given_latents.read(str(tmp_path / 'x.npz'), 4)


@pytest.mark.parametrize(
  ('name', 'content', 'words'),
  [
    ('x.npz', b'text', 'cannot be read'),
    ('x.npy', b'', 'cannot be read'),
    ('x.npy', pickle.dumps([1]), 'cannot be read'),
    ('x.txt', b'text', r'ends in \.npz or \.npy'),
    ('x.npz', None, 'there is no such file'),
  ],
)
def test_other_files_are_refused(tmp_path, name, content, words):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=f'^--latents=.*{name}: .*{words}') as e:
    given_latents.read(str(tmp_path / name), 4)
  assert '\n' not in str(e.value)


def parsed(*arguments):
  values = flags.FlagValues()
  flags.DEFINE_enum(
    'kind', 'some', ['some', 'rows', 'walk'], '', flag_values=values
  )
  flags.DEFINE_string('images', None, '', flag_values=values)
  commands.define_integers(values, num_samples=64, seed=1)
  given_latents.define_flags(values)
  commands.parse(values, arguments)
  return values


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--frames=8'], '--frames=8: has no effect without --kind=walk'),
    (['--noloop'], '--loop=False: has no effect without --kind=walk'),
    (['--kind=rows', '--seeds=1'], '--seeds=1: .*use --kind=walk or some'),
    (['--kind=rows', '--latents=x'], '--latents=x: has no effect'),
    (['--seeds=1', '--seed=2'], '--seed=2: has no effect with --seeds'),
    (['--seeds=1', '--num_samples=2'], '--num_samples=2: has no effect'),
    (['--latents=x', '--seeds=1'], '--seeds=1: has no effect with --latents'),
    (['--latents=x', '--seed=2'], '--seed=2: has no effect with --latents'),
    (['--kind=walk'], '--kind=walk: .*--seeds=1,5,9 or --latents or --images'),
  ],
)
def test_flags_without_effect_are_refused(arguments, words):
  with pytest.raises(UserError, match=words):
    given_latents.check_flags(parsed(*arguments), 'some', ['images'])


@pytest.mark.parametrize(
  'arguments',
  [
    [],
    ['--num_samples=3', '--seed=5'],
    ['--seeds=1'],
    ['--latents=x'],
    ['--kind=rows', '--seed=2'],
    ['--kind=walk', '--seeds=1,2', '--frames=3', '--noloop'],
    ['--kind=walk', '--images=x'],
  ],
)
def test_flags_with_an_effect_are_accepted(arguments):
  given_latents.check_flags(parsed(*arguments), 'some', ['images'])


def test_a_walk_needs_two_stops():
  values = parsed('--kind=walk', '--seeds=3')
  with pytest.raises(UserError, match=r'--seeds=3: .* give at least two'):
    given_latents.given(values, 4)


@pytest.mark.parametrize(('loop', 'num'), [('--loop', 15), ('--noloop', 11)])
def test_a_walk_meets_each_stop(loop, num):
  values = parsed('--kind=walk', '--seeds=0-2', '--frames=5', loop)
  given = given_latents.given(values, 4)
  stops_of = given.latents_of(lambda seeds: Z[np.asarray(seeds)], Z.dtype)
  assert given_latents.num_samples(values, len(given)) == num
  latents_of = given_latents.walk(values, stops_of, len(given))
  frames = jax.device_get(latents_of(np.arange(num)))
  np.testing.assert_array_equal(frames[:11:5], Z)
  assert len(np.unique(frames, axis=0)) == num
  timing = given_latents.timing(values)
  assert timing.has_pause == (loop == '--noloop')
