"""Exported networks give the numbers of `sample`, in other runtimes, too."""

import importlib
import json
import os
import re
import subprocess
import sys

import huggingface_hub
import jax
import ml_collections
import numpy as np
import onnxruntime
import pytest
from safetensors import numpy as safetensors

from common_flax.cpu import dispatch
from common_flax.errors import UserError
from common_flax.export import card
from common_flax.export import load_exported
from common_flax.export import parts as parts_lib
from common_flax.export import programs
from common_flax.export.parts import LEARNED
from gan_flax import config as gan_config
from gan_flax import exporting as gan_exporting
from gan_flax import sample
from gan_flax import trained as gan_trained
from gan_flax.gan import create_gan
from gan_flax.state import init_state
from vae_flax import config as vae_config
from vae_flax import exporting as vae_exporting
from vae_flax import sample as vae_sample
from vae_flax import trained as vae_trained
from vae_flax.state import init_state as init_vae_state
from vae_flax.vae import create_vae

command = importlib.import_module('common_flax.export.__main__')
CLOSE = dict(atol=1e-5, rtol=0)
FILES = {'README.md', 'export.json', 'samples.png'}

# What a reader of the card has: JAX, NumPy, and the card.
_ALONE = """
import json, pathlib, re, sys


class Refused:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in ('gan_flax', 'vae_flax', 'common_flax', 'flax'):
      raise ImportError(name)


sys.meta_path.insert(0, Refused())
import numpy as np

card = pathlib.Path('README.md').read_text()
code = re.search('```python\\n(.*?)```', card, re.DOTALL).group(1)
exec(code, globals())
given = np.load('../given.npz')
generator = load_exported('.')['generator']
for num in (1, 3):
  images = generator(given['latents'][:num], given['labels'][:num])
  np.save(f'../images_{num}.npy', images)
"""


def run(workdir, output, *arguments):
  return command.main(
    ['export', f'--workdir={workdir}', f'--output={output}', *arguments]
  )


@pytest.fixture(scope='module')
def exported(trained_conditional, tmp_path_factory):
  folder = tmp_path_factory.mktemp('exported') / 'digits'
  parts = '--parts=generator,discriminator'
  assert run(trained_conditional, folder, parts, '--license=mit') == 0
  return folder


def run_onnx(folder, name, *arrays):
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = 1
  session = onnxruntime.InferenceSession(folder / f'{name}.onnx', options)
  inputs = [each.name for each in session.get_inputs()]
  return session.run(None, dict(zip(inputs, arrays, strict=True)))


def check(part, folder, *arrays):
  """Exports a network, and compares what it says with the network itself."""
  folder.mkdir(exist_ok=True)
  programs.write(folder, 'network', part, list(programs.FORMATS))
  text = json.dumps({'parts': {'network': {}}})
  (folder / 'export.json').write_text(text)
  wanted = jax.tree.leaves(jax.jit(part.function)(part.weights, *arrays))
  call = load_exported(folder)['network']
  for got in (
    jax.tree.leaves(call(*arrays)),
    run_onnx(folder, 'network', *arrays),
  ):
    assert len(got) == len(wanted) == len(part.outputs)
    for ours, theirs in zip(got, wanted, strict=True):
      # Networks without tanh, of random weights, have large outputs.
      atol = 1e-5 * max(1.0, np.abs(theirs).max())
      np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0)
  for ours in wanted:
    assert np.std(ours) > 1e-6


def test_a_process_without_this_package_draws_the_same_images(
  exported, trained_conditional
):
  sampler = sample.load(trained_conditional)
  latents = np.asarray(sampler.latents_of(jax.random.key(0))(np.arange(3)))
  labels = np.int32([2, 0, 1])
  np.savez(exported.parent / 'given.npz', latents=latents, labels=labels)
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  subprocess.run(
    [sys.executable, '-c', _ALONE], cwd=exported, check=True, env=environment
  )
  images = np.load(exported.parent / 'images_3.npy')
  (by_onnx,) = run_onnx(exported, 'generator', latents, labels)
  np.testing.assert_allclose(images, by_onnx, **CLOSE)
  np.testing.assert_allclose(
    np.load(exported.parent / 'images_1.npy'), images[:1], **CLOSE
  )
  drawn = np.asarray(sampler.generate_from(latents, labels))
  # Bytes are 1 / 127.5 apart.
  assert np.abs((images + 1) * 127.5 - drawn).max() < 0.5 + 1e-2
  assert np.ptp(images, axis=0).max() > 1e-3


