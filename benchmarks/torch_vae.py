"""A VAE of dense layers in PyTorch, the baseline for ours.

It has the networks, bounds and optimiser of `vae_flax/models/mlp.py` and
`vae_flax/steps.py`, as in most implementations. It omits what ours also
computes: the moving average of the weights, the terms of the bound, gradient
norms, the limit on log-variances, and the conversion of uint8 images. The extra
`bench` installs PyTorch.

Dimensions: B batch, D pixels, K importance samples, Z latent size.
"""

import math

import torch
from torch import nn
from torch.nn import functional


class VAE(nn.Module):
  """Encoder and decoder with two hidden layers each."""

  def __init__(self, num_pixels: int, hidden_size: int, latent_size: int):
    super().__init__()
    self.encoder = nn.Sequential(
      nn.Linear(num_pixels, hidden_size),
      nn.Tanh(),
      nn.Linear(hidden_size, hidden_size),
      nn.Tanh(),
    )
    self.mean = nn.Linear(hidden_size, latent_size)
    self.log_var = nn.Linear(hidden_size, latent_size)
    self.decoder = nn.Sequential(
      nn.Linear(latent_size, hidden_size),
      nn.Tanh(),
      nn.Linear(hidden_size, hidden_size),
      nn.Tanh(),
      nn.Linear(hidden_size, num_pixels),
    )

  def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps x [B, D] to the mean and log-variance of q(z|x), [B, Z] each."""
    hidden = self.encoder(x)
    return self.mean(hidden), self.log_var(hidden)


def bound(
  vae: VAE, x: torch.Tensor, noise: torch.Tensor, *, bfloat16: bool = False
) -> torch.Tensor:
  """ELBO for K = 1, importance-weighted bound for K > 1.

  Args:
    vae: encoder and decoder.
    x: [B, D] in {0, 1}.
    noise: [B, K, Z] from N(0, I).
    bfloat16: whether the networks compute in bfloat16; the bound is float32.

  Returns:
    [] mean over the batch, in nats.
  """
  batch_size, num_samples, _ = noise.shape
  autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16)
  with autocast:
    mean, log_var = vae.encode(x)
  mean, log_var = mean.float(), log_var.float()
  deviation = torch.exp(0.5 * log_var)
  if num_samples == 1:
    z = mean + deviation * noise[:, 0]  # [B, Z]
    with autocast:
      logits = vae.decoder(z)
    cross_entropy = functional.binary_cross_entropy_with_logits(
      logits.float(), x, reduction='sum'
    )
    kl = 0.5 * torch.sum(log_var.exp() + mean**2 - 1 - log_var)
    return -(cross_entropy + kl) / batch_size
  z = mean[:, None] + deviation[:, None] * noise  # [B, K, Z]
  with autocast:
    logits = vae.decoder(z)
  cross_entropy = functional.binary_cross_entropy_with_logits(
    logits.float(), x[:, None].expand_as(logits), reduction='none'
  ).sum(-1)
  # log q(z|x) - log Pr(z); the standardised z is the noise itself.
  divergence = 0.5 * torch.sum(z**2 - noise**2 - log_var[:, None], -1)
  log_weights = -cross_entropy - divergence  # [B, K]
  return (torch.logsumexp(log_weights, 1) - math.log(num_samples)).mean()


class Step:
  """Repeats one step on one batch of grey images, binarised anew each time."""

  def __init__(
    self,
    batch_size: int,
    num_importance_samples: int,
    num_pixels: int,
    hidden_size: int,
    latent_size: int,
    *,
    fused: bool,
    compiled: bool,
    bfloat16: bool,
  ):
    torch.manual_seed(0)
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if self._device == 'cuda':
      torch.set_float32_matmul_precision('high')  # TF32, as in XLA
    self._vae = VAE(num_pixels, hidden_size, latent_size).to(self._device)
    self._grey = torch.rand(batch_size, num_pixels, device=self._device)
    self._noise_shape = (batch_size, num_importance_samples, latent_size)
    self._bfloat16 = bfloat16
    # By default Adam on a CPU runs one operation at a time on each tensor.
    self._tx = torch.optim.Adam(
      self._vae.parameters(), 1e-3, fused=fused or None
    )
    self._loss = self._eager_loss
    if compiled:
      # On a GPU, steps this small are bound by kernel launches.
      mode = 'reduce-overhead' if self._device == 'cuda' else 'default'
      self._loss = torch.compile(self._eager_loss, dynamic=False, mode=mode)

  def __call__(self, num_steps: int) -> None:
    """Runs steps and waits for them."""
    for _ in range(num_steps):
      self._tx.zero_grad(set_to_none=True)
      self._loss().backward()
      self._tx.step()
    if self._device == 'cuda':
      torch.cuda.synchronize()

  def _eager_loss(self) -> torch.Tensor:
    x = torch.bernoulli(self._grey)
    noise = torch.randn(self._noise_shape, device=self._device)
    return -bound(self._vae, x, noise, bfloat16=self._bfloat16)
