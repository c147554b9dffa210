"""A plain DCGAN in PyTorch, the baseline for ours.

It has the networks, losses, optimisers and order of updates of
`gan_flax/models/dcgan.py` and `gan_flax/steps.py`. It omits what ours also
computes: the moving average of the generator's weights, gradient norms, and the
conversion of uint8 images. The extra `bench` installs PyTorch.
"""

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


class Step:
  """Repeats one alternating step on one batch."""

  def __init__(
    self,
    image_size: int,
    channels: int,
    base_features: int,
    batch_size: int,
    *,
    channels_last: bool,
    compiled: bool,
    bfloat16: bool,
    latent_size: int = 100,
  ):
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # autotunes, as XLA does
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    layout = torch.channels_last if channels_last else torch.contiguous_format
    self._generator = generator(
      image_size, channels, base_features, latent_size
    ).to(self._device, memory_format=layout)
    self._discriminator = discriminator(image_size, channels, base_features).to(
      self._device, memory_format=layout
    )
    self._real = (
      torch.rand(batch_size, channels, image_size, image_size) * 2 - 1
    ).to(self._device, memory_format=layout)
    self._latent_size = latent_size
    self._bfloat16 = bfloat16
    self._generator_tx, self._discriminator_tx = (
      torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999), fused=True)
      for net in (self._generator, self._discriminator)
    )
    if compiled:
      self._generator = torch.compile(self._generator, dynamic=False)
      self._discriminator = torch.compile(self._discriminator, dynamic=False)

  def __call__(self, num_steps: int) -> None:
    """Runs steps and waits for them."""
    for _ in range(num_steps):
      self._step()
    if self._device == 'cuda':
      torch.cuda.synchronize()

  def _loss(self, images: torch.Tensor, is_real: bool) -> torch.Tensor:
    with torch.autocast(self._device, torch.bfloat16, enabled=self._bfloat16):
      logits = self._discriminator(images)
    labels = torch.full_like(logits, float(is_real), dtype=torch.float32)
    return functional.binary_cross_entropy_with_logits(logits.float(), labels)

  def _step(self) -> None:
    latents = torch.randn(
      len(self._real), self._latent_size, 1, 1, device=self._device
    )
    with torch.autocast(self._device, torch.bfloat16, enabled=self._bfloat16):
      fake = self._generator(latents)
    self._discriminator_tx.zero_grad(set_to_none=True)
    loss = self._loss(self._real, True) + self._loss(fake.detach(), False)
    loss.backward()
    self._discriminator_tx.step()
    self._generator_tx.zero_grad(set_to_none=True)
    self._loss(fake, True).backward()
    self._generator_tx.step()
