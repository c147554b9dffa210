"""R3GAN's networks: plain residual blocks of grouped convolutions.

Huang et al. (2024), arXiv:2501.05441, section 4 and appendix. A residual block
widens its input by a 1x1 convolution, convolves it in groups of features, and
projects it back. There is no norm: the last layer of each branch starts at 0,
and the others' weights shrink with the number of blocks (Fixup, Zhang et al.
2019, arXiv:1901.09321). Stages of blocks double or halve the image by
linear interpolation, and the coarsest stage meets a learnt image, one number
for each pixel and feature.

The widths are those of the paper: the same in the four coarsest stages, up to a
side of 32 pixels, and halved at each doubling beyond. Its networks for CIFAR-10
have `base_features` 768, `group_size` 16 and two blocks in each stage.

Dimensions: B batch, H height, W width, C channels or features, Z latent size, K
classes.
"""

from collections.abc import Callable
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax import images as images_lib
from common_flax.nn.grouped import GroupedConv
from common_flax.nn.resampling import downsampled
from common_flax.nn.resampling import upsampled
from gan_flax.models.conditioning import with_labels

_EXPANSION = 2  # features in a branch, relative to the block's input
_SLOPE = 0.2  # of the leaky ReLU below 0
_NUM_WIDEST = 4  # coarsest stages, which have `base_features`
_LAYERS_IN_BRANCH = 3


