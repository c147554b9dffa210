"""The one switch between textbook forms and their fast forms for a CPU.

Layers and likelihoods state their textbook form and name the fast form of the
same function, which lives in this package. GPUs and TPUs run the textbook form.
To run it on a CPU as well, for debugging or to measure what the fast forms are
worth, set an environment variable:

  COMMON_FLAX_CPU_FORMS=textbook python -m ...
"""

from collections.abc import Callable
import os

import jax
from jax import lax

from common_flax.errors import UserError

VARIABLE = 'COMMON_FLAX_CPU_FORMS'
FORMS = ('fast', 'textbook')


def uses_fast_forms() -> bool:
  """Whether functions that are traced now use their fast forms on a CPU.

  Raises:
    UserError: if the environment variable names an unknown form.
  """
  form = os.environ.get(VARIABLE, 'fast')
  if form not in FORMS:
    raise UserError(f'{VARIABLE}={form}: must be one of {", ".join(FORMS)}')
  return form == 'fast'


def on_cpu(
  fast: Callable[..., jax.Array] | None,
  textbook: Callable[..., jax.Array],
  *arrays: jax.Array,
) -> jax.Array:
  """Computes `textbook(*arrays)`, on a CPU by an equal but faster form.

  The platform is the one that the computation is lowered for. The derivative of
  such a choice would save intermediate results of both forms, so differentiable
  functions call `on_cpu` inside `jax.custom_vjp` or `jax.custom_jvp`.

  Args:
    fast: the form for a CPU; None where the textbook form is the fastest.
    textbook: the definition of the function.
    *arrays: arguments of both.

  Raises:
    UserError: if the environment variable names an unknown form.
  """
  if fast is None or not uses_fast_forms():
    return textbook(*arrays)
  return lax.platform_dependent(*arrays, cpu=fast, default=textbook)
