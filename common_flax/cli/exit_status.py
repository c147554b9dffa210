"""How commands end: one-line errors and exit statuses.

A command returns 0 on success, 2 if the user's input is invalid, and 1 if
training fails or a file cannot be written. Errors print one line on stderr.
"""

from collections.abc import Iterator
import contextlib
import gc
import logging as python_logging
import signal
import sys
import warnings

from absl import logging
import jax

from common_flax import files
from common_flax import output
from common_flax.cpu import memory
from common_flax.data import caches
from common_flax.distributed import processes
from common_flax.errors import TrainingFailedError
from common_flax.errors import UserError


def signal_status(number: int) -> int:
  """The exit status of a command stopped by a signal, such as 130 or 143."""
  return 128 + number


def _cache_compiled() -> None:
  """Caches compiled programs in the user's cache folder, unless JAX has one."""
  # Programs that cannot be cached are compiled again.
  warnings.filterwarnings('ignore', 'Error .*persistent compilation cache')
  given = jax.config.jax_compilation_cache_dir
  if given is not None and not files.is_remote(given):
    try:
      files.make_folder(given)
    except OSError as error:
      print(
        f'JAX_COMPILATION_CACHE_DIR={given}: {error.strerror}; compiled '
        "programs are kept in the user's cache folder instead",
        file=sys.stderr,
      )
      given = None
  if given is None:
    folder = caches.folder('compiled')
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _print_error(error: Exception | str) -> None:
  print(f'error: {files.one_line(str(error))}', file=sys.stderr)


@contextlib.contextmanager
def without_echoes() -> Iterator[None]:
  """Hides Orbax's follow-up errors after a failed read or write.

  Orbax abandons its pending reads and writes after an error, and Python reports
  each of them when it collects the garbage.
  """
  before = sys.unraisablehook

  def hook(unraisable):
    error = unraisable.exc_value
    is_closed = str(error) == 'Event loop is closed'
    is_collected = isinstance(error.__cause__, GeneratorExit)
    if not (is_closed or is_collected):
      before(unraisable)

  sys.unraisablehook = hook
  try:
    yield
  finally:
    sys.unraisablehook = before


class ExitStatus:
  """The exit status of a command."""

  def __init__(self):
    self.value = 0


@contextlib.contextmanager
def reporting_errors() -> Iterator[ExitStatus]:
  """Turns the user's errors into one line on stderr and an exit status.

  Yields:
    The exit status, 0 unless the body or an error changes it.
  """
  # What these libraries log is either raised as well, or harmless.
  logging.set_verbosity(logging.FATAL)
  for library in ('asyncio', 'gcsfs'):
    python_logging.getLogger(library).setLevel(python_logging.CRITICAL)
  warnings.filterwarnings('ignore', 'coroutine .* was never awaited')
  memory.keep_freed()
  _cache_compiled()
  status = ExitStatus()
  with output.ending_with_reader(), without_echoes():
    try:
      yield status
      sys.stdout.flush()
    except SystemExit as request:  # after --help
      status.value = request.code or 0
    except UserError as error:
      _print_error(error)
      status.value = 2
    except TrainingFailedError as error:
      _print_error(error)
      status.value = 1
    except KeyboardInterrupt:
      status.value = signal_status(signal.SIGINT)
    except output.OutputClosedError:
      status.value = signal_status(signal.SIGPIPE)
    except Exception as error:
      if files.is_file_error(error):
        # A disk is full, a file is gone, a store cannot be reached.
        path = getattr(error, 'filename', None)
        where = f'{path}: ' if path else ''
        _print_error(f'{where}{getattr(error, "strerror", None) or error}')
        status.value = 1
      elif no_device := processes.without_device():
        _print_error(no_device)
        status.value = 2
      else:
        raise
    if status.value:  # what Orbax has abandoned, while its echoes are hidden
      gc.collect()
