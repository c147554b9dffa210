"""Runs commands one after the other in a process that imports JAX once.

Every line of its input is a JSON list of a module and its arguments, every line
of its output the exit status. What commands print is added to two files, whose
names are its arguments.
"""

import importlib
import json
import os
import sys

import gcsfs


def serve(out: str, errors: str) -> None:
  statuses = os.fdopen(os.dup(1), 'w')
  for number, name in ((1, out), (2, errors)):
    os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
  for line in sys.stdin:
    module, *arguments = json.loads(line)
    status = importlib.import_module(module).main([module, *arguments])
    sys.stdout.flush()
    sys.stderr.flush()
    # A new process would not know what the last one saw in the store.
    for files in gcsfs.GCSFileSystem._cache.values():
      files.invalidate_cache()
    print(status, file=statuses, flush=True)


if __name__ == '__main__':
  serve(*sys.argv[1:])
