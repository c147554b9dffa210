"""Residual GANs in PyTorch, the baseline for ours.

They have the networks, losses, optimisers and order of updates of
`gan_flax/models/r3gan.py`, `gan_flax/models/resnet.py` and `gan_flax/steps.py`,
written from the papers (Huang et al. 2024, arXiv:2501.05441; Miyato et al.
2018, arXiv:1802.05957) and without labels. They omit what ours also computes:
the moving average of the generator's weights, gradient norms, and the
conversion of uint8 images. The extra `bench` installs PyTorch.
"""

from collections.abc import Sequence
import math

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

_GAIN = math.sqrt(2 / (1 + 0.2**2))  # of a leaky ReLU of slope 0.2


def _scaled(layer: nn.Module, gain: float = 1.0) -> nn.Module:
  """Draws weights of standard deviation gain / sqrt(number of inputs)."""
  std = gain / math.sqrt(layer.weight[0].numel())
  nn.init.normal_(layer.weight, 0.0, std)
  if layer.bias is not None:
    nn.init.zeros_(layer.bias)
  return layer


def _linear(inputs: int, outputs: int) -> nn.Module:
  return _scaled(nn.Conv2d(inputs, outputs, 1, bias=False))


class Resampling(nn.Module):
  """Doubles or halves the side with the filter (1, 3, 3, 1) of each axis."""

  def __init__(self, features: int, is_up: bool):
    super().__init__()
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if is_up else 8)
    kernel = torch.outer(taps, taps).expand(features, 1, 4, 4).clone()
    self.register_buffer('kernel', kernel)
    self._is_up = is_up

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, C, 2H, 2W] or [B, C, H/2, W/2]."""
    apply = functional.conv_transpose2d if self._is_up else functional.conv2d
    groups = len(self.kernel)
    return apply(x, self.kernel.to(x.dtype), stride=2, padding=1, groups=groups)


class Block(nn.Module):
  """A residual block of R3GAN."""

  def __init__(self, features: int, num_blocks: int, group_size: int):
    super().__init__()
    wide, gain = 2 * features, _GAIN * num_blocks**-0.25
    self.expand = _scaled(nn.Conv2d(features, wide, 1), gain)
    self.conv = _scaled(
      nn.Conv2d(wide, wide, 3, padding=1, groups=wide // group_size), gain
    )
    self.project = _scaled(nn.Conv2d(wide, features, 1, bias=False), 0.0)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Adds the branch to x [B, C, H, W]."""
    y = functional.leaky_relu(self.expand(x), 0.2)
    y = functional.leaky_relu(self.conv(y), 0.2)
    return x + self.project(y)


class R3GANGenerator(nn.Module):
  """z [B, Z] -> images [B, C, S, S]; widths from the coarsest stage on."""

  def __init__(
    self,
    start: int,
    widths: Sequence[int],
    channels: int,
    latent_size: int,
    blocks_per_stage: int,
    group_size: int,
  ):
    super().__init__()
    num_blocks = blocks_per_stage * len(widths)
    self.basis = nn.Parameter(torch.randn(widths[0], start, start))
    self.weights = _scaled(nn.Linear(latent_size, widths[0], bias=False))
    layers = []
    for i, width in enumerate(widths):
      if i and width != widths[i - 1]:
        layers.append(_linear(widths[i - 1], width))
      if i:
        layers.append(Resampling(width, is_up=True))
      for _ in range(blocks_per_stage):
        layers.append(Block(width, num_blocks, group_size))
    self.layers = nn.Sequential(*layers, _linear(widths[-1], channels))

  def forward(self, latents: torch.Tensor) -> torch.Tensor:
    """Draws images."""
    return self.layers(self.basis * self.weights(latents)[:, :, None, None])


