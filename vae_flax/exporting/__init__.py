"""The networks of a trained VAE, to export.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.errors import UserError
from common_flax.export.parts import Array
from common_flax.export.parts import Exportable
from common_flax.export.parts import label_inputs
from common_flax.export.parts import LEARNED
from common_flax.export.parts import Part
from vae_flax import inference
from vae_flax import trained
from vae_flax.trained import TrainedVAE

PARTS = ('decoder', 'encoder')
_NUM_SAMPLES = 64


def load(
  workdir: epath.PathLike,
  names: Sequence[str],
  *,
  use_ema: bool = True,
  seed_index: int | None = None,
  step: int | None = None,
) -> Exportable:
  """Loads the networks of a run.

  Args:
    workdir: folder of the run.
    names: which of PARTS.
    use_ema: whether the weights are their moving average.
    seed_index: must be None, because a run has one seed.
    step: of the checkpoint; None for the newest.

  Raises:
    UserError: if the folder holds no run, or `seed_index` is given.
  """
  if seed_index is not None:
    raise UserError(
      f'--seed_index={seed_index}: has no effect on a VAE; remove it'
    )
  run = trained.load(workdir, use_ema=use_ema, step=step)
  made = {'decoder': decoder, 'encoder': encoder}
  key = prng.stream(prng.root_key(0), 'sample')
  images = np.asarray(run.generate(key, _NUM_SAMPLES))
  return Exportable(
    kind='VAE',
    config=run.config,
    step=run.step,
    seed=run.config.seed,
    parts={name: made[name](run) for name in names},
    latents=_latents(run),
    samples=images_lib.grid(images, 8),
    class_names=run.class_names,
  )


def _latents(run: TrainedVAE) -> str:
  """The distribution of the latents."""
  size = run.vae.latent_size
  if run.prior is None:
    return f'{size} independent values from N(0, 1)'
  return (
    f'{size} values from {LEARNED} of {len(run.prior.mean)} components; '
    'python -m vae_flax.sample --output=FILE.npz draws them'
  )


def decoder(run: TrainedVAE) -> Part:
  """The decoder, up to the mean images of the likelihood."""
  # In float32 wherever it trained in bfloat16, which not all runtimes have.
  network = run.vae.decoder.clone(dtype=jnp.float32)
  vae = dataclasses.replace(run.vae, decoder=network)

  def function(
    weights: Any, latents: jax.Array, *labels: jax.Array
  ) -> jax.Array:
    outputs = inference.decode(vae, weights['params'], latents, *labels)
    return vae.likelihood.mean(outputs)

  meaning = 'mean images [batch, height, width, channels], 0 black to 1 white'
  return Part(
    function,
    {'params': {'decoder': run.params['decoder']}},
    {
      'latents': Array((vae.latent_size,), 'latents, see below'),
      **label_inputs(vae.num_classes),
    },
    {'images': Array(vae.image_shape, meaning)},
  )


def encoder(run: TrainedVAE) -> Part:
  """The encoder, which takes observations and gives their posteriors."""
  # In float32, as the decoder.
  vae = dataclasses.replace(
    run.vae,
    encoder=run.vae.encoder.clone(dtype=jnp.float32),
    decoder=run.vae.decoder.clone(dtype=jnp.float32),
  )
  # In a hierarchy, posteriors depend on the decoder's priors.
  used = ('encoder', 'decoder') if vae.scales else ('encoder',)

  def function(weights: Any, images: jax.Array, *labels: jax.Array) -> Any:
    return inference.encode(vae, weights['params'], images, *labels)

  values = 'each 0 or 1' if vae.likelihood.is_binary else '0 to 1'
  meaning = f'images [batch, height, width, channels], {values}'
  latents = (vae.latent_size,)
  return Part(
    function,
    {'params': {name: run.params[name] for name in used}},
    {
      'images': Array(vae.image_shape, meaning),
      **label_inputs(vae.num_classes),
    },
    {
      'mean': Array(latents, 'of the posterior of the latents'),
      'log_var': Array(latents, 'log-variance of that posterior'),
    },
  )
