"""Times a VAE's train step against PyTorch's.

  python -m benchmarks.vae [--batch_size=500] [--num_importance_samples=1]
      [--rounds=11] [--steps=20] [--output=FILE.json]
      [--only='PyTorch, compiled']

The networks are those of `configs/vae_burda.py`, dense layers around 50
latents, trained on 28x28 images that are binarised anew in every step: by the
ELBO, or by the importance-weighted bound where there are several samples. Each
contender takes the full step in turn with the others. PyTorch comes with the
extra `bench`: eager and compiled. Prints a Markdown table.
"""

from collections.abc import Sequence
import dataclasses
import functools
import itertools
import sys

from absl import flags
import jax
from ml_collections import ConfigDict
import numpy as np

from benchmarks import table
from benchmarks import turns
from common_flax import commands
from common_flax import memory
from common_flax import prng
from vae_flax import config as vae_config
from vae_flax import state as vae_state
from vae_flax import steps

IMAGE_SIZE = 28


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of the networks and the batch."""

  batch_size: int
  num_importance_samples: int
  num_pixels: int = IMAGE_SIZE**2
  hidden_size: int = 200  # of both layers
  latent_size: int = 50


def multiply_adds(sizes: Sizes) -> float:
  """Multiply-adds of a step's matrix products.

  A layer from m to n units takes m n for each row that goes forward, as many
  for the gradient of its weights, and as many for that of its input, which
  pixels do not need. The encoder's rows are the images, the decoder's their
  samples. What is not a product (draws, activations, the bound, Adam) does not
  count.
  """
  pixels, hidden, latents = (
    sizes.num_pixels,
    sizes.hidden_size,
    sizes.latent_size,
  )
  encoder = 2 * pixels * hidden + 3 * (hidden**2 + 2 * hidden * latents)
  decoder = 3 * (latents * hidden + hidden**2 + hidden * pixels)
  images = encoder + sizes.num_importance_samples * decoder
  return float(sizes.batch_size * images)


def create_config(sizes: Sizes, compute_dtype: str) -> ConfigDict:
  """The config of ours; the number of pixels comes with the images."""
  config = vae_config.default().unlock()
  config.compute_dtype = compute_dtype
  config.model.name = 'mlp'
  config.model.hidden_sizes = (sizes.hidden_size, sizes.hidden_size)
  config.model.latent_size = sizes.latent_size
  config.model.activation = 'tanh'
  config.num_importance_samples = sizes.num_importance_samples
  config.objective = 'elbo' if sizes.num_importance_samples == 1 else 'iwae'
  return config.lock()


def build_jax(sizes: Sizes, compute_dtype: str) -> turns.Run:
  """Ours."""
  memory.keep_freed()
  shape = (IMAGE_SIZE, IMAGE_SIZE, 1)
  vae = vae_state.create_vae(create_config(sizes, compute_dtype), shape)
  root = prng.root_key(0)
  state = jax.jit(functools.partial(vae_state.init_state, vae, root))()
  step = jax.jit(functools.partial(steps.train_step, vae), donate_argnums=0)
  batch = jax.device_put(
    np.random.default_rng(0).integers(
      0, 256, (1, sizes.batch_size, *shape), np.uint8
    )
  )

  return turns.repeating(step, state, batch, root)


def build_torch(sizes: Sizes, **options: bool) -> turns.Run:
  """PyTorch's; the options are those of `torch_vae.Step`."""
  # An extra: without it the contender is left out.
  from benchmarks import torch_vae

  return torch_vae.Step(**dataclasses.asdict(sizes), **options)


def contenders(sizes: Sizes) -> dict[str, turns.Build]:
  """What is compared, by name."""
  builds = {
    table.OURS: functools.partial(build_jax, sizes, 'float32'),
    'ours, bfloat16': functools.partial(build_jax, sizes, 'bfloat16'),
    table.MATMUL: table.build_matmul,
  }
  for compiled, bfloat16 in itertools.product((False, True), repeat=2):
    parts = ['PyTorch', 'compiled' * compiled, 'bfloat16' * bfloat16]
    builds[', '.join(filter(None, parts))] = functools.partial(
      build_torch, sizes, compiled=compiled, bfloat16=bfloat16
    )
  return builds


def _define_flags(values: flags.FlagValues) -> None:
  table.define_flags(
    values, batch_size=500, num_importance_samples=1, rounds=11, steps=20
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  sizes = Sizes(values.batch_size, values.num_importance_samples)
  table.compare(
    values,
    contenders(sizes),
    sizes,
    multiply_adds(sizes),
    'matrix products alone',
    decimals=2,  # a small batch takes few milliseconds
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
