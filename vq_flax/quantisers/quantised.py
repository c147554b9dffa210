"""What a quantiser makes of the outputs of an encoder."""

from typing import NamedTuple

import jax


class Quantised(NamedTuple):
  """Codes, and the vectors that they stand for.

  Dimensions: L codes of a cell, D features of a cell.

  Attributes:
    codes: int32 [..., L].
    vectors: [..., D], the decoder's input. Gradients do not pass through them.
    inputs: [..., L, D] what each code was chosen for: the encoder's output, and
      what earlier codes of the cell left of it.
    entries: [..., L, D] what each code stands for. Their gradient reaches the
      codebook alone.
  """

  codes: jax.Array
  vectors: jax.Array
  inputs: jax.Array
  entries: jax.Array