def test_the_folder_is_one_that_a_hub_takes(exported):
  networks = ('generator', 'discriminator')
  files = {f'{name}.{form}' for name in networks for form in programs.FORMATS}
  assert {file.name for file in exported.iterdir()} == FILES | files
  loaded = huggingface_hub.ModelCard.load(exported / 'README.md')
  assert loaded.data.license == 'mit'
  assert loaded.data.pipeline_tag == 'unconditional-image-generation'
  assert loaded.data.library_name == 'jax'
  for file in exported.iterdir():
    huggingface_hub.CommitOperationAdd(file.name, file)
  modes = {file.stat().st_mode & 0o777 for file in exported.iterdir()}
  assert len(modes) == 1


def test_the_card_names_metrics_as_hubs_do(trained_conditional):
  config = gan_config.read(trained_conditional)
  made = parts_lib.Exportable('GAN', config, 1, 0, {}, '2 values', np.zeros(1))
  metrics = card.numbers({'fid': 2.5, 'x': None, 'provenance': {}, 'y': True})
  text = card.card(card.description(made, [], metrics), 'mine', 'mit')
  results = huggingface_hub.ModelCard(text).data.eval_results
  assert [(r.metric_type, r.metric_value) for r in results] == [('fid', 2.5)]
  assert results[0].dataset_name == 'digits'


@pytest.mark.parametrize(
  ('changes', 'is_kept'),
  [
    ({}, True),
    ({'checkpoint_step': 4}, False),
    ({'moving_average': False}, False),
    ({'num_seeds': 3}, False),
  ],
)
def test_the_card_has_metrics_of_what_is_exported_alone(
  changes, is_kept, capsys
):
  made = parts_lib.Exportable(
    'GAN', gan_config.default(), 5, 0, {}, '2 values', np.zeros(1)
  )
  how = {'checkpoint_step': 5, 'moving_average': True, 'num_seeds': 1}
  evaluation = {'fid': 2.5, 'provenance': how | changes}
  metrics = command._metrics(evaluation, made, use_ema=True)
  assert metrics == ({'fid': 2.5} if is_kept else {})
  assert capsys.readouterr().out.count('left out of the card') == (not is_kept)


def test_an_export_goes_into_an_empty_clone(tmp_path):
  picture = np.zeros((4, 4, 3), np.uint8)
  made = parts_lib.Exportable(
    'GAN', gan_config.default(), 5, 0, {}, '2 values', picture
  )
  (tmp_path / 'clone/.git').mkdir(parents=True)
  command._write(str(tmp_path / 'clone'), made, [], {}, 'grün →')
  found = {file.name for file in (tmp_path / 'clone').iterdir()}
  assert found == FILES | {'.git'}
  assert [file.name for file in tmp_path.iterdir()] == ['clone']
  assert (tmp_path / 'clone/README.md').read_text('utf-8') == 'grün →'


def test_the_card_names_no_folder_of_the_training(trained_conditional):
  config = gan_config.read(trained_conditional).copy_and_resolve_references()
  with config.unlocked():
    config.dataset.path = '/home/somebody/secret'
    config.dataset.labels = '/home/somebody/secret.csv'
    config.evaluation_inception_weights = '/home/somebody/secret.pth'
  made = parts_lib.Exportable('GAN', config, 1, 0, {}, '2 values', np.zeros(1))
  assert 'secret' not in json.dumps(card.description(made, [], {}))


def test_weights_are_those_of_the_run(exported, trained_conditional):
  weights = safetensors.load_file(exported / 'generator.safetensors')
  sampler = sample.load(trained_conditional)
  kernel = sampler.params['project']['kernel']
  np.testing.assert_array_equal(weights['params.project.kernel'], kernel)
  assert 'batch_stats.norm_0.mean' in weights


def test_programs_hold_no_form_for_cpus_alone(exported):
  data = (exported / 'generator.stablehlo').read_bytes()
  loaded = jax.export.deserialize(data)
  assert loaded.platforms == programs.PLATFORMS
  calls = re.findall(r'custom_call @?"?(\w+)', loaded.mlir_module())
  assert set(calls) == {'shape_assertion'}
  assert dispatch.uses_fast_forms()
  with programs.portable():
    assert not dispatch.uses_fast_forms()
  assert dispatch.uses_fast_forms()


def gan_sampler(example_shape=(16, 16, 1), **fields):
  config = gan_config.default().unlock()
  fields = {'model.base_features': 4, 'model.latent_size': 8, **fields}
  config.update_from_flattened_dict(fields)
  gan = create_gan(config, example_shape, 3)
  state = jax.jit(lambda: init_state(gan, jax.random.key(0)))()
  random = np.random.default_rng(0)
  net = jax.tree.map(
    lambda leaf: leaf + np.float32(random.uniform(-0.2, 0.2, leaf.shape)),
    state.generator.replace(opt_state=()),
  )
  sampler = gan_trained.Sampler(gan, net.params, net.batch_stats, config, 0, 0)
  return sampler, state


