"""Named streams of keys."""

import itertools

import jax
import numpy as np
import pytest

from common_flax import prng


def bits(key):
  return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_streams_attempts_and_steps_never_share_a_key():
  root = prng.root_key(0)
  keys = {
    bits(prng.stream(root, name, step, attempt))
    for name, step, attempt in itertools.product(
      prng.STREAMS, range(5), range(5)
    )
  }
  assert len(keys) == 25 * len(prng.STREAMS)


def test_a_stream_is_the_same_at_every_start_and_under_jit():
  eager = prng.stream(prng.root_key(3), 'train', 7, 1)
  traced = jax.jit(
    lambda step: prng.stream(prng.root_key(3), 'train', step, 1)
  )(7)
  assert bits(eager) == bits(traced)


def test_stream_numbers_never_change():
  assert prng.STREAMS == {
    'init': 0,
    'train': 1,
    'preview': 2,
    'statistics': 3,
    'sample': 4,
    'evaluate': 5,
    'observe': 6,
    'watch': 7,
  }


def test_unknown_stream_is_refused():
  with pytest.raises(KeyError):
    prng.stream(prng.root_key(0), 'nosuch')
