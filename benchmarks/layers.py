"""Times the forms of the stride-2 operations that DCGAN is made of.

  python -m benchmarks.layers [--image_size=32] [--channels=1]
      [--base_features=64] [--batch_size=64] [--kernel_size=4]
      [--dtype=float32]

For each layer: the strided convolution S, the forms of its adjoints in the
image, T, and in the kernel, K, and the kernel gradient that JAX derives of
`lax.conv_transpose`, which the layers avoid. Medians, in milliseconds; the
forms take turns, so that a busy machine troubles them alike.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import functools
import sys
import time

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import commands
from common_flax import images
from common_flax.config import UserError
from common_flax.nn import conv
from common_flax.nn import winograd


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(
    values,
    image_size=32,
    channels=1,
    base_features=64,
    batch_size=64,
    kernel_size=4,
    repeats=15,
  )
  flags.DEFINE_enum(
    'dtype', 'float32', ['float32', 'bfloat16'], 'Of all.', flag_values=values
  )


def _derived_kernel_gradient(
  y: jax.Array, x: jax.Array, w: jax.Array
) -> jax.Array:
  """What JAX makes of the kernel of `lax.conv_transpose`."""
  _, pullback = jax.vjp(lambda w: conv._library_transposed(y, w), w)
  return pullback(x)[0]


def time_forms(
  forms: dict[str, Callable[[], jax.Array]], repeats: int
) -> dict[str, float]:
  """Median milliseconds of each form, taken in turns after a first run."""
  seconds = {name: [] for name in forms}
  for form in forms.values():
    jax.block_until_ready(form())
  for _ in range(repeats):
    for name, form in forms.items():
      start = time.perf_counter()
      jax.block_until_ready(form())
      seconds[name].append(time.perf_counter() - start)
  return {name: 1000 * float(np.median(s)) for name, s in seconds.items()}


def _forms(
  batch: int, size: int, inputs: int, outputs: int, kernel: int, dtype: str
) -> dict[str, Callable[[], jax.Array]]:
  """The forms of one layer, compiled, on random arrays."""
  keys = jax.random.split(jax.random.key(0), 3)
  x, w, y = (
    jax.random.normal(key, shape, jnp.dtype(dtype))
    for key, shape in zip(
      keys,
      (
        (batch, size, size, inputs),
        (kernel, kernel, inputs, outputs),
        (batch, size // 2, size // 2, outputs),
      ),
      strict=True,
    )
  )
  gradients = {
    'K library': conv._library_kernel_gradient,
    'K matmul': conv._matmul_kernel_gradient,
    'K Winograd': winograd.kernel_gradient,
  }
  forms = {
    'S library': functools.partial(jax.jit(conv._library_strided), x, w),
    'S Winograd': functools.partial(jax.jit(winograd.strided), x, w),
    'T library': functools.partial(jax.jit(conv._library_transposed), y, w),
    'T phases': functools.partial(jax.jit(conv._phased_transposed), y, w),
    'T matmul': functools.partial(jax.jit(conv._matmul_transposed), y, w),
    'T Winograd': functools.partial(jax.jit(winograd.transposed), y, w),
    **{
      name: functools.partial(jax.jit(form, static_argnums=2), x, y, kernel)
      for name, form in gradients.items()
    },
    'K derived': functools.partial(jax.jit(_derived_kernel_gradient), y, x, w),
  }
  return {
    name: form
    for name, form in forms.items()
    if 'Winograd' not in name or winograd.supports(kernel)
  }


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.kernel_size < 2:
    raise UserError('--kernel_size=1: take 2 or more')
  try:
    _, count = images.doublings(values.image_size)
  except ValueError as error:
    raise UserError(f'--image_size={values.image_size}: {error}') from error
  size, inputs, outputs = (
    values.image_size,
    values.channels,
    values.base_features,
  )
  for i in range(count):
    forms = _forms(
      values.batch_size,
      size,
      inputs,
      outputs,
      values.kernel_size,
      values.dtype,
    )
    if i == 0:
      _print_row('layer', forms)
      _print_row('---', ['---:'] * len(forms))
    times = time_forms(forms, values.repeats)
    _print_row(
      f'{size}x{size}x{inputs} to {size // 2}x{size // 2}x{outputs}',
      [f'{milliseconds:.1f}' for milliseconds in times.values()],
    )
    size, inputs, outputs = size // 2, outputs, 2 * outputs


def _print_row(first: str, rest: Iterable[str]) -> None:
  """A line of a Markdown table."""
  print(f'| {" | ".join([first, *rest])} |')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
