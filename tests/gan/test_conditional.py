"""Class-conditional GANs: networks, runs and samples."""

import functools

from conftest import assert_same_arrays
from conftest import assert_same_end
from conftest import final_state
from conftest import recipe
import jax
import numpy as np
import PIL.Image
import pytest

from common_flax import prng
from gan_flax import config as gan_config
from gan_flax import sample
from gan_flax.gan import create_gan
from gan_flax.state import init_state
from gan_flax.train import train

NUM_CLASSES = 5


def create(name, conditioning, shape):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.name': name,
      'model.conditioning': conditioning,
      'model.base_features': 2,
      'model.group_size': 2,
      'model.latent_size': 3,
      'model.spectral_norm': name == 'resnet',
    }
  )
  if shape == (2,):
    config.dataset.name = 'ring'
  return create_gan(config, shape, NUM_CLASSES)


def randomised(net):
  """A player's variables with random numbers, variances above 0."""
  random = np.random.default_rng(0)

  def like(tree, draw):
    return jax.tree.map(lambda x: draw(size=x.shape).astype(x.dtype), tree)

  return {
    'params': like(net.params, functools.partial(random.normal, scale=0.3)),
    'batch_stats': like(net.batch_stats, random.random),
  }


@pytest.mark.parametrize(
  ('name', 'conditioning', 'shape'),
  [
    ('dcgan', 'projection', (8, 8, 1)),
    ('dcgan', 'concatenation', (8, 8, 1)),
    ('resnet', 'projection', (8, 8, 1)),
    ('resnet', 'concatenation', (8, 8, 1)),
    ('r3gan', 'projection', (8, 8, 1)),
    ('r3gan', 'concatenation', (8, 8, 1)),
    ('pacgan', 'projection', (2,)),
    ('mlp', 'concatenation', (2,)),
  ],
)
def test_both_players_use_each_examples_label(name, conditioning, shape):
  gan = create(name, conditioning, shape)
  state = jax.eval_shape(lambda: init_state(gan, prng.root_key(0)))
  random = np.random.default_rng(1)
  latents = random.normal(size=(4, 3)).astype(np.float32)
  examples = random.uniform(-1, 1, (4, *shape)).astype(np.float32)
  players = [
    (gan.generator, randomised(state.generator), 0.1 * latents),
    (gan.discriminator, randomised(state.discriminator), examples),
  ]
  for module, variables, inputs in players:
    apply = jax.jit(
      lambda labels, module=module, variables=variables, inputs=inputs: (
        module.apply(variables, inputs, labels, train=False)
      )
    )
    before, after = (
      np.asarray(apply(np.array([0, label, 2, 2]))) for label in (1, 4)
    )
    assert np.isfinite(before).all()
    assert not np.allclose(before[1], after[1], rtol=1e-4)
    others = np.array([0, 2, 3])
    np.testing.assert_array_equal(before[others], after[others])


def smoke(**changes):
  config = recipe('conditional.py', 'smoke')
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.slow
def test_resuming_gives_the_same_bits(trained_conditional, tmp_path):
  for num_steps in (4, 8):
    train(smoke(num_steps=num_steps), tmp_path)
  assert_same_end(tmp_path, trained_conditional)


def test_pictures_of_a_run_have_a_row_for_each_class(trained_conditional):
  pictures = sorted((trained_conditional / 'samples').iterdir())
  assert len(pictures) == 3
  with PIL.Image.open(pictures[-1]) as grid:
    assert grid.size == (8 * 18 + 2, 10 * 18 + 2)


@pytest.mark.slow  # other learning rates compile another program
def test_a_conditional_run_starts_from_the_weights_of_another(
  trained_conditional, tmp_path
):
  rates = {
    f'{player}.learning_rate': 1e-30
    for player in ('generator', 'discriminator')
  }
  train(smoke(num_steps=2, **rates), tmp_path, init_from=trained_conditional)
  given, adopted = final_state(trained_conditional), final_state(tmp_path)
  assert adopted.step == 2
  for player in ('generator', 'discriminator'):
    assert_same_arrays(
      getattr(given, player).params, getattr(adopted, player).params
    )


