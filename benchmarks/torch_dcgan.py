"""A plain DCGAN in PyTorch, the baseline for ours.

It has the networks, losses, optimisers and order of updates of
`gan_flax/models/dcgan.py` and `gan_flax/steps.py`. It omits what ours also
computes: the moving average of the generator's weights, gradient norms, and the
conversion of uint8 images. The extra `bench` installs PyTorch.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def _init_weights(module: nn.Module) -> None:
  if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
    nn.init.normal_(module.weight, 0.0, 0.02)
  elif isinstance(module, nn.BatchNorm2d):
    nn.init.normal_(module.weight, 1.0, 0.02)
    nn.init.zeros_(module.bias)


def generator(
  image_size: int, channels: int, base_features: int, latent_size: int
) -> nn.Module:
  """Maps latents [B, Z, 1, 1] to images [B, C, S, S], S = 4 * 2**k."""
  features = base_features * image_size // 8
  layers = [
    nn.ConvTranspose2d(latent_size, features, 4, 1, 0, bias=False),
    nn.BatchNorm2d(features),
    nn.ReLU(True),
  ]
  while features > base_features:
    layers += [
      nn.ConvTranspose2d(features, features // 2, 4, 2, 1, bias=False),
      nn.BatchNorm2d(features // 2),
      nn.ReLU(True),
    ]
    features //= 2
  layers += [
    nn.ConvTranspose2d(features, channels, 4, 2, 1, bias=False),
    nn.Tanh(),
  ]
  return nn.Sequential(*layers).apply(_init_weights)


def discriminator(
  image_size: int, channels: int, base_features: int
) -> nn.Module:
  """Maps images [B, C, S, S] to logits [B]."""
  features = base_features
  layers = [
    nn.Conv2d(channels, features, 4, 2, 1, bias=False),
    nn.LeakyReLU(0.2, True),
  ]
  while features < base_features * image_size // 8:
    layers += [
      nn.Conv2d(features, 2 * features, 4, 2, 1, bias=False),
      nn.BatchNorm2d(2 * features),
      nn.LeakyReLU(0.2, True),
    ]
    features *= 2
  layers += [nn.Conv2d(features, 1, 4, 1, 0, bias=False), nn.Flatten(0)]
  return nn.Sequential(*layers).apply(_init_weights)


class Trainer:
  """The networks and optimisers, and the alternating step that trains them."""

  def __init__(
    self,
    image_size: int,
    channels: int,
    base_features: int,
    *,
    channels_last: bool,
    compiled: bool = False,
    bfloat16: bool = False,
    latent_size: int = 100,
    seed: int = 0,
  ):
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True  # autotunes, as XLA does
    self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    self.layout = (
      torch.channels_last if channels_last else torch.contiguous_format
    )
    self.generator = generator(
      image_size, channels, base_features, latent_size
    ).to(self.device, memory_format=self.layout)
    self.discriminator = discriminator(image_size, channels, base_features).to(
      self.device, memory_format=self.layout
    )
    self.latent_size = latent_size
    self._bfloat16 = bfloat16
    self._generator_tx, self._discriminator_tx = (
      torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999), fused=True)
      for net in (self.generator, self.discriminator)
    )
    if compiled:
      self.generator = torch.compile(self.generator, dynamic=False)
      self.discriminator = torch.compile(self.discriminator, dynamic=False)

  def step(self, real: torch.Tensor) -> None:
    """Trains both players once on images in [-1, 1], [B, C, S, S]."""
    latents = torch.randn(len(real), self.latent_size, 1, 1, device=self.device)
    with torch.autocast(self.device, torch.bfloat16, enabled=self._bfloat16):
      fake = self.generator(latents)
    self._discriminator_tx.zero_grad(set_to_none=True)
    loss = self._loss(real, True) + self._loss(fake.detach(), False)
    loss.backward()
    self._discriminator_tx.step()
    self._generator_tx.zero_grad(set_to_none=True)
    self._loss(fake, True).backward()
    self._generator_tx.step()

  def _loss(self, images: torch.Tensor, is_real: bool) -> torch.Tensor:
    with torch.autocast(self.device, torch.bfloat16, enabled=self._bfloat16):
      logits = self.discriminator(images)
    labels = torch.full_like(logits, float(is_real), dtype=torch.float32)
    return functional.binary_cross_entropy_with_logits(logits.float(), labels)


class Step:
  """Repeats one alternating step on one batch."""

  def __init__(
    self,
    image_size: int,
    channels: int,
    base_features: int,
    batch_size: int,
    **options: Any,
  ):
    """Takes the arguments of `Trainer`, and the size of the batch."""
    self._trainer = Trainer(image_size, channels, base_features, **options)
    self._real = (
      torch.rand(batch_size, channels, image_size, image_size) * 2 - 1
    ).to(self._trainer.device, memory_format=self._trainer.layout)

  def __call__(self, num_steps: int) -> None:
    """Runs steps and waits for them."""
    for _ in range(num_steps):
      self._trainer.step(self._real)
    if self._trainer.device == 'cuda':
      torch.cuda.synchronize()
