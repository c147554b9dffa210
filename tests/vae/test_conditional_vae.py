"""Conditional VAEs: what labels change, training, commands."""

import json
import shutil

from conftest import assert_same_end
from conftest import recipe
from dense_vae import BATCH
from dense_vae import batches
from dense_vae import close
from dense_vae import compiled
from dense_vae import SHAPE
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_vae_devices import on_devices

from common_flax import data
from common_flax import prng
from common_flax.data.batches import Labelled
from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.training import loop
from vae_flax import config as vae_config
from vae_flax import estimation
from vae_flax import evaluate
from vae_flax import generation
from vae_flax import inference
from vae_flax import sample
from vae_flax import steps
from vae_flax import trained as trained_lib
from vae_flax.state import init_state
from vae_flax.train import train
from vae_flax.vae import create_vae

NUM_CLASSES = 3
LABELS = np.arange(BATCH, dtype=np.int32) % NUM_CLASSES


def config_of(**changes):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.name': 'mlp',
      'model.hidden_sizes': (12,),
      'model.latent_size': 3,
      'model.conditioning': 'label',
      **changes,
    }
  )
  return config


def create(axis=sharding.WHOLE_BATCH, **changes):
  return create_vae(config_of(**changes), SHAPE, NUM_CLASSES, axis)


def initial(vae):
  return jax.jit(lambda: init_state(vae, prng.root_key(0)))()


def smoke():
  config = recipe('vae.py', 'smoke').unlock()
  config.model.conditioning = 'label'
  return config.lock()


def x_of(vae):
  return generation.observe(vae, jax.random.key(0), batches(1)[0, 0])


@pytest.mark.parametrize('name', ['mlp', 'conv'])
@pytest.mark.parametrize('objective', ['elbo', 'iwae', 'dreg'])
def test_both_networks_are_told_the_class(name, objective):
  changes = {'model.name': name, 'objective': objective}
  if name == 'conv':
    changes['model.base_features'] = 4
  vae = create(**changes)
  params, x = initial(vae).params, x_of(vae)
  losses = {
    shift: steps.loss(
      vae,
      params,
      x,
      jax.random.key(1),
      np.int32(0),
      (LABELS + shift) % NUM_CLASSES,
    )[0]
    for shift in (0, 1)
  }
  assert losses[0] != losses[1]
  means, decoded = [], []
  z = jnp.zeros((BATCH, vae.latent_size))
  for label in range(NUM_CLASSES):
    labels = np.full(BATCH, label, np.int32)
    means.append(inference.encode(vae, params, x, labels)[0])
    decoded.append(inference.decode(vae, params, z, labels))
  for each in (means, decoded):
    assert np.abs(each[0] - each[1]).max() > 1e-4
  # One call with all classes gives what calls with one class each give.
  mixed = inference.decode(vae, params, z, LABELS)
  for i, label in enumerate(LABELS):
    np.testing.assert_allclose(mixed[i], decoded[label][i], atol=1e-5)


def test_labels_are_told_to_every_draw():
  vae = create()
  params = initial(vae).params
  z = jax.random.normal(jax.random.key(0), (BATCH, 4, vae.latent_size))
  together = inference.decode(vae, params, z, LABELS)
  for k in range(4):
    alone = inference.decode(vae, params, z[:, k], LABELS)
    np.testing.assert_allclose(together[:, k], alone, atol=1e-6)


def test_labels_where_there_are_none_and_none_where_there_are():
  vae = create()
  params = initial(vae).params
  z = jnp.zeros((BATCH, vae.latent_size))
  with pytest.raises(ValueError, match='labels'):
    inference.decode(vae, params, z)
  plain = create(**{'model.conditioning': 'none'})
  assert not plain.is_conditional
  with pytest.raises(ValueError, match='labels'):
    inference.decode(plain, initial(plain).params, z, LABELS)


def test_the_estimate_is_of_the_likelihood_given_the_class():
  vae = create()
  # Halved, Pr(x|z, y) varies little with z, and draws suffice.
  params, x = jax.tree.map(lambda p: p / 2, initial(vae).params), x_of(vae)
  keys = jax.random.split(jax.random.key(2), BATCH)
  found = inference.evidence(vae, params, x, LABELS)
  estimates = estimation.estimate(vae, params, x, found, keys, 400, LABELS)
  # By the plain mean of Pr(x|z, y) over draws of the prior.
  z = jax.random.normal(jax.random.key(3), (BATCH, 20_000, vae.latent_size))
  logs = jax.lax.map(
    lambda row: inference.reconstruction(
      vae, params, row[0][None], row[1][None], row[2][None]
    )[0],
    (x, z, jnp.asarray(LABELS)),
  )
  expected = jax.nn.logsumexp(logs, axis=1) - np.log(z.shape[1])
  np.testing.assert_allclose(estimates.log_prob, expected, atol=0.15)