@pytest.fixture(scope='module')
def sampler(trained_conditional):
  return sample.load(trained_conditional)


@pytest.fixture(scope='module')
def key():
  return prng.stream(prng.root_key(0), 'sample')


def run(workdir, output, *arguments):
  return sample.main(
    ['sample', f'--workdir={workdir}', f'--output={output}', *arguments]
  )


def read(path):
  with np.load(path, allow_pickle=False) as file:
    return dict(file)


def test_samples_come_in_rows_of_one_class(
  trained_conditional, sampler, key, tmp_path
):
  assert run(trained_conditional, tmp_path / 'x.npz', '--num_samples=90') == 0
  found = read(tmp_path / 'x.npz')
  expected = [*np.repeat(np.arange(10), 8), *[0] * 8, *[1] * 2]
  np.testing.assert_array_equal(found['labels'], expected)
  assert found['labels'].dtype == np.int32
  images = sampler.generate(key, 90, label=found['labels'])
  np.testing.assert_array_equal(found['images'], images)


def test_label_selects_the_class(trained_conditional, sampler, key, tmp_path):
  files = {}
  for label in (3, 4):
    output = tmp_path / f'{label}.npz'
    arguments = ['--num_samples=5', f'--label={label}']
    assert run(trained_conditional, output, *arguments) == 0
    files[label] = read(output)
    np.testing.assert_array_equal(files[label]['labels'], [label] * 5)
    np.testing.assert_array_equal(
      files[label]['images'], sampler.generate(key, 5, label=label)
    )
  for three, four in zip(files[3]['images'], files[4]['images'], strict=True):
    assert not np.array_equal(three, four)


def test_a_sample_depends_only_on_its_number_and_label(sampler, key):
  labels = np.random.default_rng(0).integers(0, 10, 70)
  many = sampler.generate(key, 70, label=labels)
  np.testing.assert_array_equal(
    sampler.generate(key, 3, label=labels[:3]), many[:3]
  )
  changed = np.where(np.arange(70) == 65, (labels + 1) % 10, labels)
  again = sampler.generate(key, 70, label=changed)
  differs = [not np.array_equal(a, b) for a, b in zip(many, again, strict=True)]
  assert np.flatnonzero(differs).tolist() == [65]


def test_a_folder_of_samples_has_a_sub_folder_for_each_class(
  trained_conditional, tmp_path
):
  folder, file = tmp_path / 'folder', tmp_path / 'x.npz'
  for output in (folder, file):
    assert run(trained_conditional, output, '--num_samples=18') == 0
  found = sorted(path.relative_to(folder) for path in folder.rglob('*.png'))
  expected = [f'{i // 8}/{i:06d}.png' for i in range(18)]
  assert list(map(str, found)) == expected
  for path, image in zip(found, read(file)['images'], strict=True):
    with PIL.Image.open(folder / path) as picture:
      np.testing.assert_array_equal(np.asarray(picture), image[..., 0])


def test_each_row_of_a_grid_is_a_class(trained_conditional, tmp_path):
  assert run(trained_conditional, tmp_path / 'x.png', '--num_samples=20') == 0
  with PIL.Image.open(tmp_path / 'x.png') as grid:
    assert grid.size == (8 * 18 + 2, 3 * 18 + 2)


def test_an_unknown_class_is_refused(trained_conditional, tmp_path, capsys):
  assert run(trained_conditional, tmp_path / 'x.npz', '--label=10') == 2
  error = capsys.readouterr().err
  assert error.startswith('error: --label=10: ')
  assert '0 to 9' in error
  assert error.count('\n') == 1
  assert not list(tmp_path.iterdir())
