"""Our layers against the library's, forward and backward."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.cpu import convolutions
from common_flax.cpu import dispatch
from common_flax.cpu import winograd
from common_flax.nn import conv
from common_flax.nn import layers


def library_strided(features, size, **types):
  return nn.Conv(features, (size, size), strides=2, use_bias=False, **types)


def library_transposed(features, size, **types):
  return nn.ConvTranspose(
    features, (size, size), strides=(2, 2), use_bias=False, **types
  )


PAIRS = [
  (layers.Conv, library_strided),
  (layers.TransposedConv, library_transposed),
]


# The form on a CPU depends on whether the image has few features.
FEATURES = [(1, 6), (6, 1), (6, 7)]


def rarely(*values):
  """Parameters for slow tests only."""
  return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def check(ours, library, size, features, dtype, tolerance, order):
  """Compares value and gradients of a nonlinear function of a layer."""
  random = np.random.default_rng((size, *features))
  shape = tuple(random.integers(1, 5, 3) * (1, 2, 2))
  types = {'dtype': dtype, 'param_dtype': dtype}
  inputs, outputs = features
  x = jax.random.normal(jax.random.key(0), (*shape, inputs), dtype)
  layers = [ours(outputs, size, **types), library(outputs, size, **types)]
  variables = layers[1].init(jax.random.key(1), x)

  def gradients(layer):
    def loss(variables, x):
      return jnp.sum(layer.apply(variables, x) ** 3)

    if order == 1:
      return jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, x)

    def penalty(variables):
      return jnp.sum(jax.grad(loss, 1)(variables, x) ** 2)

    return jax.jit(jax.grad(penalty))(variables)

  actual, expected = map(gradients, layers)
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('size', [4, *rarely(2, 3, 5, 6)])
@pytest.mark.parametrize('features', FEATURES)
def test_layer_is_the_librarys_in_float64(ours, library, size, features):
  with jax.enable_x64(True):
    check(ours, library, size, features, jnp.float64, 1e-13, order=1)


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('features', FEATURES)
def test_gradient_of_a_gradient_is_the_librarys(ours, library, features):
  with jax.enable_x64(True):
    check(ours, library, 4, features, jnp.float64, 1e-13, order=2)


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('features', FEATURES)
def test_layer_is_the_librarys_in_float32(ours, library, features):
  check(ours, library, 4, features, jnp.float32, 1e-5, order=1)


@pytest.mark.parametrize('size', [4, *rarely(2, 3, 5, 7)])
def test_every_form_of_an_operation_gives_the_same(size):
  """Also the forms that `on_cpu` never chooses on a CPU."""
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 8, 6, 3), jnp.float64)
    w = jax.random.normal(keys[1], (size, size, 3, 4), jnp.float64)
    y = jax.random.normal(keys[2], (2, 4, 3, 4), jnp.float64)
    expected = conv.library_transposed(y, w)
    for form in (
      convolutions.phased_transposed,
      convolutions.matmul_transposed,
    ):
      np.testing.assert_allclose(form(y, w), expected, atol=1e-12)
    np.testing.assert_allclose(
      convolutions.matmul_kernel_gradient(x, y, size),
      conv.library_kernel_gradient(x, y, size),
      atol=1e-12,
    )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('features', [1, 5])  # few, and many
@pytest.mark.parametrize('size', [4, *rarely(2, 3, 7)])
def test_the_switch_turns_cpu_forms_off(size, features, dtype, monkeypatch):
  """Every operation is then the library's, bit for bit."""
  monkeypatch.setenv(dispatch.VARIABLE, 'textbook')
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (2, 8, 6, features), dtype)
  w = jax.random.normal(keys[1], (size, size, features, 4), dtype)
  y = jax.random.normal(keys[2], (2, 4, 3, 4), dtype)
  for actual, expected in (
    (conv.strided(x, w), conv.library_strided(x, w)),
    (conv.transposed(y, w), conv.library_transposed(y, w)),
    (
      conv.kernel_gradient(x, y, size),
      conv.library_kernel_gradient(x, y, size),
    ),
  ):
    np.testing.assert_array_equal(actual, expected)
  gradient = jax.make_jaxpr(
    jax.grad(lambda x, w: jnp.sum(conv.strided(x, w)), (0, 1))
  )(x, w)
  assert 'platform_index' not in str(gradient)


