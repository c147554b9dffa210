"""Standard streams whose readers end, and the log of a run."""

import errno
import io
import os
import pty
import sys

import pytest

from common_flax import files
from common_flax import log as log_lib
from common_flax import output
from common_flax.cli import exit_status
from common_flax.cli import terminal
from common_flax.errors import UserError


@pytest.fixture
def pipe():
  """A text file that nobody reads: its reader has ended."""
  reader, writer = os.pipe()
  os.close(reader)
  with open(writer, 'w') as file:
    yield file


class FullDisk(io.StringIO):
  """A file that cannot be written until there is room."""

  is_full = True

  def write(self, text):
    if self.is_full:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return super().write(text)


def lines_of(workdir):
  """The lines of a log without their times."""
  lines = (workdir / log_lib.NAME).read_text().splitlines()
  return [line.split(' ', 2)[2] for line in lines]


def test_a_log_holds_what_was_said_before_its_folder_was_known(tmp_path):
  with output.outliving_reader():
    print('one')
    output.log_to(tmp_path)
    print('two')
    print('three', file=sys.stderr)
    assert lines_of(tmp_path) == ['one', 'two', 'three']
    print('without an end', end='')
  assert lines_of(tmp_path)[3] == 'without an end'


def test_a_log_is_appended_to(tmp_path):
  for said in ('one', 'two'):
    with output.outliving_reader():
      output.log_to(tmp_path)
      print(said)
  assert lines_of(tmp_path) == ['one', 'two']


