"""Whether a process joins others."""

import jax
import pytest

from common_flax.distributed import processes
from common_flax.errors import UserError

NAMES = ('COORDINATOR_ADDRESS', 'NUM_PROCESSES', 'PROCESS_ID')


@pytest.fixture(autouse=True)
def alone(monkeypatch):
  """A process that joins none, or the test fails."""

  def initialize(*unused, **unused_options):
    pytest.fail('joined other processes')

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  for name in NAMES:
    monkeypatch.delenv(f'JAX_{name}', raising=False)


def test_empty_variables_are_none(monkeypatch):
  for name in NAMES:
    monkeypatch.setenv(f'JAX_{name}', '')
  processes.join('auto', None, None, None)


def test_a_wrong_number_is_named(monkeypatch):
  monkeypatch.setenv('JAX_NUM_PROCESSES', 'many')
  with pytest.raises(UserError, match="JAX_NUM_PROCESSES='many': give a num"):
    processes.join('auto', None, None, None)
