"""Watches a VAE in training for posterior collapse."""

from collections.abc import Sequence
import functools

import jax
from ml_collections import ConfigDict

from common_flax.training.health import Row
from common_flax.training.health import Verdict
from common_flax.training.watch import Watch
from vae_flax import generation
from vae_flax import inference
from vae_flax.state import VAEState
from vae_flax.vae import VAE

_NO_ACTIVE_UNITS = (
  'no latent is active: the posterior has collapsed onto the prior, and the '
  'decoder ignores z. Try'
)


def posterior_watch(
  vae: VAE, watched: generation.Watched, config: ConfigDict
) -> Watch:
  """Creates the hook that counts active latents and warns if there are none.

  Args:
    vae: the static part.
    watched: images of the training data.
    config: the run's config.
  """

  def measure(unused_root: jax.Array, state: VAEState) -> dict[str, jax.Array]:
    use = generation.latent_use(vae, state.params, *watched)
    if vae.prior is not None:  # whose divergences are not from N(0, 1)
      del use['kl_per_latent_nats']
    elif vae.scales:  # too many latents to report each
      kl = use.pop('kl_per_latent_nats')
      use['kl_per_group_nats'] = inference.per_group(vae, kl, None)
    return use

  return Watch(measure, functools.partial(judge, config))


def judge(config: ConfigDict, rows: Sequence[Row]) -> Verdict:
  """Warns if no latent is active."""
  if rows[-1]['active_units'] > 0:
    return Verdict(None)
  return Verdict(f'{_NO_ACTIVE_UNITS} {_cure(config)}.')


def _cure(config: ConfigDict) -> str:
  """Remedies for posterior collapse that the config allows."""
  if config.objective != 'elbo':
    return (
      'a lower learning rate, or --init_from a run with objective=elbo and '
      'kl_warmup_steps'
    )
  cures = ['kl_warmup_steps', 'free_bits_nats', 'a beta below 1']
  if config.kl != 'closed_form':
    cures.remove('free_bits_nats')
  return ' or '.join(cures)
