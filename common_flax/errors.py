"""Errors that commands report in one line, without a traceback."""

import signal


class UserError(ValueError):
  """The user's input is wrong.

  The message is one line that names the field or file and the cure. Commands
  print it after `error: ` and exit with status 2.
  """


class TrainingFailedError(RuntimeError):
  """Training failed, or could not be saved.

  Commands print the message after `error: ` and exit with status 1.
  """


class StoppedError(Exception):
  """A signal stopped a run before there was anything to save.

  Attributes:
    number: number of the signal.
  """

  def __init__(self, number: int):
    super().__init__(f'stopped by {signal.Signals(number).name}')
    self.number = number
