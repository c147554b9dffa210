"""The static part: modules, quantiser, optimiser, likelihood, sizes.

Dimensions: H height, W width, C channels, S and T sides of the grid of cells.
"""

import dataclasses

from flax import linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from common_flax import optimisers
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from common_flax.likelihoods import fields
from common_flax.likelihoods import Likelihood
from common_flax.likelihoods import observations
from common_flax.likelihoods.observations import Observe
from common_flax.nn.activations import ACTIVATIONS
from vq_flax.models import autoencoder
from vq_flax.quantisers import ScalarQuantiser
from vq_flax.quantisers import VectorQuantiser


@dataclasses.dataclass(frozen=True)
class CodebookTraining:
  """How codebooks are trained, see `config.codebook`."""

  is_averaged: bool  # False trains the entries by their gradient
  decay: float  # of the moving averages
  starts_at_clusters: bool  # of the first batch
  restart_below: float  # cells of a batch


@dataclasses.dataclass(frozen=True)
class VQ:
  """Everything static: modules, quantiser, optimiser, likelihood, sizes."""

  encoder: nn.Module
  decoder: nn.Module
  quantiser: VectorQuantiser | ScalarQuantiser
  codebooks: CodebookTraining | None  # None if the quantiser has none
  tx: optax.GradientTransformation
  likelihood: Likelihood
  observe: Observe  # maps bytes to x
  gradient: str  # through the quantiser, one of GRADIENTS
  commitment: float  # weight of the distance of cells to their entries
  image_shape: tuple[int, int, int]  # (H, W, C)
  grid: tuple[int, int]  # (S, T)
  ema_decay: float  # decay of the parameters' moving average, after warm-up
  flip: bool  # whether to mirror images at random
  axis: BatchAxis  # splits batches over devices
  dtype: jnp.dtype  # type of x, the cells and all loss terms

  @property
  def num_codes(self) -> int:
    """The codes of an image."""
    return self.grid[0] * self.grid[1] * self.quantiser.codes_per_cell


def create_vq(
  config: ConfigDict,
  image_shape: tuple[int, int, int],
  num_classes: int | None = None,
  axis: BatchAxis = WHOLE_BATCH,
) -> VQ:
  """Builds the static part from a checked config.

  Args:
    config: a config that `vq_flax.config.check` accepts.
    image_shape: (H, W, C) of the data.
    num_classes: number of classes in the data, which the networks are not told.
    axis: splits batches over devices.
  """
  del num_classes
  model = config.model
  dtype = jnp.dtype(config.compute_dtype)
  param_dtype = jnp.promote_types(dtype, jnp.float32)
  likelihood = fields.create(config, image_shape[-1])
  quantiser, codebooks = _create_quantiser(config)
  shared = dict(
    num_halvings=model.num_halvings,
    num_blocks=model.num_blocks,
    base_features=model.base_features,
    activation=ACTIVATIONS[model.activation],
    dtype=dtype,
    param_dtype=param_dtype,
  )
  return VQ(
    encoder=autoencoder.Encoder(quantiser.num_features, **shared),
    decoder=autoencoder.Decoder(
      tuple(image_shape), likelihood.num_outputs, **shared
    ),
    quantiser=quantiser,
    codebooks=codebooks,
    tx=optimisers.create(config.optimizer, config.num_steps),
    likelihood=likelihood,
    observe=observations.create(config.dataset.binarise, likelihood),
    gradient=model.gradient,
    commitment=config.commitment if codebooks else 0.0,
    image_shape=tuple(image_shape),
    grid=autoencoder.grid_of(tuple(image_shape[:2]), model.num_halvings),
    ema_decay=config.ema_decay,
    flip=config.dataset.flip,
    axis=axis,
    dtype=param_dtype,
  )


def _create_quantiser(
  config: ConfigDict,
) -> tuple[VectorQuantiser | ScalarQuantiser, CodebookTraining | None]:
  """The quantiser of `config.model`, and how its codebooks are trained."""
  model, codebook = config.model, config.codebook
  if model.name == 'fsq':
    return ScalarQuantiser(tuple(model.levels)), None
  quantiser = VectorQuantiser(
    model.num_codes, model.code_size, model.num_codebooks
  )
  return quantiser, CodebookTraining(
    is_averaged=codebook.learning == 'average',
    decay=codebook.decay,
    starts_at_clusters=codebook.start == 'k_means',
    restart_below=codebook.restart_below,
  )