@pytest.mark.parametrize(
  ('shape', 'fields'),
  [
    (
      (12, 16, 3),
      {'model.conditioning': 'concatenation', 'model.generator_norm': 'layer'},
    ),
    ((16, 16, 1), {'model.name': 'resnet'}),
    (
      (16, 16, 1),
      {
        'model.name': 'r3gan',
        'model.base_features': 32,
        'model.blocks_per_stage': 1,
        'model.conditioning': 'projection',
      },
    ),
    ((2,), {'model.name': 'mlp', 'dataset.name': 'ring'}),
    ((2,), {'model.name': 'pacgan', 'dataset.name': 'grid'}),
  ],
  ids=['concatenation', 'resnet', 'r3gan', 'mlp', 'pacgan'],
)
def test_generators(tmp_path, shape, fields):
  sampler, _ = gan_sampler(shape, **fields)
  part = gan_exporting.generator(sampler)
  latents = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  labels = [np.int32([0, 2, 1])] if sampler.gan.is_conditional else []
  check(part, tmp_path, latents, *labels)


def test_a_discriminator_with_spectral_norm(tmp_path):
  sampler, state = gan_sampler(**{'model.spectral_norm': True})
  part = gan_exporting.discriminator(sampler, state.discriminator)
  images = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 1))
  check(part, tmp_path, images.astype(np.float32))


def test_bfloat16_runs_are_exported_in_float32(tmp_path):
  sampler, _ = gan_sampler(compute_dtype='bfloat16')
  part = gan_exporting.generator(sampler)
  latents = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  check(part, tmp_path, latents)
  images = jax.jit(part.function)(part.weights, latents)
  drawn = np.asarray(sampler.generate_from(latents), np.float32)
  np.testing.assert_allclose((images + 1) * 127.5, drawn, atol=4)


def test_what_judges_several_examples_is_refused():
  sampler, state = gan_sampler(**{'model.packing': 2})
  with pytest.raises(UserError, match='several examples at once'):
    gan_exporting.discriminator(sampler, state.discriminator)


@pytest.mark.parametrize(
  'fields',
  [
    {'likelihood': 'bernoulli', 'model.name': 'mlp'},
    {'likelihood': 'gaussian', 'model.name': 'mlp'},
    {'likelihood': 'gaussian_learned', 'model.name': 'mlp'},
    {'likelihood': 'logistic', 'model.name': 'conv'},
    {'likelihood': 'logistic_mixture', 'model.name': 'mlp'},
    {'likelihood': 'bernoulli', 'model.name': 'hierarchical'},
  ],
  ids=lambda fields: '-'.join(fields.values()),
)
def test_vaes(tmp_path, fields):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.base_features': 4,
      'model.latent_size': 3,
      'model.groups': ((1, 8, 1, 2), (3, 4, 1, 1)),
      **fields,
    }
  )
  shape = (12, 12, 3 if 'mixture' in fields['likelihood'] else 1)
  vae = create_vae(config, shape)
  params = jax.jit(lambda: init_vae_state(vae, jax.random.key(0)).params)()
  run_ = vae_trained.TrainedVAE(vae, params, config, 0)
  random = np.random.default_rng(0)
  latents = random.normal(size=(3, vae.latent_size)).astype(np.float32)
  decoder = vae_exporting.decoder(run_)
  check(decoder, tmp_path / 'decoder', latents)
  images = jax.jit(decoder.function)(decoder.weights, latents)
  drawn = np.asarray(run_.decode(latents), np.float32)
  np.testing.assert_allclose(images * 255, drawn, atol=0.5 + 1e-2)
  images = random.uniform(size=(3, *shape)).astype(np.float32)
  check(vae_exporting.encoder(run_), tmp_path / 'encoder', images)


def test_a_conditional_vae_takes_labels(tmp_path):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.name': 'mlp',
      'model.hidden_sizes': (8,),
      'model.latent_size': 3,
      'model.conditioning': 'label',
    }
  )
  vae = create_vae(config, (8, 8, 1), 4)
  params = jax.jit(lambda: init_vae_state(vae, jax.random.key(0)).params)()
  names = tuple('abcd')
  run_ = vae_trained.TrainedVAE(vae, params, config, 0, names)
  random = np.random.default_rng(0)
  labels = np.array([3, 0, 1], np.int32)
  latents = random.normal(size=(3, 3)).astype(np.float32)
  decoder = vae_exporting.decoder(run_)
  assert list(decoder.inputs) == ['latents', 'labels']
  check(decoder, tmp_path / 'decoder', latents, labels)
  images = jax.jit(decoder.function)(decoder.weights, latents, labels)
  drawn = np.asarray(run_.decode(latents, labels), np.float32)
  np.testing.assert_allclose(images * 255, drawn, atol=0.5 + 1e-2)
  images = random.integers(0, 2, (3, 8, 8, 1)).astype(np.float32)
  check(vae_exporting.encoder(run_), tmp_path / 'encoder', images, labels)