def test_steps_are_the_same_on_many_devices():
  results = []
  for kind, num in (('jit', 1), ('jit', 8), ('pmap', 8)):
    parallel = on_devices(kind, num)
    vae = create(parallel.axis)
    state = parallel.spread(jax.device_get(initial(vae)))
    step = parallel.compile(
      loop.chain_steps(
        lambda *a, vae=vae: steps.train_step(vae, *a),
        1,
        skip_not_finite=False,
        unroll=True,
      )
    )
    batch = Labelled(batches(1), LABELS[None, None])
    for _ in range(3):
      state, _ = step(state, parallel.put_batches(batch), prng.root_key(0))
    results.append(jax.device_get(parallel.gather(state)).params)
  close(results[1], results[0], 1e-5)
  close(results[2], results[0], 1e-5)


def test_training_learns_what_a_class_looks_like():
  """Images of class k are white in column k alone."""
  vae = create(
    **{'optimizer.learning_rate': 1e-2, 'dataset.binarise': 'threshold'}
  )
  images = np.zeros((1, BATCH, *SHAPE), np.uint8)
  images[0, np.arange(BATCH), :, LABELS] = 255
  state, step = initial(vae), compiled(vae)
  for _ in range(300):
    state, _ = step(state, Labelled(images, LABELS[None]), prng.root_key(0))
  z = jax.random.normal(jax.random.key(5), (NUM_CLASSES, vae.latent_size))
  drawn = generation.generate(
    vae, state.params, z, np.arange(NUM_CLASSES, dtype=np.int32)
  )
  for label, image in enumerate(np.asarray(drawn)[..., 0]):
    assert image[:, label].min() > 200
    assert np.delete(image, label, axis=1).max() < 55


HIERARCHY = {'model.name': 'hierarchical', 'model.groups': ((1, 8, 1, 2),)}
VAMP = {'model.prior': 'vampprior'}
WEIGHTED = {'model.conditioning': 'none', 'total_correlation_weight': 1.0}


@pytest.mark.parametrize(
  ('changes', 'field'),
  [
    ({'model.conditioning': 'class'}, 'model.conditioning'),
    (HIERARCHY, 'model.conditioning'),
    (VAMP, 'model.conditioning'),
    (HIERARCHY | WEIGHTED, 'total_correlation_weight'),
    (VAMP | WEIGHTED, 'total_correlation_weight'),
  ],
)
def test_what_cannot_go_together_is_refused(changes, field):
  with pytest.raises(UserError, match=f'^config.{field}='):
    vae_config.check(config_of(**changes))


def test_a_conditional_vae_may_learn_a_mixture():
  config = config_of(**{'model.prior': 'mixture', 'model.prior_components': 5})
  vae_config.check(config)
  vae = create_vae(config, SHAPE, NUM_CLASSES)
  loss, _ = steps.loss(
    vae,
    initial(vae).params,
    x_of(vae),
    jax.random.key(1),
    np.int32(0),
    LABELS,
  )
  assert np.isfinite(loss)


