"""Trains a GAN on a disk that fails when step 4 is saved.

  python failing_disk.py full|full_once|read_only DISK ARGUMENTS...

The disk becomes full, full until the first error is reported, or read-only. The
arguments are those of `gan_flax.main`.
"""

import pathlib
import subprocess
import sys

from common_flax.training.hooks import Checkpoints
from common_flax.workdir.checkpoints import CheckpointStore
from gan_flax import main

AT = 4


def fill(disk):
  """Fills the disk, up to room for a few small files."""
  with (disk / 'other').open('wb', buffering=0) as file:
    try:
      while True:
        file.write(bytes(4096))
    except OSError:
      file.truncate(file.tell() - 16384)


def make_read_only(folder):
  """Remounts the folder, so that not even root can write to it."""
  subprocess.run(['mount', '--bind', folder, folder], check=True)
  subprocess.run(['mount', '-o', 'remount,bind,ro', folder], check=True)


def fail(kind, disk):
  save, forget = Checkpoints._save, CheckpointStore.forget_failure

  def fail_and_save(self, now):
    if now.step == AT:
      self._settle(now)  # earlier checkpoints are whole
      if kind == 'read_only':
        make_read_only(disk / 'run' / 'checkpoints')
      else:
        fill(disk)
    save(self, now)

  def forget_and_make_room(self):
    forget(self)
    (disk / 'other').unlink(missing_ok=True)

  Checkpoints._save = fail_and_save
  if kind == 'full_once':
    CheckpointStore.forget_failure = forget_and_make_room


if __name__ == '__main__':
  fail(sys.argv[1], pathlib.Path(sys.argv[2]))
  sys.exit(main.main(['', *sys.argv[3:]]))
