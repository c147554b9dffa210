"""The prior over codes: its densities, its draws, and whole runs."""

import functools
import itertools
import json
import shutil

from conftest import assert_same_arrays
from conftest import assert_same_end
from conftest import recipe
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from scipy import special
from small_vq import BATCH
from small_vq import batches
from small_vq import create
from small_vq import initial

from common_flax import prng
from common_flax.data.batches import join_each
from common_flax.data.batches import Labelled
from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.training import loop
from vq_flax import evaluate
from vq_flax import sample
from vq_flax.prior import __main__ as main_lib
from vq_flax.prior import config as prior_config
from vq_flax.prior import drawing
from vq_flax.prior import prior as prior_lib
from vq_flax.prior.train import train
from vq_flax.prior.trained import load
from vq_flax.train import train as train_model

pytestmark = pytest.mark.usefixtures('in_the_repository')

NUM_CLASSES = 3
MODELS = {
  'plain': ({}, {}),
  'classes': ({}, {'prior.conditioning': 'label'}),
  'residual': ({'model__num_codebooks': 2, 'model__num_codes': 3}, {}),
}


def configured(**changes):
  config = prior_config.default().unlock()
  config.update_from_flattened_dict(
    {'prior.width': 8, 'prior.num_layers': 2, 'prior.num_heads': 2} | changes
  )
  prior_config.check(config)
  return config


@functools.cache
def model(name, dtype='float32'):
  return create(dtype, **MODELS[name][0])


def create_prior(name, dtype='float32', axis=sharding.WHOLE_BATCH):
  changes = {'compute_dtype': dtype, **MODELS[name][1]}
  return prior_lib.create_prior(
    configured(**changes), model(name, dtype), NUM_CLASSES, axis
  )


def state_of(name, dtype='float32', axis=sharding.WHOLE_BATCH):
  prior = create_prior(name, dtype, axis)
  params = initial(model(name, dtype)).params
  init = functools.partial(prior_lib.init_state, prior, params)
  return prior, jax.jit(init)(prng.root_key(0))


def spread(params):
  """Parameters far enough from 0 that all logits differ."""
  random = np.random.default_rng(1)
  return jax.tree.map(
    lambda p: p + random.normal(0, 0.5, p.shape).astype(p.dtype), params
  )


def labels_of(prior, num):
  if not prior.is_conditional:
    return None
  return np.arange(num, dtype=np.int32) % NUM_CLASSES


@pytest.mark.parametrize('name', MODELS)
def test_a_code_is_predicted_from_those_before_it_alone(name):
  prior, state = state_of(name)
  params = spread(state.params)
  random = np.random.default_rng(0)
  network = prior.network
  codes = random.integers(0, network.num_codes, (2, network.length))
  apply = jax.jit(network.apply)
  variables = {'params': params['prior']}
  logits = apply(variables, codes, labels_of(prior, 2))
  for place in range(network.length):
    other = codes.copy()
    other[:, place:] = (other[:, place:] + 1) % network.num_codes
    changed = apply(variables, other, labels_of(prior, 2))
    is_same = np.isclose(changed, logits, rtol=1e-5, atol=1e-6).all((0, 2))
    assert is_same[: place + 1].all()
    assert not is_same[place + 1 :].any()