def test_the_card_of_a_learned_prior_says_how_its_latents_are_drawn():
  latents = f'3 values from {LEARNED} of 5 components; COMMAND draws them'
  described = {
    'parts': {
      'decoder': {
        'inputs': {'latents': {'shape': [None, 3], 'dtype': 'float32'}},
        'outputs': {'images': {'meaning': '0 black'}},
      }
    },
    'latents': latents,
  }
  usage = card._usage(described)
  assert "latents = np.load('FILE.npz')['latents'][:4]" in usage
  assert 'standard_normal' not in usage


def test_a_run_of_images_without_labels(trained_vae, tmp_path):
  parts = '--parts=decoder,encoder'
  formats = '--formats=stablehlo'
  assert run(trained_vae, tmp_path / 'x', parts, formats) == 0
  network = load_exported(tmp_path / 'x')
  loaded = vae_sample.load(trained_vae)
  latents = np.zeros((2, loaded.vae.latent_size), np.float32)
  images = np.asarray(network['decoder'](latents))
  drawn = np.asarray(loaded.decode(latents), np.float32)
  np.testing.assert_allclose(images * 255, drawn, atol=0.5 + 1e-2)
  mean, _ = network['encoder'](images)
  assert mean.shape == latents.shape


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--parts=encoder'], '--parts=encoder: unknown; choose from generator'),
    (['--formats=torch'], '--formats=torch: unknown; choose from stablehlo'),
    (['--license=My own'], "--license=My own: give a hub's ID"),
    (['--step=7'], 'step'),
    (['--seed_index=1'], '--seed_index=1: the run has 1 seeds'),
    (['--seed=1'], '--seed=1: has no effect'),
  ],
)
def test_what_is_refused_writes_nothing(
  trained_conditional, tmp_path, capsys, arguments, message
):
  assert run(trained_conditional, tmp_path / 'x', *arguments) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert message in error
  assert not list(tmp_path.iterdir())


def test_outputs_and_workdirs_that_are_none(
  trained_conditional, tmp_path, capsys
):
  full = tmp_path / 'full'
  full.mkdir()
  (full / 'old').touch()
  for workdir, output in (
    (trained_conditional, full),
    (trained_conditional, full / 'old'),
    (full, tmp_path / 'x'),
    (tmp_path / 'none', tmp_path / 'x'),
  ):
    assert run(workdir, output) == 2
    assert capsys.readouterr().err.count('\n') == 1
  (full / 'config.json').write_text('{}')
  assert run(full, tmp_path / 'x') == 2
  assert 'is not the config of a run' in capsys.readouterr().err
  (full / 'config.json').write_text(json.dumps(gan_config.default().to_dict()))
  assert run(full, tmp_path / 'x') == 2
  assert 'checkpoint' in capsys.readouterr().err
  assert {file.name for file in tmp_path.iterdir()} == {'full'}


def test_missing_packages_are_named(
  trained_conditional, tmp_path, capsys, monkeypatch
):
  monkeypatch.setitem(programs.FORMATS, 'onnx', 'no_such_package')
  assert run(trained_conditional, tmp_path / 'x') == 2
  assert 'pip install no_such_package' in capsys.readouterr().err


def test_several_seeds_need_a_choice(monkeypatch):
  config = ml_collections.ConfigDict({'num_seeds': 2})
  monkeypatch.setattr(gan_config, 'read', lambda workdir: config)
  with pytest.raises(UserError, match='--seed_index: missing; the run has 2'):
    gan_exporting.load('x', ['generator'])


def test_an_interrupted_export_leaves_nothing(
  trained_conditional, tmp_path, monkeypatch
):
  def stop(folder, *arguments):
    (folder / 'half').touch()
    raise KeyboardInterrupt

  monkeypatch.setattr(programs, 'write', stop)
  with pytest.raises(KeyboardInterrupt):
    command._write(
      str(tmp_path / 'x'),
      gan_exporting.load(trained_conditional, ['generator']),
      ['onnx'],
      {},
      '',
    )
  assert not list(tmp_path.iterdir())


def test_an_operation_that_onnx_lacks_is_refused(tmp_path):
  part = parts_lib.Part(
    lambda weights, x: jax.numpy.sort(x, axis=1),
    {},
    {'x': parts_lib.Array((3,), '')},
    {'y': parts_lib.Array((3,), '')},
  )
  with pytest.raises(UserError, match="'sort' is not translated"):
    programs.write(tmp_path, 'x', part, ['onnx'])