class R3GANDiscriminator(nn.Module):
  """Images [B, C, S, S] -> logits [B]; widths from the coarsest stage on."""

  def __init__(
    self,
    start: int,
    widths: Sequence[int],
    channels: int,
    blocks_per_stage: int,
    group_size: int,
  ):
    super().__init__()
    num_blocks = blocks_per_stage * len(widths)
    layers = [_linear(channels, widths[-1])]
    for i in reversed(range(len(widths))):
      for _ in range(blocks_per_stage):
        layers.append(Block(widths[i], num_blocks, group_size))
      if i:
        layers.append(Resampling(widths[i], is_up=False))
      if i and widths[i - 1] != widths[i]:
        layers.append(_linear(widths[i], widths[i - 1]))
    self.layers = nn.Sequential(*layers)
    self.basis = nn.Parameter(torch.randn(widths[0], start, start) / start)
    self.logit = _scaled(nn.Linear(widths[0], 1, bias=False))

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Classifies images."""
    x = (self.layers(images) * self.basis).sum(dim=(2, 3))
    return self.logit(x)[:, 0]


class _UpBlock(nn.Module):
  """A block of SNGAN's generator, which doubles the side."""

  def __init__(self, features: int):
    super().__init__()
    self.norms = nn.ModuleList(nn.BatchNorm2d(features) for _ in range(2))
    self.first = nn.Conv2d(features, features, 3, padding=1, bias=False)
    self.second = nn.Conv2d(features, features, 3, padding=1)
    self.shortcut = nn.Conv2d(features, features, 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = functional.interpolate(functional.relu(self.norms[0](x)), None, 2.0)
    y = self.second(functional.relu(self.norms[1](self.first(y))))
    return y + functional.interpolate(self.shortcut(x), None, 2.0)


class SNGANGenerator(nn.Module):
  """z [B, Z] -> images [B, C, S, S] in [-1, 1]."""

  def __init__(
    self, start: int, count: int, channels: int, features: int, latents: int
  ):
    super().__init__()
    self._shape = (features, start, start)
    self.project = nn.Linear(latents, features * start * start)
    self.blocks = nn.Sequential(*(_UpBlock(features) for _ in range(count)))
    self.norm = nn.BatchNorm2d(features)
    self.image = nn.Conv2d(features, channels, 3, padding=1)

  def forward(self, latents: torch.Tensor) -> torch.Tensor:
    """Draws images."""
    x = self.blocks(self.project(latents).view(-1, *self._shape))
    return torch.tanh(self.image(functional.relu(self.norm(x))))


class _DownBlock(nn.Module):
  """A block of SNGAN's discriminator, under spectral norm."""

  def __init__(self, inputs: int, features: int, is_halving: bool):
    super().__init__()
    norm = parametrizations.spectral_norm
    self._is_first, self._is_halving = inputs != features, is_halving
    self.first = norm(nn.Conv2d(inputs, features, 3, padding=1))
    self.second = norm(nn.Conv2d(features, features, 3, padding=1))
    if is_halving:
      self.shortcut = norm(nn.Conv2d(inputs, features, 1))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = self.first(x if self._is_first else functional.relu(x))
    y = self.second(functional.relu(y))
    if not self._is_halving:
      return x + y
    return functional.avg_pool2d(y, 2) + self.shortcut(
      functional.avg_pool2d(x, 2)
    )


class SNGANDiscriminator(nn.Module):
  """Images [B, C, S, S] -> logits [B]."""

  def __init__(self, num_halvings: int, channels: int, features: int):
    super().__init__()
    self.blocks = nn.Sequential(
      *(
        _DownBlock(features if i else channels, features, i < num_halvings)
        for i in range(num_halvings + 2)
      )
    )
    self.logit = parametrizations.spectral_norm(nn.Linear(features, 1))

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Classifies images."""
    x = functional.relu(self.blocks(images)).sum(dim=(2, 3))
    return self.logit(x)[:, 0]


def squared_gradient_norms(
  logits: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
  """Squared norms [B] of the logits' gradients, differentiable once more."""
  (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
  return gradients.square().sum(dim=(1, 2, 3))


def r3gan_discriminator_loss(
  discriminator: nn.Module,
  real: torch.Tensor,
  fake: torch.Tensor,
  gamma: float,
) -> torch.Tensor:
  """The relativistic loss with R1 and R2."""
  real = real.detach().requires_grad_(True)
  fake = fake.detach().requires_grad_(True)
  real_logits, fake_logits = discriminator(real), discriminator(fake)
  penalty = squared_gradient_norms(real_logits, real)
  penalty = penalty + squared_gradient_norms(fake_logits, fake)
  loss = functional.softplus(fake_logits - real_logits)
  return (loss + gamma / 2 * penalty).mean()


def r3gan_generator_loss(
  discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor
) -> torch.Tensor:
  """The relativistic loss of the generator."""
  return functional.softplus(discriminator(real) - discriminator(fake)).mean()


class Step:
  """Repeats one alternating step on one batch.

  Args:
    network: 'r3gan', with the relativistic loss, R1 and R2, or 'resnet',
      SNGAN's with the hinge loss.
    start: side of the coarsest image.
    widths: features of R3GAN's stages; SNGAN takes their number and the first.
    image_size: side S of the images.
    batch_size: B.
    group_size: features in a group of R3GAN's convolutions.
    channels_last: whether features are the last axis in memory.
    compiled: whether the networks are compiled.
  """

  def __init__(
    self,
    network: str,
    start: int,
    widths: Sequence[int],
    image_size: int,
    batch_size: int,
    group_size: int,
    *,
    channels_last: bool,
    compiled: bool,
    channels: int = 3,
    latent_size: int = 64,
  ):
    torch.manual_seed(0)
    self._is_r3gan = network == 'r3gan'
    if self._is_r3gan:
      options = (2, group_size)
      generator = R3GANGenerator(start, widths, channels, latent_size, *options)
      discriminator = R3GANDiscriminator(start, widths, channels, *options)
    else:
      count, features = len(widths) - 1, widths[0]
      generator = SNGANGenerator(
        start, count, channels, 2 * features, latent_size
      )
      discriminator = SNGANDiscriminator(max(1, count - 1), channels, features)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    self._generator = generator.to(memory_format=layout)
    self._discriminator = discriminator.to(memory_format=layout)
    self._real = torch.rand(batch_size, channels, image_size, image_size)
    self._real = (self._real * 2 - 1).to(memory_format=layout)
    self._latent_size = latent_size
    self._generator_tx, self._discriminator_tx = (
      torch.optim.Adam(net.parameters(), 2e-4, (0.0, 0.99), fused=True)
      for net in (generator, discriminator)
    )
    if compiled:
      self._generator = torch.compile(self._generator, dynamic=False)
      self._discriminator = torch.compile(self._discriminator, dynamic=False)

  def __call__(self, num_steps: int) -> None:
    """Runs steps."""
    for _ in range(num_steps):
      self._step()

  def _step(self) -> None:
    real, discriminator = self._real, self._discriminator
    fake = self._generator(torch.randn(len(real), self._latent_size))
    self._discriminator_tx.zero_grad(set_to_none=True)
    if self._is_r3gan:
      loss = r3gan_discriminator_loss(discriminator, real, fake, 0.05)
    else:
      loss = functional.relu(1 - discriminator(real)).mean()
      loss = loss + functional.relu(1 + discriminator(fake.detach())).mean()
    loss.backward()
    self._discriminator_tx.step()
    self._generator_tx.zero_grad(set_to_none=True)
    discriminator.requires_grad_(False)
    if self._is_r3gan:
      loss = r3gan_generator_loss(discriminator, real, fake)
    else:
      loss = -discriminator(fake).mean()
    loss.backward()
    discriminator.requires_grad_(True)
    self._generator_tx.step()