@pytest.mark.parametrize('features', [3, 5])
def test_the_three_forms_are_adjoint(features):
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 8, 6, features), jnp.float64)
    w = jax.random.normal(keys[1], (5, 5, features, 4), jnp.float64)
    y = jax.random.normal(keys[2], (2, 4, 3, 4), jnp.float64)
    form = jnp.vdot(conv.strided(x, w), y)
    assert jnp.allclose(form, jnp.vdot(x, conv.transposed(y, w)), rtol=1e-12)
    assert jnp.allclose(
      form, jnp.vdot(w, conv.kernel_gradient(x, y, 5)), rtol=1e-12
    )


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [3, *rarely(1, 4)])
def test_layer_with_any_stride_and_side_is_the_librarys(
  ours, library, stride, size
):
  x = jax.random.normal(jax.random.key(0), (2, 7, 5, 5))
  layers = [
    ours(3, size, stride),
    type(library(1, 1))(3, (size, size), (stride, stride), use_bias=False),
  ]
  variables = layers[1].init(jax.random.key(1), x)

  def gradients(layer):
    def loss(variables, x):
      y = layer.apply(variables, x)
      return jnp.sum(y**3), y

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, x)

  actual, expected = (jax.tree.leaves(gradients(layer)) for layer in layers)
  for a, b in zip(actual, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_other_strides_are_refused():
  with pytest.raises(ValueError, match='stride=3'):
    layers.Conv(2, 4, 3).init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('size', [4, *rarely(2, 3, 5, 7)])
@pytest.mark.parametrize('features', FEATURES)
def test_bfloat16_is_float32_rounded(ours, library, size, features):
  """Values and gradients within 2 % of the largest: bfloat16 has 8 bits."""
  inputs, outputs = features
  x = jax.random.normal(jax.random.key(0), (2, 6, 10, inputs))
  variables = library(outputs, size).init(jax.random.key(1), x)

  def gradients(dtype):
    def loss(variables, x):
      y = ours(outputs, size, dtype=dtype).apply(variables, x)
      assert y.dtype == dtype
      return jnp.sum(y.astype(jnp.float32) ** 2)

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, x)

  pairs = zip(
    *map(jax.tree.leaves, map(gradients, (jnp.bfloat16, jnp.float32))),
    strict=True,
  )
  for actual, expected in pairs:
    assert actual.dtype == expected.dtype
    largest = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, atol=0.02 * largest, rtol=0)


@pytest.mark.parametrize('size', [4, *rarely(5, 6)])
@pytest.mark.parametrize('side', [2, 16, *rarely(14)])
def test_fewer_multiplications_give_the_same(size, side):
  """Sides that are no multiple of the tile's are included."""
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, side, side + 2, 3), jnp.float64)
    w = jax.random.normal(keys[1], (size, size, 3, 4), jnp.float64)
    y = jax.random.normal(keys[2], (2, side // 2, side // 2 + 1, 4))
    y = y.astype(jnp.float64)
    for actual, expected in (
      (winograd.strided(x, w), conv.library_strided(x, w)),
      (winograd.transposed(y, w), conv.library_transposed(y, w)),
      (
        winograd.kernel_gradient(x, y, size),
        conv.library_kernel_gradient(x, y, size),
      ),
    ):
      np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize('size', [4, *rarely(5)])
def test_fewer_multiplications_lose_no_more_to_rounding(size):
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (8, 8, 8, 64))
  w = jax.random.normal(keys[1], (size, size, 64, 8))
  with jax.enable_x64(True):
    exact = np.asarray(
      conv.library_strided(x.astype(jnp.float64), w.astype(jnp.float64))
    )
  errors = [
    np.sqrt(np.mean((np.float64(form(x, w)) - exact) ** 2))
    for form in (winograd.strided, conv.library_strided)
  ]
  assert errors[0] < 2 * errors[1]


def test_weights_of_pytorch_layers_give_what_they_define():
  """Conv2d and ConvTranspose2d (k = 4, stride 2, padding 1) as loops."""
  random = np.random.default_rng(0)
  images = random.normal(size=(1, 6, 6, 2))
  weight = random.normal(size=(3, 2, 4, 4))  # [O, I, k, k]
  padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  strided = np.zeros((1, 3, 3, 3))
  for i, j in np.ndindex(3, 3):
    window = padded[0, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
    strided[0, i, j] = np.einsum('tsi,oits->o', window, weight)
  spread = np.zeros((1, 8, 8, 2))  # transposed, before cropping
  for i, j in np.ndindex(3, 3):
    spread[0, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum(
      'o,oits->tsi', strided[0, i, j], weight
    )
  for layer, kernel, x, expected in (
    (layers.Conv(3, 4), layers.kernel_from_torch(weight), images, strided),
    (
      layers.TransposedConv(2, 4),
      layers.transposed_kernel_from_torch(weight),
      strided,
      spread[:, 1:-1, 1:-1],
    ),
  ):
    actual = layer.apply({'params': {'kernel': kernel}}, x)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
