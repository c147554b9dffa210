"""Data sets of TFDS: read without TensorFlow, refused in one line."""

import io
import os
import shutil

from encoding import encode
import numpy as np
import pytest
import tensorflow_datasets as tfds

from common_flax import data
from common_flax.errors import UserError

# The places where a user may have given a split.
NAMES_BOTH = r'^config\.dataset\.split=.* \(or --split\): '


class Shapes(tfds.core.GeneratorBasedBuilder):
  """A small labelled data set of encoded images, as users write them."""

  VERSION = tfds.core.Version('1.0.0')
  ENCODED = tuple(
    encode(np.full((9, 7, 3), 25 * i, np.uint8)) for i in range(10)
  )

  def _info(self):
    features = {
      'image': tfds.features.Image(shape=(None, None, 3)),
      'label': tfds.features.ClassLabel(names=['d', 'b', 'a', 'c', 'e']),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, unused_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i, encoded in enumerate(self.ENCODED):
      yield i, {'image': io.BytesIO(encoded), 'label': i % 5}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  builder = Shapes(data_dir=folder, file_format='array_record')
  builder.download_and_prepare()
  return str(folder)


class TestTfds:
  def test_a_prepared_data_set_is_read_without_tensorflow(self, data_dir):
    source = data.load_source('shapes', 'train', 8, data_dir=data_dir)
    assert source.example_shape == (8, 8, 3)
    assert source.num_classes == 5
    assert source.class_names == tuple('dbace')
    greys = sorted(int(image.mean()) for image in source.examples)
    assert greys == [25 * i for i in range(10)]
    for example in (source[i] for i in range(10)):
      assert example['label'] == example['image'].mean() // 25 % 5

  def test_a_part_of_a_split(self, data_dir):
    source = data.load_source('shapes', 'train[:40%]', 8, data_dir=data_dir)
    assert len(source) == 4

  def test_an_environment_variable_sets_the_folder(self, data_dir, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', data_dir)
    assert len(data.load_source('shapes', 'train', 8)) == 10

  @pytest.mark.parametrize('split', ['test', 'train[8:2]', 'train[:0%]'])
  def test_an_unknown_or_empty_split_is_refused(self, data_dir, split):
    with pytest.raises(UserError, match=NAMES_BOTH) as error:
      data.load_source('shapes', split, 8, data_dir=data_dir)
    assert '\n' not in str(error.value)

  def test_a_damaged_file_is_named(self, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.rglob('*.array_record*')
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match='cannot be read') as error:
      data.load_source('shapes', 'train', 8, data_dir=str(tmp_path))
    assert str(file.parent) in str(error.value)
    file.unlink()
    with pytest.raises(UserError, match='cannot be read'):
      data.load_source('shapes', 'train', 8, data_dir=str(tmp_path))

  def test_the_command_for_an_unprepared_set_names_the_right_folder(
    self, tmp_path
  ):
    folder = str(tmp_path / 'data')
    with pytest.raises(UserError) as error:
      data.load_source('lsun/bedroom', 'train', 8, data_dir=folder)
    expected = f'prepare --dataset=lsun/bedroom --data_dir={folder},'
    assert expected in str(error.value)

  def test_another_format_is_refused_with_the_cure(self, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (info,) = tmp_path.rglob('dataset_info.json')
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    with pytest.raises(UserError, match='in another folder: python -m'):
      data.load_source('shapes', 'train', 8, data_dir=str(tmp_path))

  def test_a_data_set_without_images_is_refused(self, tmp_path):
    with pytest.raises(UserError, match='no images'):
      data.load_source('imdb_reviews', 'train', 8, data_dir=str(tmp_path))

  @pytest.mark.skipif(
    'TFDS_DATA_DIR' not in os.environ, reason='needs TFDS_DATA_DIR with mnist'
  )
  def test_the_real_mnist(self):
    source = data.load_source('mnist', 'test', 32)
    assert len(source) == 10_000
    assert source.example_shape == (32, 32, 1)
    assert np.bincount(source.labels).tolist() == [
      980,
      1135,
      1032,
      1010,
      982,
      892,
      958,
      1028,
      974,
      1009,
    ]