def widths(size: images_lib.Size, base_features: int) -> tuple[int, ...]:
  """The number of features in each stage, from the coarsest to the finest.

  Args:
    size: on which the networks work; a map doubled k times.
    base_features: features in the four coarsest stages.

  Returns:
    k + 1 widths.

  Raises:
    ValueError: if the size has another form, or a width is not whole.
  """
  _, count = images_lib.doublings(size)
  result = []
  for i in range(count + 1):
    share = 2 ** max(0, i + 1 - _NUM_WIDEST)
    if base_features % share:
      raise ValueError(
        f'base_features={base_features} must be divisible by {share} for '
        f'images of {images_lib.size_text(size)} pixels'
      )
    result.append(base_features // share)
  return tuple(result)


def check_sizes(
  size: images_lib.Size, base_features: int, group_size: int
) -> None:
  """Checks that the widths split into groups.

  Raises:
    ValueError: if they do not; says how to choose `base_features`.
  """
  narrowest = _EXPANSION * widths(size, base_features)[-1]
  if narrowest % group_size:
    raise ValueError(
      f'group_size={group_size} does not divide {narrowest}, the width of the '
      'narrowest branch; change base_features or group_size'
    )


def scaled_normal(gain: float) -> nn.initializers.Initializer:
  """Normal weights of standard deviation gain / sqrt(number of inputs)."""
  if gain == 0:
    return nn.initializers.zeros
  return nn.initializers.variance_scaling(gain**2, 'fan_in', 'normal')


class Block(nn.Module):
  """[B, H, W, C] -> [B, H, W, C]: the input plus a branch of three layers.

  The paper counts the biases to the activations that follow them.

  Attributes:
    num_blocks: number of blocks in the network, which sets the initial scale.
    group_size: features in each group of the 3x3 convolution.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  num_blocks: int
  group_size: int
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, bias_scale: jax.Array | None = None
  ) -> jax.Array:
    """Adds the branch; `bias_scale` [B], if given, multiplies its biases."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    features = x.shape[-1]
    # The gain keeps the variance through a leaky ReLU; its second factor keeps
    # an update of the whole network from growing with the number of blocks.
    gain = math.sqrt(2 / (1 + _SLOPE**2)) * self.num_blocks ** (
      -1 / (2 * _LAYERS_IN_BRANCH - 2)
    )
    init = scaled_normal(gain)
    wide = _EXPANSION * features
    expand = nn.Dense(wide, kernel_init=init, name='expand', **types)
    conv = GroupedConv(
      wide,
      kernel_size=3,
      group_size=self.group_size,
      use_bias=True,
      kernel_init=init,
      name='conv',
      **types,
    )
    project = nn.Dense(
      features,
      use_bias=False,
      kernel_init=scaled_normal(0.0),
      name='project',
      **types,
    )
    y = _with_bias(expand, _at_each_pixel(expand, x), bias_scale)
    y = _with_bias(conv, conv(nn.leaky_relu(y, _SLOPE)), bias_scale)
    y = nn.leaky_relu(y, _SLOPE)
    return x + _at_each_pixel(project, y)


def _at_each_pixel(layer: nn.Module, x: jax.Array) -> jax.Array:
  """Applies a dense layer to each pixel, which makes a 1x1 convolution.

  The pixels are rows of a matrix: XLA for CPUs computes the kernel's gradient
  from a transposed copy of the image if more than one axis is summed.
  """
  y = layer(x.reshape(-1, x.shape[-1]))
  return y.reshape(*x.shape[:-1], -1)


def _with_bias(
  layer: nn.Module, y: jax.Array, scale: jax.Array | None
) -> jax.Array:
  """A layer's result with its bias times `scale` [B], if that is given."""
  if scale is None:
    return y
  bias = layer.variables['params']['bias']
  return y + jnp.outer(scale - 1, bias).astype(y.dtype)[:, None, None]


class Generator(nn.Module):
  """z [B, Z] -> images [B, H, W, C], whose pixels may leave [-1, 1].

  Attributes:
    image_shape: (H, W, C).
    grid_size: see `dcgan.Generator`; images are padded with 0.
    base_features: number of features in the four coarsest stages.
    blocks_per_stage: residual blocks in each stage.
    group_size: features in each group of the 3x3 convolutions.
    conditioning: 'projection' embeds the label and appends it to z, as the
      paper does; see also `gan_flax.models.conditioning`.
    num_classes: number of classes; None if unconditional.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  image_shape: tuple[int, int, int]
  base_features: int = 768
  grid_size: images_lib.Size | None = None
  blocks_per_stage: int = 2
  group_size: int = 16
  conditioning: str = 'none'
  num_classes: int | None = None
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
  ) -> jax.Array:
    """Draws images; takes the arguments of `dcgan.Generator`."""
    del train  # nothing depends on it
    *image_size, channels = self.image_shape
    size = images_lib.grid_size(image_size, self.grid_size)
    start, _ = images_lib.doublings(size)
    stages = widths(size, self.base_features)
    if self.conditioning == 'concatenation':
      latents = with_labels(latents, labels, self.num_classes)
    elif self.conditioning == 'projection':
      embedded = _embedding(self, labels, latents.shape[-1], gain=1.0)
      latents = jnp.concatenate([latents, embedded], axis=-1)
    image = self.param(
      'basis',
      nn.initializers.normal(1.0),
      (*start, stages[0]),
      self.param_dtype,
    ).astype(self.dtype)
    weights = _linear(self, stages[0], 'weights')(latents)
    x = image[None] * weights[:, None, None]
    for i, features in enumerate(stages):
      if i and features != stages[i - 1]:
        x = _at_each_pixel(_linear(self, features, f'narrow_{i}'), x)
      # A 1x1 convolution and the interpolation commute.
      x = upsampled(x) if i else x
      x = _stage(self, i, len(stages))(x)
    x = _at_each_pixel(_linear(self, channels, 'image'), x)
    return images_lib.centre_crop(x, image_size).astype(self.param_dtype)


class Discriminator(nn.Module):
  """Images [B, H, W, C] -> logits [B], differences of which have a meaning.

  Attributes: see `Generator`, but for
    conditioning: with 'projection', as in the paper, the logit is the inner
      product of the features with the embedded label; see also
      `gan_flax.models.conditioning`.
  """

  image_shape: tuple[int, int, int]
  base_features: int = 768
  grid_size: images_lib.Size | None = None
  blocks_per_stage: int = 2
  group_size: int = 16
  conditioning: str = 'none'
  num_classes: int | None = None
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @property
  def is_homogeneous(self) -> bool:
    """Whether the logits are homogeneous in the images and `bias_scale`.

    It makes the penalties R1 and R2 cheaper, see
    `penalties.logits_and_input_gradients`. Labels beside the pixels would have
    to be scaled, too.
    """
    return self.conditioning != 'concatenation'

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
    bias_scale: jax.Array | None = None,
  ) -> jax.Array:
    """Classifies images; takes the arguments of `dcgan.Generator`.

    If `bias_scale` [B] is given, it multiplies all biases. The logits are
    homogeneous in it and the images if `is_homogeneous`.
    """
    del train  # nothing depends on it
    size = images_lib.grid_size(self.image_shape[:2], self.grid_size)
    start, _ = images_lib.doublings(size)
    stages = widths(size, self.base_features)
    if self.conditioning == 'concatenation':
      images = with_labels(images, labels, self.num_classes)
    # Zeros keep the logits homogeneous.
    images = images_lib.centre_pad(images, size, 0)
    x = _at_each_pixel(_linear(self, stages[-1], 'features'), images)
    for i in reversed(range(len(stages))):
      x = _stage(self, i, len(stages))(x, bias_scale)
      x = downsampled(x) if i else x
      if i and stages[i - 1] != stages[i]:
        x = _at_each_pixel(_linear(self, stages[i - 1], f'widen_{i}'), x)
    image = self.param(
      'basis',
      nn.initializers.normal(1 / math.sqrt(math.prod(start))),
      (*start, stages[0]),
      self.param_dtype,
    ).astype(self.dtype)
    x = jnp.einsum('bhwc,hwc->bc', x, image)
    if self.conditioning != 'projection':
      return _linear(self, 1, 'logit')(x)[:, 0].astype(self.param_dtype)
    x = _linear(self, self.base_features, 'logit')(x)
    gain = 1 / math.sqrt(self.base_features)
    embedded = _embedding(self, labels, self.base_features, gain=gain)
    return jnp.sum(x * embedded, axis=-1).astype(self.param_dtype)


def _linear(
  module: Generator | Discriminator, features: int, name: str
) -> nn.Module:
  """A layer without a bias: dense, or a 1x1 convolution of images."""
  return nn.Dense(
    features,
    use_bias=False,
    kernel_init=scaled_normal(1.0),
    dtype=module.dtype,
    param_dtype=module.param_dtype,
    name=name,
  )


def _stage(
  module: Generator | Discriminator, stage: int, num_stages: int
) -> Callable[..., jax.Array]:
  """The residual blocks of a stage; see `Block` for the arguments."""
  blocks = [
    Block(
      num_stages * module.blocks_per_stage,
      module.group_size,
      dtype=module.dtype,
      param_dtype=module.param_dtype,
      name=f'block_{stage}_{j}',
    )
    for j in range(module.blocks_per_stage)
  ]

  def apply(x, bias_scale=None):
    for block in blocks:
      x = block(x, bias_scale)
    return x

  return apply


def _embedding(
  module: Generator | Discriminator,
  labels: jax.Array,
  features: int,
  *,
  gain: float,
) -> jax.Array:
  """Embeds labels int32 [B] as vectors [B, features]."""
  layer = nn.Dense(
    features,
    use_bias=False,
    kernel_init=scaled_normal(gain),
    dtype=module.dtype,
    param_dtype=module.param_dtype,
    name='class',
  )
  return layer(jax.nn.one_hot(labels, module.num_classes, dtype=module.dtype))
