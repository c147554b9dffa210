"""Reads and compares saved runs, without the model that they trained."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp

# Metrics that depend on the machine and its load.
TIMED = {
  'images_per_second',
  'step_milliseconds',
  'model_gflops_per_second',
  'matmul_rate_share',
}


def arrays_of(workdir, step):
  """The arrays of a checkpointed state by path, on whatever devices saved."""
  path = workdir / 'checkpoints' / str(step) / 'state'
  reader = ocp.PyTreeCheckpointer()
  how = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
    reader.metadata(path).item_metadata.tree,
  )
  tree = reader.restore(path, ocp.args.PyTreeRestore(restore_args=how))
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def differences(workdir, other, step):
  """Names of the arrays and files in which two runs differ."""
  here, there = arrays_of(workdir, step), arrays_of(other, step)
  different = [
    name
    for name in here.keys() | there.keys()
    if name not in here
    or name not in there
    or here[name].tobytes() != there[name].tobytes()
  ]
  if untimed_rows(workdir) != untimed_rows(other):
    different.append('metrics.jsonl')
  for path in sorted((other / 'samples').iterdir()):
    same = workdir / 'samples' / path.name
    if not same.exists() or same.read_bytes() != path.read_bytes():
      different.append(path.name)
  return different


def untimed_rows(workdir):
  """The rows of metrics.jsonl without the timed metrics."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = map(json.loads, lines)
  return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]
