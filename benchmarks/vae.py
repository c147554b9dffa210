"""Times a VAE's train step against PyTorch.

  python -m benchmarks.vae [--batch_size=500] [--num_importance_samples=1]
      [--steps_per_call=20] [--rounds=11] [--steps=20]
      [--output=FILE.json] [--only=PyTorch]

The networks are those of `configs/vae_burda.py`: dense layers and 50 latents,
on 28x28 images that are binarised anew in every step. They maximise the ELBO,
or the importance-weighted bound if --num_importance_samples is more than 1. All
contenders run the full step and take turns. Ours runs with several steps per
compiled call, as in the recipe, and with one. PyTorch, installed by the extra
`bench`, runs eagerly with its default Adam, and eagerly and compiled with its
fused Adam. Prints a Markdown table.
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
from common_flax import prng
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.training import loop
from vae_flax import config as vae_config
from vae_flax import state as vae_state
from vae_flax import steps
from vae_flax.vae import create_vae

IMAGE_SIZE = 28


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of the networks and the batch."""

  batch_size: int
  num_importance_samples: int
  num_pixels: int = IMAGE_SIZE**2
  hidden_size: int = 200  # of both hidden layers
  latent_size: int = 50


def multiply_adds(sizes: Sizes) -> float:
  """Multiply-adds of a step's matrix products.

  A layer from m to n units takes m n multiply-adds per row in the forward pass,
  m n for the gradient of its weights and m n for the gradient of its input. The
  pixels need no gradient. The encoder's rows are images, the decoder's rows are
  latent samples. Random numbers, activations, the bound and Adam do not count.
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
  """Returns the config of our step."""
  config = vae_config.default().unlock()
  config.compute_dtype = compute_dtype
  config.model.name = 'mlp'
  config.model.hidden_sizes = (sizes.hidden_size, sizes.hidden_size)
  config.model.latent_size = sizes.latent_size
  config.model.activation = 'tanh'
  config.num_importance_samples = sizes.num_importance_samples
  config.objective = 'elbo' if sizes.num_importance_samples == 1 else 'iwae'
  return config.lock()


def build_jax(
  sizes: Sizes, compute_dtype: str, steps_per_call: int = 1
) -> turns.Run:
  """Builds our step, compiled as in training."""
  memory.keep_freed()
  shape = (IMAGE_SIZE, IMAGE_SIZE, 1)
  config = create_config(sizes, compute_dtype)
  config.steps_per_call = steps_per_call
  vae = create_vae(config, shape)
  root = prng.root_key(0)
  state = jax.jit(functools.partial(vae_state.init_state, vae, root))()
  parallel = sharding.create('jit')
  compiled = loop.compile_step(
    functools.partial(steps.train_step, vae),
    parallel,
    config,
    is_convolutional=False,
  )
  batches = np.random.default_rng(0).integers(
    0, 256, (steps_per_call, 1, sizes.batch_size, *shape), np.uint8
  )
  return turns.repeating(
    compiled,
    parallel.spread(state),
    parallel.put_batches(batches),
    root,
    steps_per_call=steps_per_call,
  )


def build_torch(sizes: Sizes, **options: bool) -> turns.Run:
  """Builds PyTorch's step with the options of `torch_vae.Step`."""
  # Without the extra `bench` the import fails and the contender is left out.
  from benchmarks import torch_vae

  return torch_vae.Step(**dataclasses.asdict(sizes), **options)


def contenders(sizes: Sizes, steps_per_call: int) -> dict[str, turns.Build]:
  """Returns the contenders by name."""
  ours = functools.partial(build_jax, sizes)
  builds = {
    table.OURS: functools.partial(ours, 'float32', steps_per_call),
    'ours, one step a call': functools.partial(ours, 'float32'),
    table.OURS_BFLOAT16: functools.partial(ours, 'bfloat16', steps_per_call),
  }
  torch = functools.partial(build_torch, sizes)
  builds['PyTorch'] = functools.partial(
    torch, fused=False, compiled=False, bfloat16=False
  )
  for compiled, bfloat16 in itertools.product((False, True), repeat=2):
    options = {'compiled': compiled, 'bfloat16': bfloat16}
    name = ['PyTorch, fused Adam', *(o for o in options if options[o])]
    builds[', '.join(name)] = functools.partial(torch, fused=True, **options)
  return builds


def _define_flags(values: flags.FlagValues) -> None:
  table.define_flags(
    values,
    batch_size=500,
    num_importance_samples=1,
    steps_per_call=20,
    rounds=11,
    steps=20,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.steps % values.steps_per_call:
    raise UserError(
      f'--steps={values.steps}: use a multiple of '
      f'--steps_per_call={values.steps_per_call}'
    )
  sizes = Sizes(values.batch_size, values.num_importance_samples)
  table.compare(
    values,
    contenders(sizes, values.steps_per_call),
    sizes,
    multiply_adds(sizes),
    'matrix products only',
    decimals=2,  # a step takes a few milliseconds
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