def test_data_without_labels_is_refused():
  with pytest.raises(UserError, match='needs labels'):
    create_vae(config_of(), SHAPE, None)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A finished run of a conditional VAE of the digits."""
  workdir = tmp_path_factory.mktemp('conditional') / 'run'
  assert train(smoke(), workdir) is None
  return workdir


@pytest.fixture(scope='module')
def loaded(run):
  return trained_lib.load(run)


def test_classes_are_drawn_by_number_and_by_name(loaded):
  key = jax.random.key(0)
  assert loaded.class_names == tuple(map(str, range(10)))
  rows = loaded.generate(key, 16)
  np.testing.assert_array_equal(loaded.generate(key, 8, label=0), rows[:8])
  np.testing.assert_array_equal(loaded.generate(key, 16, '1')[8:], rows[8:])
  with pytest.raises(UserError, match='no such class'):
    loaded.generate(key, 4, label=10)
  with pytest.raises(UserError, match='label: missing'):
    loaded.encode(key, rows)
  mean, _ = loaded.encode(key, rows, label=[0] * 8 + [1] * 8)
  assert mean.shape == (16, loaded.vae.latent_size)
  assert loaded.decode(mean, 3).shape == rows.shape


def command(run, output, *arguments):
  return sample.main(
    ['sample', f'--workdir={run}', f'--output={output}', *arguments]
  )


def test_samples_have_their_classes(run, loaded, tmp_path):
  output = tmp_path / 'a.npz'
  assert command(run, output, '--label=7,2', '--num_samples=16') == 0
  with np.load(output) as arrays:
    np.testing.assert_array_equal(arrays['labels'], [7] * 8 + [2] * 8)
    again = loaded.decode(arrays['latents'], arrays['labels'])
    np.testing.assert_array_equal(again, arrays['images'])
    assert arrays['class_names'].tolist() == list(map(str, range(10)))
  # The file's latents and classes give back its images.
  other = tmp_path / 'b.npz'
  assert command(run, other, f'--latents={output}') == 0
  with np.load(output) as one, np.load(other) as two:
    np.testing.assert_array_equal(one['images'], two['images'])


@pytest.mark.parametrize(
  'arguments',
  [
    ('--kind=reconstruction', '--num_samples=8'),
    ('--kind=interpolation', '--num_samples=8'),
    ('--kind=traversal', '--num_samples=8'),
    ('--kind=walk', '--seeds=1,2', '--label=3', '--frames=3'),
    ('--prior=mixture', '--prior_components=3', '--num_samples=8'),
  ],
)
def test_every_kind_is_drawn(run, tmp_path, arguments):
  assert command(run, tmp_path / 'a.png', *arguments) == 0


def test_posteriors_are_those_given_the_class(run, loaded, tmp_path):
  output = tmp_path / 'latents.npz'
  assert command(run, output, '--kind=latents') == 0
  source = data.load(loaded.config.dataset, 'test')
  with np.load(output) as arrays:
    assert arrays['label'].tolist() == [e['label'] for e in source]
    means = arrays['mean']
  images = np.stack([source[i]['image'] for i in range(64)])
  labels = np.array([source[i]['label'] for i in range(64)], np.int32)
  key = prng.stream(prng.root_key(0), 'observe')
  x = generation.observe_by_number(loaded.vae, key, images, np.arange(64))
  expected, _ = generation.encode(loaded.vae, loaded.params, x, labels)
  np.testing.assert_allclose(means[:64], expected, atol=1e-5)


def test_own_pictures_need_their_class(run, tmp_path, refuses):
  pictures = tmp_path / 'own.npz'
  np.savez(pictures, images=batches(1)[0, 0, :2].repeat(2, 1).repeat(2, 2))
  for kind in ('reconstruction', 'latents', 'interpolation'):
    arguments = [f'--kind={kind}', f'--images={pictures}']
    output = tmp_path / f'{kind}.npz'
    refuses(
      sample.main,
      [f'--workdir={run}', f'--output={output}', *arguments],
      '--label: missing',
      folder=tmp_path,
    )
    label = '--label=4' if kind == 'interpolation' else '--label=4,5'
    assert command(run, output, *arguments, label) == 0


def test_flags_of_classes_are_refused_where_they_mean_nothing(
  run, trained_vae, tmp_path, refuses
):
  output = f'--output={tmp_path / "a.png"}'
  for workdir, arguments, words in (
    (run, ['--label=11'], '--label=11: there is no such class'),
    (run, ['--label=1', '--kind=reconstruction'], '--label=['),
    (run, ['--seeds=1,2'], '--label: missing'),
    (run, ['--label='], '--label: is empty'),
    (trained_vae, ['--label=1'], 'not conditional'),
  ):
    refuses(
      sample.main,
      [f'--workdir={workdir}', output, *arguments],
      words,
      folder=tmp_path,
    )


def test_every_metric_is_measured_of_all_classes_alike(run, tmp_path):
  few = ['--num_ais_images=2', '--num_chains=2', '--num_temperatures=10']
  arguments = [f'--workdir={run}', '--metrics=likelihood,ais,fid', *few]
  drawn = [f'--save_samples={tmp_path / "a.npz"}', '--num_samples=60']
  assert evaluate.main(['evaluate', *arguments, *drawn]) == 0
  with np.load(tmp_path / 'a.npz') as arrays:
    assert np.bincount(arrays['labels']).tolist() == [6] * 10
  report = json.loads((run / 'evaluation.json').read_text())
  for name in ('nll_nats', 'ais_nll_nats', 'fid'):
    assert np.isfinite(report[name])


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(run, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(run, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '8')
  assert train(smoke(), workdir) is None
  assert_same_end(run, workdir)