def test_a_log_without_a_folder_is_not_written(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with output.outliving_reader():
    print('one')
  assert not list(tmp_path.iterdir())


def test_lines_have_times_and_no_control_codes(tmp_path):
  with output.outliving_reader():
    output.log_to(tmp_path)
    print('10%\r\x1b[1;32m20%\x1b[0m')
  (line,) = (tmp_path / log_lib.NAME).read_text().splitlines()
  date, clock, said = line.split(' ')
  assert said == '20%'
  assert (len(date.split('-')), len(clock.split(':'))) == (3, 3)


def test_the_reason_of_the_end_is_logged(tmp_path):
  with pytest.raises(UserError), output.outliving_reader():
    output.log_to(tmp_path)
    raise UserError('config.x: wrong')
  with pytest.raises(KeyError), output.outliving_reader():
    output.log_to(tmp_path)
    raise KeyError('x')
  first, *others = lines_of(tmp_path)
  assert first == 'error: config.x: wrong'
  assert others[-1] == "KeyError: 'x'"


@pytest.mark.parametrize('name', ['stdout', 'stderr'])
def test_training_goes_on_without_a_reader_and_logs_it(
  tmp_path, monkeypatch, capsys, pipe, name
):
  monkeypatch.setattr(sys, name, pipe)
  with output.outliving_reader():
    output.log_to(tmp_path)
    print('one', file=getattr(sys, name))
    print('two', file=getattr(sys, name))
  pipe.flush()  # as Python does when it exits
  said = lines_of(tmp_path)
  full = {'stdout': 'standard output', 'stderr': 'standard error'}[name]
  lost = f'{full} cannot be written to: Broken pipe. Training goes on.'
  assert sorted(said) == ['one', lost, 'two']
  if name == 'stdout':
    assert capsys.readouterr().err == f'{lost}\n'


def test_training_goes_on_while_the_disk_of_its_output_is_full(
  tmp_path, monkeypatch
):
  disk = FullDisk()
  monkeypatch.setattr(sys, 'stdout', disk)
  with output.outliving_reader():
    output.log_to(tmp_path)
    print('one')
    disk.is_full = False
    print('two')
  assert disk.getvalue() == 'two\n'
  assert lines_of(tmp_path)[-1] == 'two'


def test_training_goes_on_with_a_closed_output(tmp_path, monkeypatch):
  closed = io.StringIO()
  closed.close()
  for stream in (closed, None):
    monkeypatch.setattr(sys, 'stdout', stream)
    with output.outliving_reader():
      output.log_to(tmp_path)
      print('goes on')
  assert lines_of(tmp_path).count('goes on') == 2


def test_training_goes_on_where_a_name_cannot_be_encoded(tmp_path, monkeypatch):
  ascii_only = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  monkeypatch.setattr(sys, 'stdout', ascii_only)
  with output.outliving_reader():
    output.log_to(tmp_path)
    print('Training in /home/zoë')
  assert ascii_only.buffer.getvalue() == b'Training in /home/zo\\xeb\n'
  assert lines_of(tmp_path) == ['Training in /home/zoë']


def test_a_log_on_a_full_disk_is_completed_when_there_is_room(
  tmp_path, monkeypatch, capsys
):
  write = os.write

  def half(descriptor, data):
    if len(data) < 4:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write(descriptor, data[: len(data) // 2])

  with output.outliving_reader():
    output.log_to(tmp_path)
    with monkeypatch.context() as patch:
      patch.setattr(os, 'write', half)
      print('one')
      print('two')
    print('three')
  said = lines_of(tmp_path)
  assert [s for s in said if 'cannot' not in s] == ['one', 'two', 'three']
  errors = capsys.readouterr().err
  assert errors.count('log.txt: cannot be written to: No space left') == 1


@pytest.mark.parametrize('kind', ['pipe', 'link', 'folder'])
def test_a_log_that_is_no_file_is_left_alone(tmp_path, capsys, kind):
  other = tmp_path / 'other'
  other.write_text('mine')
  path = tmp_path / log_lib.NAME
  {
    'pipe': os.mkfifo,
    'link': lambda path: path.symlink_to(other),
    'folder': os.mkdir,
  }[kind](path)
  with output.outliving_reader():
    output.log_to(tmp_path)
    print('goes on')
  assert other.read_text() == 'mine'
  assert 'log.txt: cannot be written to: ' in capsys.readouterr().err


def test_a_log_in_a_store_is_written_whole(tmp_path, monkeypatch):
  monkeypatch.setattr(files, 'is_remote', lambda path: True)
  for said in ('one', 'two'):
    with output.outliving_reader():
      output.log_to(tmp_path)
      print(said)
      assert not (tmp_path / log_lib.NAME).exists() or said == 'two'
  assert lines_of(tmp_path) == ['one', 'two']


def test_a_store_that_fails_is_reported_and_does_not_end_a_run(
  tmp_path, monkeypatch, capsys
):
  def fail(*unused):
    raise OSError('the store is away')

  monkeypatch.setattr(files, 'is_remote', lambda path: True)
  monkeypatch.setattr(files, 'write_bytes', fail)
  monkeypatch.setattr(log_lib, '_COPY_SECONDS', 0)
  with output.outliving_reader():
    output.log_to(tmp_path)
    for _ in range(3):
      print('goes on')
  assert capsys.readouterr().err.count('the store is away') == 1


def test_a_trial_is_neither_heard_nor_logged(tmp_path, capsys):
  with output.outliving_reader():
    output.log_to(tmp_path)
    with output.unheard(), output.outliving_reader():
      print('trial')
    print('run')
  assert lines_of(tmp_path) == ['run']
  assert capsys.readouterr().out == 'run\n'


@pytest.mark.parametrize('inside', [False, True])
def test_a_command_ends_quietly_with_its_reader(
  monkeypatch, capsys, pipe, inside
):
  monkeypatch.setattr(sys, 'stdout', pipe)
  with exit_status.reporting_errors() as status:
    print('one', end='\n' if inside else '')
    assert not inside, 'goes on'
  pipe.flush()
  assert status.value == 141
  assert capsys.readouterr().err == ''


def test_a_command_names_an_output_on_a_full_disk(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'stdout', FullDisk())
  with exit_status.reporting_errors() as status:
    print('one')
  assert status.value == 1
  error = 'error: standard output: No space left on device\n'
  assert capsys.readouterr().err == error


def test_an_error_that_nobody_reads_still_has_its_exit_status(
  monkeypatch, pipe
):
  monkeypatch.setattr(sys, 'stderr', pipe)
  with exit_status.reporting_errors() as status:
    raise UserError('wrong')
  assert status.value == 2


def test_a_training_command_succeeds_with_its_output_on_a_full_disk(
  monkeypatch, tmp_path
):
  class Buffered(FullDisk):
    def flush(self):
      self.write('')

  monkeypatch.setattr(sys, 'stdout', Buffered())
  with exit_status.reporting_errors() as status, output.outliving_reader():
    output.log_to(tmp_path)
    print('one')
  assert status.value == 0


def test_a_bar_on_a_terminal_that_closes_leaves_lines_in_the_log(
  tmp_path, monkeypatch
):
  screen, terminal_side = pty.openpty()
  with open(terminal_side, 'w') as file:
    monkeypatch.setattr(sys, 'stdout', file)
    monkeypatch.setattr(sys, 'stderr', file)
    with output.outliving_reader():
      output.log_to(tmp_path)
      with terminal.TrainingProgress(0, 4) as progress:
        progress.began()
        progress.report(2, 'd_loss 1')
        print('printed')
        print('warned', file=sys.stderr)
        os.close(screen)
        for step in (3, 4):
          progress.advance(step)
          progress.report(step, f'd_loss {step}')
        progress.say('said')
  lines = lines_of(tmp_path)
  failure = 'standard output cannot be written to: Input/output error'
  lost = f'{failure}. Training goes on.'
  assert lines.count(lost) == 1
  assert [line for line in lines if line != lost] == [
    'step 2/4  d_loss 1',
    'printed',
    'warned',
    'step 3/4  d_loss 3',
    'step 4/4  d_loss 4',
    'said',
  ]
