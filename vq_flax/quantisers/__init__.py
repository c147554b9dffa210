"""Quantisers: functions from vectors to codes, and from codes to vectors."""

from vq_flax.quantisers.gradients import GRADIENTS
from vq_flax.quantisers.quantised import Quantised
from vq_flax.quantisers.scalars import ScalarQuantiser
from vq_flax.quantisers.vectors import VectorQuantiser

__all__ = ['GRADIENTS', 'Quantised', 'ScalarQuantiser', 'VectorQuantiser']
