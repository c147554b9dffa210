"""A hierarchical VAE in PyTorch, the baseline for ours.

It has the networks and the bound of `vae_flax/models/hierarchical.py` and
`vae_flax/steps.py`, written as convolutions, as most implementations are. It
omits what ours also computes: the moving average of the weights, the terms of
the bound, gradient norms, the limit on log-variances, and the conversion of
uint8 images. The extra `bench` installs PyTorch.

Dimensions: B batch, S side of a scale, W its width, C channels of its latents,
H height.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

Scale = tuple[int, int, int, int]  # side, width, number of groups, channels


def _gelu(x: torch.Tensor) -> torch.Tensor:
  return functional.gelu(x, approximate='tanh')


class Block(nn.Module):
  """1x1, 3x3 and 1x1 convolutions, each after an activation."""

  def __init__(self, side: int, inputs: int, width: int, outputs: int):
    super().__init__()
    size = 3 if side > 1 else 1
    self.reduce = nn.Conv2d(inputs, width, 1)
    self.mix = nn.Conv2d(width, width, size, padding=size // 2)
    self.expand = nn.Conv2d(width, outputs, 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """[B, ..., S, S] -> [B, outputs, S, S]."""
    x = self.mix(_gelu(self.reduce(_gelu(x))))
    return self.expand(_gelu(x))


class HierarchicalVAE(nn.Module):
  """All networks; groups are numbered from the top."""

  def __init__(self, image_size: int, scales: Sequence[Scale]):
    super().__init__()
    self.scales = scales
    sides = [side for side, *_ in scales] + [image_size]
    widths = [width for _, width, *_ in scales] + [1]
    self.reduce, self.expand = nn.ModuleList(), nn.ModuleList()
    self.encoder, self.start = nn.ModuleList(), nn.ParameterList()
    self.priors, self.posteriors = nn.ModuleList(), nn.ModuleList()
    self.join, self.blocks = nn.ModuleList(), nn.ModuleList()
    for i, (side, width, num_groups, channels) in enumerate(scales):
      factor = sides[i + 1] // side
      self.reduce.append(nn.Conv2d(widths[i + 1], width, factor, factor))
      self.expand.append(
        nn.ConvTranspose2d(width, widths[i + 1], factor, factor)
      )
      self.start.append(torch.zeros(width, side, side))
      for _ in range(num_groups):
        half = width // 2
        self.encoder.append(Block(side, width, half, width))
        self.priors.append(Block(side, width, half, width + 2 * channels))
        self.posteriors.append(Block(side, 2 * width, half, 2 * channels))
        self.join.append(nn.Conv2d(channels, width, 1))
        self.blocks.append(Block(side, width, half, width))

  def features(self, x: torch.Tensor) -> list[torch.Tensor]:
    """Features [B, W, S, S] of x [B, 1, H, H] at each scale."""
    features = []
    last = len(self.encoder)
    for i in reversed(range(len(self.scales))):
      x = self.reduce[i](x)
      first = last - self.scales[i][2]
      for block in self.encoder[first:last]:
        x = x + block(x)
      features.insert(0, x)
      last = first
    return features

  def bound(
    self, x: torch.Tensor, noise: Sequence[torch.Tensor], free_nats: float
  ) -> torch.Tensor:
    """The ELBO, with free bits.

    Args:
      x: [B, 1, H, H] in {0, 1}.
      noise: [B, C, S, S] from N(0, I) for each group.
      free_nats: least divergence of a group.

    Returns:
      [] mean over the batch, in nats.
    """
    features = self.features(x)
    state, group, divergence = None, 0, 0.0
    for i, (_, width, num_groups, _) in enumerate(self.scales):
      if state is None:
        state = self.start[i].expand(len(x), -1, -1, -1)
      else:
        state = self.expand[i - 1](state) + self.start[i]
      for _ in range(num_groups):
        changed = self.priors[group](state)
        prior_mean, prior_log_var = changed[:, width:].chunk(2, 1)
        state = state + changed[:, :width]
        seen = torch.cat([features[i], state], 1)
        mean, log_var = self.posteriors[group](seen).chunk(2, 1)
        kl = 0.5 * (log_var.exp() + mean**2 - 1 - log_var)
        divergence = divergence + kl.sum((1, 2, 3)).mean().clamp(min=free_nats)
        standard = mean + torch.exp(0.5 * log_var) * noise[group]
        z = prior_mean + torch.exp(0.5 * prior_log_var) * standard
        state = state + self.join[group](z)
        state = state + self.blocks[group](state)
        group += 1
    logits = self.expand[-1](_gelu(state))
    cross_entropy = functional.binary_cross_entropy_with_logits(
      logits, x, reduction='sum'
    )
    return -cross_entropy / len(x) - divergence


class Step:
  """Repeats one step on one batch of grey images, binarised anew each time."""

  def __init__(
    self,
    batch_size: int,
    image_size: int,
    scales: Sequence[Scale],
    free_nats: float,
    *,
    channels_last: bool,
    compiled: bool,
  ):
    torch.manual_seed(0)
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    memory_format = (
      torch.channels_last if channels_last else torch.contiguous_format
    )
    self._vae = HierarchicalVAE(image_size, scales).to(
      self._device, memory_format=memory_format
    )
    self._grey = torch.rand(
      (batch_size, 1, image_size, image_size), device=self._device
    ).contiguous(memory_format=memory_format)
    self._shapes = [
      (batch_size, channels, side, side)
      for side, _, num_groups, channels in scales
      for _ in range(num_groups)
    ]
    self._free_nats = free_nats
    self._tx = torch.optim.Adam(self._vae.parameters(), 1e-3)
    self._loss = self._eager_loss
    if compiled:
      self._loss = torch.compile(self._eager_loss, dynamic=False)

  def __call__(self, num_steps: int) -> None:
    """Runs steps and waits for them."""
    for _ in range(num_steps):
      self._tx.zero_grad(set_to_none=True)
      self._loss().backward()
      torch.nn.utils.clip_grad_norm_(self._vae.parameters(), 200.0)
      self._tx.step()
    if self._device == 'cuda':
      torch.cuda.synchronize()

  def _eager_loss(self) -> torch.Tensor:
    x = torch.bernoulli(self._grey)
    noise = [torch.randn(shape, device=self._device) for shape in self._shapes]
    return -self._vae.bound(x, noise, self._free_nats)
