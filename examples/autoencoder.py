"""A model family in one file: an autoencoder of digits (docs/extending.md).

python examples/autoencoder.py --config=examples/autoencoder.py[:smoke]
"""

from collections.abc import Sequence
import functools
import sys

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import optax

from common_flax import config as config_lib
from common_flax import data
from common_flax import images as images_lib
from common_flax import optimisers
from common_flax import prng
from common_flax.cli import exit_status
from common_flax.cli import training_command
from common_flax.training import hooks as hooks_lib
from common_flax.training.run import open_run
from common_flax.training.time_limit import choose_steps


def default() -> ConfigDict:
  """Returns every field with its default, locked."""
  config = config_lib.base()
  config.num_steps = 1000
  config.hidden_size = 256
  config.latent_size = 16
  config.optimizer = optimisers.default(learning_rate=1e-3, b1=0.9, b2=0.999)
  return config.lock()


def get_config(variant: str = '') -> ConfigDict:
  """The recipe: this file can be passed as --config."""
  variants = {'': lambda config: None, 'smoke': _smoke}
  return config_lib.of_variant(default(), variants, variant)


def _smoke(config: ConfigDict) -> None:
  config.update(num_steps=8, batch_size=16, log_every_steps=2)
  config.update(sample_every_steps=4, checkpoint_every_steps=4)


def check(config: ConfigDict) -> None:
  """Raises a UserError that names the first invalid field."""
  config_lib.check_fields(config, default())
  config_lib.check_base(config)
  config_lib.require_at_least(config, 1, 'hidden_size', 'latent_size')
  optimisers.check(config, 'optimizer')


class Autoencoder(nn.Module):
  """Images [B, H, W, C] in [-1, 1] -> reconstructions of the same shape."""

  hidden_size: int
  latent_size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    flat = x.reshape(len(x), -1)
    y = nn.relu(nn.Dense(self.hidden_size, name='encoder')(flat))
    y = nn.Dense(self.latent_size, name='latents')(y)
    y = nn.relu(nn.Dense(self.hidden_size, name='decoder')(y))
    return nn.tanh(nn.Dense(flat.shape[1], name='image')(y)).reshape(x.shape)


class State(struct.PyTreeNode):
  """Everything that changes in training; the loop uses `step` and `attempt`."""

  step: jax.Array  # int32 [], train steps completed
  attempt: jax.Array  # int32 [], rollbacks taken
  params: dict
  opt_state: optax.OptState


def init_state(model, tx, shape, root) -> State:
  """Initialises the state, a pure function of the root key."""
  x = jnp.zeros((1, *shape))
  params = model.init(prng.stream(root, 'init'), x)['params']
  return State(jnp.int32(0), jnp.int32(0), params, tx.init(params))


def train_step(model, tx, axis, state, batch, unused_root):
  """One update on uint8 [1, B, H, W, C]; `axis.mean` averages over devices."""
  x = images_lib.to_signed(batch[0])

  def loss(params):
    return jnp.mean((model.apply({'params': params}, x) - x) ** 2)

  value, gradients = axis.mean(jax.value_and_grad(loss)(state.params))
  updates, opt_state = tx.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
  return state, {'squared_error': value}


def draw(model, images, unused_root, state) -> np.ndarray:
  """A row of images above a row of reconstructions, uint8 [H', W', C]."""
  x = images_lib.to_signed(images)
  y = images_lib.from_signed(model.apply({'params': state.params}, x))
  return images_lib.grid(np.concatenate([images, y]), len(images))


def train(config, workdir, hooks=(), init_from=None, limit=None) -> int | None:
  """Trains in a workdir; returns the signal that stopped the run, if any."""
  check(config)
  fixed = config.optimizer.schedule != 'constant'
  config = choose_steps(config, workdir, limit, default(), fixed, train)
  fields = dict(default=default(), has_fixed_steps=fixed, init_from=init_from)
  with open_run(config, workdir, **fields) as run:
    source = data.load_for_training(config.dataset)
    model = Autoencoder(config.hidden_size, config.latent_size)
    tx = optimisers.create(config.optimizer, config.num_steps)
    show = functools.partial(draw, model, data.first_examples(source, 8))
    return run.fit(
      functools.partial(train_step, model, tx, run.axis),
      functools.partial(init_state, model, tx, source.example_shape),
      source,
      [
        *hooks,
        hooks_lib.Metrics(['squared_error']),
        hooks_lib.Pictures(show, config.sample_every_steps),
        hooks_lib.Curves({'loss': ['squared_error']}, config.log_every_steps),
        hooks_lib.Checkpoints(lambda state: {'model': state.params}, config),
      ],
      is_convolutional=False,
    )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  with exit_status.reporting_errors() as status:
    arguments = training_command.parse(argv, f'python {argv[0]}', __doc__)
    with training_command.reporting_signals(arguments, status):
      profile = hooks_lib.Profile(arguments.profile)
      options = [profile], arguments.init_from, arguments.max_minutes
      stopped_by = train(arguments.config, arguments.workdir, *options)
      status.value = training_command.report(stopped_by, arguments)
  return status.value


if __name__ == '__main__':
  sys.exit(main(sys.argv))
