"""Writes the network of this page, from a workdir and its export.

  python -m common_flax.export --workdir=runs/quick --output=FOLDER
  python docs/browser/make.py runs/quick FOLDER

It writes generator.onnx.gz; directions.json, the latents' directions that
change the output of the first layer most (Härkönen et al. 2020,
arXiv:2004.02546), each a unit vector [100]; and reference.json, images that the
run's own generator draws, which a test compares with those of a browser.
"""

import gzip
import json
import pathlib
import sys

import jax
import numpy as np

from gan_flax import sample

_HERE = pathlib.Path(__file__).parent
_NUM_DIRECTIONS = 6
_NUM_IMAGES = 3


def main(workdir: str, folder: str) -> None:
  """Writes the three files beside this one."""
  network = (pathlib.Path(folder) / 'generator.onnx').read_bytes()
  packed = gzip.compress(network, mtime=0)
  (_HERE / 'generator.onnx.gz').write_bytes(packed)
  sampler = sample.load(workdir)
  # The first layer is linear, and latents are N(0, I): the principal
  # components of its output are the images of its left singular vectors.
  kernel = np.asarray(sampler.params['project']['kernel'])  # [Z, features]
  vectors = np.linalg.svd(kernel)[0][:, :_NUM_DIRECTIONS].T
  directions = {'directions': np.round(vectors.astype(float), 5).tolist()}
  (_HERE / 'directions.json').write_text(json.dumps(directions) + '\n')
  latents = np.asarray(
    sampler.latents_of(jax.random.key(0))(np.arange(_NUM_IMAGES))
  )
  labels = np.int32([3, 0, 7])
  images = sampler.gan.generator.apply(
    {'params': sampler.params, 'batch_stats': sampler.batch_stats},
    latents,
    labels,
    train=False,
  )
  reference = {
    'latents': latents.ravel().tolist(),
    'labels': labels.tolist(),
    'images': np.round(np.asarray(images, np.float64).ravel(), 7).tolist(),
  }
  (_HERE / 'reference.json').write_text(json.dumps(reference) + '\n')


if __name__ == '__main__':
  main(*sys.argv[1:])
