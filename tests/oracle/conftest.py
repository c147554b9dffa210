"""The reference implementations, where they are installed."""

import importlib.util

import pytest

# Without them there is nothing to compare with; see requirements-oracle.txt.
IS_HERE = importlib.util.find_spec('torch_fidelity') is not None
collect_ignore_glob = [] if IS_HERE else ['test_*.py']

if IS_HERE:
  import torch

  # torchvision is built for GPUs: without these its import fails on a CPU.
  _LIBRARY = torch.library.Library('torchvision', 'DEF')
  for _operator in ('nms', 'qnms'):
    _LIBRARY.define(
      f'{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    )


def pytest_collection_modifyitems(items):
  """What other packages warn of is theirs."""
  for item in items:
    if 'oracle' in item.path.parts:
      item.add_marker(pytest.mark.filterwarnings('default'))
