"""Times the forms of DCGAN's stride-2 operations.

  python -m benchmarks.layers [--image_size=32] [--channels=1]
      [--base_features=64] [--batch_size=64] [--kernel_size=4]
      [--dtype=float32]

Times each layer's strided convolution S, the forms of its adjoints in the image
(T) and in the kernel (K), and the kernel gradient that JAX derives from
`lax.conv_transpose`, which the layers avoid. Prints medians in milliseconds as
a Markdown table. The forms run in turn, so that other load on the machine slows
them all alike.
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

from common_flax import images
from common_flax.cli import commands
from common_flax.cpu import convolutions
from common_flax.cpu import winograd
from common_flax.errors import UserError
from common_flax.nn import conv


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
    'dtype',
    'float32',
    ['float32', 'bfloat16'],
    'Type of all arrays.',
    flag_values=values,
  )


def _derived_kernel_gradient(
  y: jax.Array, x: jax.Array, w: jax.Array
) -> jax.Array:
  """The kernel gradient that JAX derives from `lax.conv_transpose`."""
  _, pullback = jax.vjp(lambda w: conv.library_transposed(y, w), w)
  return pullback(x)[0]


def time_forms(
  forms: dict[str, Callable[[], jax.Array]], repeats: int
) -> dict[str, float]:
  """Median milliseconds of each form; they run in turn after a first run."""
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
  """The compiled forms of one layer, applied to random arrays."""
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

  def with_side(gradient):
    return functools.partial(gradient, size=kernel)

  forms = {
    'S library': (conv.library_strided, x, w),
    'S Winograd': (winograd.strided, x, w),
    'T library': (conv.library_transposed, y, w),
    'T phases': (convolutions.phased_transposed, y, w),
    'T matmul': (convolutions.matmul_transposed, y, w),
    'T Winograd': (winograd.transposed, y, w),
    'K library': (with_side(conv.library_kernel_gradient), x, y),
    'K matmul': (with_side(convolutions.matmul_kernel_gradient), x, y),
    'K Winograd': (with_side(winograd.kernel_gradient), x, y),
    'K derived': (_derived_kernel_gradient, y, x, w),
  }
  return {
    name: functools.partial(jax.jit(form), *arrays)
    for name, (form, *arrays) in forms.items()
    if 'Winograd' not in name or winograd.supports(kernel)
  }


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.kernel_size < 2:
    raise UserError('--kernel_size=1: use 2 or more')
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
  """Prints a line of a Markdown table."""
  print(f'| {" | ".join([first, *rest])} |')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
