"""A training whose disk fails it when step 4 is to be saved.

  python failing_disk.py full|full_once|read_only DISK ARGUMENTS...

The disk becomes full, or full until the first error is known, or read-only; the
arguments are those of `gan_flax.main`.
"""

import pathlib
import subprocess
import sys

from common_flax.checkpoints import Checkpoints
from common_flax.training import Training
from gan_flax import main

AT = 4


def fill(disk):
  """Leaves no room but for a few small files."""
  with (disk / 'other').open('wb', buffering=0) as file:
    try:
      while True:
        file.write(bytes(4096))
    except OSError:
      file.truncate(file.tell() - 16384)


def make_read_only(folder):
  """Though its files are open, and root may do everything else."""
  subprocess.run(['mount', '--bind', folder, folder], check=True)
  subprocess.run(['mount', '-o', 'remount,bind,ro', folder], check=True)


def fail(kind, disk):
  save, forget = Training._save, Checkpoints.forget_failure

  def fail_and_save(self):
    if self._step == AT:
      self._settle()  # what was saved before is whole
      if kind == 'read_only':
        make_read_only(disk / 'run' / 'checkpoints')
      else:
        fill(disk)
    save(self)

  def forget_and_make_room(self):
    forget(self)
    (disk / 'other').unlink(missing_ok=True)

  Training._save = fail_and_save
  if kind == 'full_once':
    Checkpoints.forget_failure = forget_and_make_room


if __name__ == '__main__':
  fail(sys.argv[1], pathlib.Path(sys.argv[2]))
  sys.exit(main.main(['', *sys.argv[3:]]))