@pytest.mark.parametrize('name', MODELS)
def test_the_cache_gives_what_the_whole_network_gives(name):
  prior, state = state_of(name)
  params, network = spread(state.params), prior.network
  variables = {'params': params['prior']}
  random = np.random.default_rng(0)
  codes = random.integers(0, network.num_codes, (2, network.length), np.int32)
  labels = labels_of(prior, 2)
  expected = network.apply(variables, codes, labels)
  found, cache = network.apply(variables, labels, 2, method=network.first)
  logits = [found]
  for place in range(network.length - 1):
    found, cache = network.apply(
      variables, codes[:, place], place, cache, method=network.next
    )
    logits.append(found)
  np.testing.assert_allclose(
    np.stack(logits, axis=1), expected, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('name', MODELS)
def test_codes_drawn_with_the_cache_are_those_without(name):
  prior, state = state_of(name)
  params, network = spread(state.params), prior.network
  key, numbers = jax.random.key(3), np.arange(20, dtype=np.int32)
  labels = labels_of(prior, 20)
  found = drawing.draw(prior, params, key, numbers, labels, 0.9, 0.95)
  keys = prng.by_number(key, numbers)
  codes = np.zeros((20, network.length), np.int32)
  for place in range(network.length):
    logits = network.apply({'params': params['prior']}, codes, labels)
    logits = drawing.allowed(logits[:, place] / np.float32(0.9), 0.95)
    at_place = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
    codes[:, place] = jax.vmap(jax.random.categorical)(at_place, logits)
  np.testing.assert_array_equal(found.reshape(20, -1), codes)
  one = drawing.draw(
    prior,
    params,
    key,
    numbers[7:8],
    None if labels is None else labels[7:8],
    0.9,
    0.95,
  )
  np.testing.assert_array_equal(one[0], found[7])


def all_codes(network):
  return np.array(
    [*itertools.product(range(network.num_codes), repeat=network.length)],
    np.int32,
  )


@pytest.fixture(scope='module')
def enumerable():
  """A prior of four codes of three kinds, and all 81 images it can draw."""
  vq = create(model__num_codes=3)
  prior = prior_lib.create_prior(configured(), vq, None)
  params = spread(
    prior_lib.init_state(prior, initial(vq).params, jax.random.key(0)).params
  )
  codes = all_codes(prior.network).reshape(-1, 2, 2, 1)
  return prior, params, codes


def test_probabilities_of_all_codes_sum_to_one(enumerable):
  prior, params, codes = enumerable
  log_probs = prior_lib.log_prob(prior, params, codes, None)
  assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)
  assert np.ptp(log_probs) > 1


def test_draws_are_as_frequent_as_they_are_likely(enumerable):
  prior, params, codes = enumerable
  probabilities = np.exp(prior_lib.log_prob(prior, params, codes, None))
  num = 20_000
  drawn = drawing.draw(
    prior, params, jax.random.key(1), np.arange(num), None, 1.0, 1.0
  )
  numbers = np.asarray(drawn).reshape(num, -1) @ [27, 9, 3, 1]
  shares = np.bincount(numbers, minlength=81) / num
  errors = np.sqrt(probabilities * (1 - probabilities) / num)
  assert (np.abs(shares - probabilities) < 5 * errors + 1e-9).all()


def test_known_codes_stay_and_the_others_follow_them(enumerable):
  prior, params, codes = enumerable
  is_known = np.zeros((2, 2, 1), bool)
  is_known[0] = True
  num = 4000
  one = np.array([2, 0, 1, 1]).reshape(2, 2, 1)
  known = np.broadcast_to(one, (num, 2, 2, 1))
  drawn = drawing.draw(
    prior,
    params,
    jax.random.key(1),
    np.arange(num),
    None,
    1.0,
    1.0,
    known,
    is_known,
  )
  assert (drawn[:, 0] == known[:, 0]).all()
  log_probs = np.asarray(prior_lib.log_prob(prior, params, codes, None))
  begins_so = (codes[:, 0] == known[0, 0]).all((1, 2))
  expected = special.softmax(log_probs[begins_so])
  numbers = np.asarray(drawn)[:, 1].reshape(num, -1) @ [3, 1]
  shares = np.bincount(numbers, minlength=9) / num
  errors = np.sqrt(expected * (1 - expected) / num)
  assert (np.abs(shares - expected) < 5 * errors + 1e-9).all()


@pytest.mark.parametrize(
  ('top_p', 'kept'),
  [
    (1.0, [1, 1, 1, 1]),
    (0.7, [1, 0, 1, 0]),
    (0.5, [1, 0, 0, 0]),
    (0.0, [1, 0, 0, 0]),
  ],
)
def test_the_likeliest_codes_are_kept(top_p, kept):
  probabilities = np.array([0.5, 0.15, 0.25, 0.1])
  found = drawing.allowed(jnp.log(probabilities)[None], top_p)[0]
  np.testing.assert_array_equal(np.isfinite(found), np.array(kept, bool))


