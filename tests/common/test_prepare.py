"""Preparing public data sets, as far as it goes without TensorFlow."""

import importlib.util

import pytest
import tensorflow_datasets as tfds

from common_flax import prepare

needs_no_tensorflow = pytest.mark.skipif(
  importlib.util.find_spec('tensorflow') is not None,
  reason='TensorFlow is installed',
)


def error_of(capsys, *arguments):
  assert prepare.main(['prepare', *arguments]) == 2
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert error.count('\n') == 1
  return error


@needs_no_tensorflow
def test_without_tensorflow_the_extra_is_named(capsys, tmp_path):
  error = error_of(capsys, '--dataset=mnist', f'--data_dir={tmp_path}/data')
  assert 'pip install tensorflow-cpu' in error
  assert not list(tmp_path.iterdir())


def test_an_unknown_data_set_is_refused(capsys, tmp_path):
  assert 'nosuch' in error_of(capsys, '--dataset=nosuch')


def test_the_data_set_has_to_be_named(capsys):
  assert '--dataset' in error_of(capsys)


def test_a_prepared_data_set_is_left_alone(capsys, monkeypatch):
  monkeypatch.setattr(tfds.core.DatasetBuilder, 'is_prepared', lambda _: True)
  assert prepare.main(['prepare', '--dataset=mnist']) == 0
  assert 'already prepared' in capsys.readouterr().out


def test_a_failing_download_is_one_line(capsys, monkeypatch, tmp_path):
  def fail(unused_builder):
    raise ConnectionError('no route\nto host')

  monkeypatch.setattr(prepare.startup, 'is_installed', lambda name: True)
  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  error = error_of(capsys, '--dataset=mnist', f'--data_dir={tmp_path}')
  assert 'not prepared: no route to host' in error
