"""A trained VAE, ready to draw, encode and decode.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Iterator
import dataclasses

from etils import epath
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from common_flax import prng
from common_flax import workdir as workdir_lib
from vae_flax import config as vae_config
from vae_flax import generation
from vae_flax.state import create_vae
from vae_flax.state import EXPORT
from vae_flax.state import exported
from vae_flax.state import init_state
from vae_flax.state import Params
from vae_flax.state import VAE

# Images are drawn in chunks of one size, whatever their number, so that an
# image's bits do not depend on how many are drawn with it.
CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Trained:
  """The networks of a run, with fixed parameters."""

  vae: VAE
  params: Params
  config: ConfigDict
  step: int  # of the checkpoint

  def chunks(self, key: jax.Array, num: int) -> Iterator[jax.Array]:
    """Yields draws from the prior, decoded: uint8 [64, H, W, C] at a time.

    There are at least `num` of them together. Image i depends on the key,
    which is not consumed, and on i alone.
    """
    for start in range(0, num, CHUNK):
      numbers = jnp.arange(start, start + CHUNK)
      yield self.decode(generation.latents_by_number(self.vae, key, numbers))

  def generate(self, key: jax.Array, num: int) -> jax.Array:
    """The first `num` images of `chunks`, uint8 [num, H, W, C]."""
    return jnp.concatenate(list(self.chunks(key, num)))[:num]

  def encode(
    self, key: jax.Array, images: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Images as bytes -> mean and log-variance of their posteriors.

    Args:
      key: consumed where the likelihood is of draws, such as binary images.
      images: uint8 [N, H, W, C]; with `binarise=fixed` of 0 and 255, as grey
        ones are taken by a threshold.

    Returns:
      [N, Z] each.
    """
    x = generation.observe(self.vae, key, images)
    return generation.encode(self.vae, self.params, x)

  def decode(self, z: jax.Array) -> jax.Array:
    """Latents [N, Z] -> uint8 [N, H, W, C], the decoder's mean images."""
    return generation.generate(self.vae, self.params, z)


def load(
  workdir: epath.PathLike, *, use_ema: bool = True, step: int | None = None
) -> Trained:
  """Loads the networks of a workdir's checkpoint.

  Args:
    workdir: folder of a run.
    use_ema: take the moving average of the weights rather than the last ones.
    step: of the checkpoint; None for the newest.

  Raises:
    UserError: if the folder holds no run, no such checkpoint, or weights that
      are not finite.
  """
  config = vae_config.read(workdir)
  root = prng.root_key(config.seed)
  step, vae, weights = workdir_lib.restore(
    workdir,
    EXPORT,
    config,
    create_vae,
    lambda vae: exported(init_state(vae, root)),
    step,
  )
  params = weights['ema_params' if use_ema else 'params']
  workdir_lib.check_finite(workdir, step, params)
  return Trained(vae, params, config, step)