def batch_of(prior, images):
  if not prior.is_conditional:
    return images
  labels = np.arange(BATCH, dtype=np.int32) % NUM_CLASSES
  return Labelled(images, labels[None])


@pytest.mark.parametrize('name', ['plain', 'classes'])
def test_a_step_changes_the_prior_and_not_the_model(name):
  prior, state = state_of(name)
  step = jax.jit(functools.partial(prior_lib.train_step, prior))
  new = state
  for images in batches(3):
    new, metrics = step(new, batch_of(prior, images), prng.root_key(0))
  assert_same_arrays(new.model, state.model)
  same = jax.tree.map(np.array_equal, new.params, state.params)
  assert not any(jax.tree.leaves(same))
  assert set(metrics) == {'rate_nats', 'grad_norm'}
  assert metrics['rate_nats'] > 0


@functools.cache
def train_on(kind, num_devices):
  kinds = {'jit': sharding.JitOverMesh, 'pmap': sharding.PmapOverMesh}
  parallel = kinds[kind](sharding.create_mesh(jax.devices()[:num_devices]))
  prior, state = state_of('plain', 'float64', parallel.axis)
  step = parallel.compile(
    loop.chain_steps(
      functools.partial(prior_lib.train_step, prior),
      1,
      skip_not_finite=False,
      unroll=True,
    )
  )
  state = parallel.spread(state)
  for group in join_each(iter(batches(4)), 1):
    state, _ = step(state, parallel.put_batches(group), prng.root_key(0))
  return jax.device_get(parallel.gather(state)).params


