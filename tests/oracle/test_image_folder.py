"""A folder of images against torchvision's ImageFolder."""

import numpy as np
import PIL.Image
import pytest

from common_flax import data

torchvision = pytest.importorskip('torchvision.datasets')

SIDE = 8


def test_torchvision_reads_the_same_images_and_classes(tmp_path):
  shade = 0
  for split in ('train', 'val', 'test'):
    for name in ('bee', 'ant', 'cat/small'):  # it looks below classes, too
      (tmp_path / split / name).mkdir(parents=True)
      for file in ('1.png', '10.bmp', '2.webp'):
        image = PIL.Image.fromarray(np.full((SIDE, SIDE), shade, np.uint8))
        image.save(tmp_path / split / name / file, lossless=True)
        shade += 5
  for split in ('train', 'val', 'test'):
    theirs = torchvision.ImageFolder(tmp_path / split)
    ours = data.load_source('folder', split, SIDE, path=str(tmp_path))
    assert ours.class_names == tuple(theirs.classes)
    assert len(ours) == len(theirs)
    for own, (image, label) in zip(ours, theirs, strict=True):
      assert own['label'] == label
      np.testing.assert_array_equal(
        own['image'][..., 0], np.array(image)[..., 0]
      )