@pytest.mark.parametrize('kind', ['jit', 'pmap'])
def test_steps_are_the_same_on_many_devices(kind):
  with jax.enable_x64(True):
    expected, actual = train_on('jit', 1), train_on(kind, 8)
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(a, b, 1e-9, 1e-9)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A model of the digits and its prior, which is told the class."""
  workdir = tmp_path_factory.mktemp('with_prior') / 'run'
  train_model(recipe('vq.py', 'smoke'), workdir)
  config = recipe('vq_prior.py', 'smoke').unlock()
  config.prior.conditioning = 'label'
  assert train(config, workdir) is None
  return workdir


def test_a_prior_stands_beside_its_model(trained):
  rows = (trained / 'prior' / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(rows[-1])['rate_nats'] > 0
  stored = json.loads((trained / 'prior' / 'config.json').read_text())
  assert stored['dataset']['image_size'] == 16
  assert stored['dataset']['binarise'] == 'threshold'
  prior = load(trained)
  assert prior.num_classes == 10
  images = prior.generate(jax.random.key(0), 3, 7)
  assert images.shape == (3, 16, 16, 1)
  assert images.dtype == np.uint8


def test_resuming_a_prior_gives_the_same_bits(tmp_path, trained):
  config = recipe('vq_prior.py', 'smoke').unlock()
  for name, parts in (('straight', (12,)), ('halves', (6, 12))):
    model = tmp_path / name
    train_model(recipe('vq.py', 'smoke'), model)
    for num_steps in parts:
      config.num_steps = num_steps
      train(config, model)
  (tmp_path / 'halves/prior/samples/step_00000006.png').unlink()
  assert_same_end(tmp_path / 'halves/prior', tmp_path / 'straight/prior')


@pytest.mark.parametrize('kind', ['prior', 'inpainting'])
def test_pictures_of_the_prior_are_drawn(tmp_path, trained, kind):
  path = tmp_path / 'grid.png'
  arguments = [f'--workdir={trained}', f'--kind={kind}', f'--output={path}']
  assert sample.main(['command', *arguments, '--num_samples=20']) == 0
  with PIL.Image.open(path) as grid:
    assert grid.size == (18 * 8 + 2, 18 * 3 + 2)


def test_completed_images_differ_and_come_again(tmp_path, trained):
  path = tmp_path / 'images.npy'
  arguments = [f'--workdir={trained}', '--kind=inpainting', '--num_samples=8']
  assert sample.main(['command', *arguments, f'--output={path}']) == 0
  images = np.load(path)
  assert len(np.unique(images, axis=0)) == 8
  assert sample.main(['command', *arguments, f'--output={path}']) == 0
  np.testing.assert_array_equal(np.load(path), images)


def test_classes_are_drawn_by_name(tmp_path, trained):
  path = tmp_path / 'drawn.npz'
  arguments = [f'--workdir={trained}', '--label=3,5', f'--output={path}']
  assert sample.main(['command', *arguments, '--num_samples=16']) == 0
  with np.load(path) as arrays:
    np.testing.assert_array_equal(arrays['labels'], np.repeat([3, 5], 8))


def test_the_bound_takes_the_prior_of_these_weights_alone(capsys, trained):
  arguments = [f'--workdir={trained}', '--metrics=bound']
  assert evaluate.main(['command', *arguments]) == 0
  found = json.loads((trained / 'evaluation.json').read_text())
  assert found['bound_nats'] == pytest.approx(
    found['distortion_nats'] + found['rate_nats']
  )
  assert found['bound_nats'] != found['bound_unigram_nats']
  assert 'other weights' not in capsys.readouterr().out
  assert evaluate.main(['command', *arguments, '--step=4']) == 0
  assert 'other weights' in capsys.readouterr().out
  other = json.loads((trained / 'evaluation.json').read_text())
  assert 'rate_nats' not in other
  assert other['bound_nats'] == other['bound_unigram_nats']


@pytest.mark.parametrize('flag', ['--step=4', '--noema'])
def test_images_of_other_weights_are_not_scored(
  refuses, trained, tmp_path, flag
):
  arguments = [f'--workdir={trained}', '--scored=prior', '--metrics=kid', flag]
  arguments += ['--features=random', '--num_samples=20']
  words = '--scored=prior', 'other weights'
  refuses(evaluate.main, arguments, *words, folder=tmp_path)


def test_a_classifier_says_whether_classes_are_as_asked(trained, monkeypatch):
  seen = np.arange(40, dtype=np.int32) % 10  # the classes that are asked for
  seen[:4] = 9
  monkeypatch.setattr(
    evaluate.reference_sets, 'dataset_classifier', lambda dataset: None
  )
  monkeypatch.setattr(
    evaluate.classifier_lib, 'labels', lambda classifier, images: seen
  )
  arguments = [f'--workdir={trained}', '--scored=prior', '--metrics=classes']
  assert evaluate.main(['command', *arguments, '--num_samples=40']) == 0
  found = json.loads((trained / 'evaluation.json').read_text())
  assert found['label_agreement'] == 0.9
  assert found['lowest_label_agreement'] == 0.75


def test_a_mean_over_classes_is_a_probability_of_codes(trained):
  prior = load(trained)
  codes = np.zeros((2, 4, 4, 1), np.int32)
  of_classes = [
    prior_lib.log_prob(
      prior.prior, prior.params, codes, np.full(2, k, np.int32)
    )
    for k in range(10)
  ]
  expected = special.logsumexp(of_classes, axis=0) - np.log(10)
  np.testing.assert_allclose(prior.log_prob(codes), expected, rtol=1e-5)


def test_a_model_without_a_prior_says_how_to_train_one(refuses, tmp_path):
  workdir = tmp_path / 'run'
  train_model(recipe('vq.py', 'smoke'), workdir)
  output = f'--output={tmp_path}/x.png'
  words = 'no prior', 'python -m vq_flax.prior'
  refuses(
    sample.main, [f'--workdir={workdir}', output], *words, folder=tmp_path
  )
  arguments = [f'--workdir={workdir}', '--scored=prior', '--metrics=kid']
  refuses(evaluate.main, arguments, *words, folder=tmp_path)


@pytest.mark.parametrize(
  ('argument', 'words'),
  [
    ('--config.dataset.name=mnist', ['dataset.name', 'of its model']),
    ('--config.dataset.name=digits', ['dataset.name', 'of its model']),
    ('--config.prior.num_heads=3', ['num_heads', 'prior.width=16']),
    ('--config.prior.conditioning=yes', ['conditioning', 'label']),
    ('--config.prior.width=0', ['prior.width']),
    ('--init_from=runs/other', ['--init_from', 'start anew']),
  ],
)
def test_a_wrong_argument_is_one_line(
  refuses, trained, tmp_path, argument, words
):
  arguments = [
    f'--workdir={trained}',
    '--config=configs/vq_prior.py:smoke',
    argument,
  ]
  refuses(main_lib.main, arguments, *words, folder=tmp_path)


def test_a_prior_of_other_weights_is_not_resumed(tmp_path):
  config = recipe('vq.py', 'smoke').unlock()
  train_model(config, tmp_path)
  prior = recipe('vq_prior.py', 'smoke')
  train(prior, tmp_path)
  assert train(prior, tmp_path) is None  # finished
  config.num_steps = 12
  train_model(config, tmp_path)
  with pytest.raises(UserError, match=r'other weights .*; remove that folder'):
    train(prior, tmp_path)


def test_where_the_data_is_may_be_said_anew(trained):
  model = recipe('vq.py', 'smoke')
  config = recipe('vq_prior.py', 'smoke').unlock()
  config.dataset.data_dir = '/elsewhere'
  found = prior_config.with_dataset(config, model).dataset
  assert found.data_dir == '/elsewhere'
  assert found.image_size == 16
  again = prior_config.with_dataset(
    prior_config.with_dataset(recipe('vq_prior.py', 'smoke'), model), model
  )
  assert again.dataset.binarise == 'threshold'


def test_a_prior_too_large_for_the_memory_is_refused(
  refuses, trained, tmp_path
):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  shutil.rmtree(workdir / 'prior')
  arguments = [
    f'--workdir={workdir}',
    '--config=configs/vq_prior.py:smoke',
    '--config.batch_size=100000000',
  ]
  words = 'batch_size', 'prior.num_layers', '16 codes'
  refuses(main_lib.main, arguments, *words, folder=tmp_path)


@pytest.mark.parametrize('name', ['temperature', 'top_p'])
def test_numbers_out_of_range_are_refused_from_python(trained, name):
  with pytest.raises(UserError, match=f'{name}=-1'):
    load(trained).generate(jax.random.key(0), 1, **{name: -1})


def test_a_folder_that_is_no_model_is_refused(refuses, tmp_path):
  arguments = ['--config=configs/vq_prior.py:smoke']
  arguments.append(f'--workdir={tmp_path}/none')
  refuses(main_lib.main, arguments, 'no such folder', folder=tmp_path)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--kind=reconstruction', '--temperature=0.5'], ['temperature', 'prior']),
    (['--kind=codebook', '--label=3'], ['label', '--kind=prior']),
    (['--kind=prior', '--split=train'], ['split']),
    (['--label=ten'], ['no such class']),
  ],
)
def test_flags_without_an_effect_are_refused(
  refuses, trained, tmp_path, arguments, words
):
  arguments = [f'--workdir={trained}', f'--output={tmp_path}/x.png', *arguments]
  refuses(sample.main, arguments, *words, folder=tmp_path)


def test_a_prior_that_is_told_the_class_needs_labels():
  with pytest.raises(UserError, match='needs labels'):
    prior_lib.create_prior(
      configured(**{'prior.conditioning': 'label'}), model('plain'), None
    )


def test_each_command_lists_and_takes_its_own_recipes(
  capfd, refuses, trained, tmp_path
):
  assert main_lib.main(['command', '--list']) == 0
  listed = capfd.readouterr().out
  assert 'vq_prior:conditional' in listed
  assert 'fsq' not in listed
  arguments = [f'--workdir={trained}', '--config=vq:smoke']
  refuses(main_lib.main, arguments, 'python -m vq_flax.main', folder=tmp_path)


@pytest.mark.slow
def test_samples_are_scored_in_training(tmp_path):
  train_model(recipe('vq.py', 'smoke'), tmp_path)
  config = recipe('vq_prior.py', 'smoke').unlock()
  config.prior.conditioning = 'label'
  config.evaluate_every_steps = 8
  config.checkpoint_every_steps = 8
  config.evaluation_features = 'random'
  config.evaluation_num_samples = 70
  config.evaluation_metrics = ('kid',)
  assert train(config, tmp_path) is None
  rows = (tmp_path / 'prior' / 'metrics.jsonl').read_text().splitlines()
  assert np.isfinite(json.loads(rows[-1])['kid'])
