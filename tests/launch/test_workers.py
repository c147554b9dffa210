"""One command on all workers, and the startup of a machine."""

import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest
from stand_ins import COMMAND
from stand_ins import LAUNCH
from stand_ins import Scripts
from stand_ins import TRAINING


@pytest.fixture
def scripts(tmp_path):
  return Scripts(tmp_path)


def test_every_worker_runs_the_command(scripts):
  process = scripts('run_all_workers.sh', *COMMAND, "--x='a b'", WORKERS='4')
  assert process.returncode == 0, process.stderr
  calls = scripts.calls(TRAINING)
  assert all(' --ssh-flag=-oServerAliveInterval=30 ' in call for call in calls)
  assert sorted(call.split('--worker=')[1][0] for call in calls) == list('0123')
  words = 'python -m gan_flax.main --config=configs/dcgan.py '
  words += r'--x=\'a\ b\''
  assert all(f'exec {words} --workdir=gs://bucket' in call for call in calls)
  (copy,) = scripts.calls('storage cp')
  assert re.search(r'/\d{8}T\d{6}Z gs://bucket/runs/dcgan/logs/$', copy)


@pytest.mark.parametrize(
  ('accelerator', 'hosts'),
  [(None, 1), ('v5litepod-4', 1), ('v5litepod-16', 4), ('v5litepod-64', 16)],
)
def test_the_type_gives_the_number_of_hosts(scripts, accelerator, hosts):
  """If one were left out, all others would wait for it and still cost money."""
  process = scripts('run_all_workers.sh', *COMMAND, ACCELERATOR=accelerator)
  assert process.returncode == 0, process.stderr
  assert len(scripts.calls(TRAINING)) == hosts


def test_other_types_require_the_number_of_hosts(scripts):
  process = scripts('run_all_workers.sh', *COMMAND, ACCELERATOR='v4-16')
  assert process.returncode == 2
  assert process.stderr.startswith('error: WORKERS: not set; ')
  assert scripts.calls() == []


@pytest.mark.parametrize(
  ('statuses', 'expected'),
  [
    ((0, 0, 0, 0), 0),
    ((0, 0, 255, 0), 255),  # one is preempted
    ((143, 143, 255, 143), 143),
    ((143, 2, 1, 0), 2),
  ],
)
def test_the_exit_status_tells_what_to_do_next(scripts, statuses, expected):
  plan = [
    {'match': [f'--worker={i}', TRAINING], 'status': status}
    for i, status in enumerate(statuses)
  ]
  process = scripts('run_all_workers.sh', *COMMAND, plan=plan, WORKERS='4')
  assert process.returncode == expected
  for i, status in enumerate(statuses):
    said = f'worker {i} exited with status {status}:' in process.stderr
    assert said == (status != 0)


def test_logs_stay_in_a_local_workdir(scripts, tmp_path):
  plan = [{'match': TRAINING, 'output': 'step 1'}]
  workdir = tmp_path / 'run'
  process = scripts(
    'run_all_workers.sh', *COMMAND, plan=plan, WORKDIR=str(workdir)
  )
  assert process.returncode == 0, process.stderr
  (log,) = workdir.glob('logs/*/worker_0.log')
  assert 'step 1' in log.read_text()


def test_logs_that_cannot_be_copied_are_kept(scripts):
  plan = [{'match': 'storage cp', 'status': 1}]
  process = scripts('run_all_workers.sh', *COMMAND, plan=plan)
  assert process.returncode == 0
  (folder,) = re.findall(
    'error: could not copy the logs; they are in (.*)', process.stderr
  )
  folder = pathlib.Path(folder)
  assert [path.name for path in folder.iterdir()] == ['worker_0.log']
  shutil.rmtree(folder.parent)


def test_a_new_machine_is_retried_until_it_answers(scripts):
  plan = [{'match': '--command=true', 'status': 255, 'times': 5}]
  process = scripts('run_all_workers.sh', *COMMAND, plan=plan)
  assert process.returncode == 0, process.stderr
  assert len(scripts.calls(TRAINING)) == 1


def test_a_machine_that_never_answers_fails(scripts):
  plan = [{'match': '--worker=1', 'status': 255, 'times': 1000}]
  process = scripts('run_all_workers.sh', *COMMAND, plan=plan, WORKERS='2')
  assert process.returncode == 255
  assert 'worker 1 exited with status 255:' in process.stderr
  assert len(scripts.calls('--worker=1')) == 20


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_on_all_workers(scripts, number):
  signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
  plan = [
    {'match': TRAINING, 'status': 143, 'seconds': 3, 'times': 2},
  ]
  process = scripts.start(
    'run_all_workers.sh', *COMMAND, plan=plan, WORKERS='2'
  )
  while len(scripts.calls(TRAINING)) < 2:
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(number)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 143, errors
  stops = scripts.calls('pkill -TERM')
  assert sorted(call.split('--worker=')[1][0] for call in stops) == ['0', '1']


@pytest.mark.parametrize('shell', ['bash', 'sh'])
@pytest.mark.parametrize(
  ('marks', 'seconds', 'status', 'said'),
  [
    (['ready'], '60', 7, "--x=a b;'c' --workdir=gs://bucket/runs/dcgan"),
    (['failed'], '60', 1, 'error: the project is not installed'),
    ([], '0', 1, 'error: the project is not installed'),
  ],
)
def test_the_remote_command_works_on_a_worker(
  scripts, tmp_path, shell, marks, seconds, status, said
):
  """In a folder like the one that startup.sh creates."""
  place = tmp_path / 'opt'
  for folder in ('source', 'venv/bin'):
    (place / folder).mkdir(parents=True)
  python = place / 'venv/bin/trainer'
  python.write_text('#!/bin/sh\necho "$PWD" "$@"\nexit 7\n')
  python.chmod(0o755)
  for mark in marks:
    (place / mark).touch()
  command = ('--', 'trainer', "--x=a b;'c'")
  scripts('run_all_workers.sh', *command, READY_SECONDS=seconds)
  (call,) = scripts.calls('exec trainer')
  told = call.split('--command=')[1].replace('/opt/gan_vae_flax', str(place))
  told = told.replace('/tmp/gan_vae', f'{tmp_path}/gan_vae')

  def be_told():
    process = subprocess.run(
      [shell, '-c', told],
      check=False,
      capture_output=True,
      text=True,
      timeout=30,
    )
    return process.returncode, process.stdout + process.stderr

  answer = be_told()
  assert answer[0] == status
  assert said in answer[1]
  if status == 7:
    assert answer[1].startswith(f'{place}/source ')
    # A second time, as gcloud does after a lost connection.
    status, said = be_told()
    assert status == 1
    assert 'error: the connection was lost' in said


def test_the_workers_of_a_group_are_its_instances(scripts):
  machines = {'match': 'list-instances', 'output': 'zones/z/dcgan-a\ndcgan-b'}
  process = scripts('run_all_workers.sh', *COMMAND, plan=[machines], KIND='mig')
  assert process.returncode == 0, process.stderr
  calls = [x for x in scripts.calls(TRAINING) if ' compute ssh ' in x]
  assert sorted(call.split()[3] for call in calls) == ['dcgan-a', 'dcgan-b']


@pytest.fixture
def new_machine(tmp_path):
  """Starts a machine, with stand-ins for its downloads."""
  calls = tmp_path / 'calls'
  tool = tmp_path / 'tool'
  bodies = {
    tool: f'[ "${{0##*/}}" = pip ] || [ -e {tmp_path}/network ]',
    tmp_path / 'bin' / 'curl': 'url=${@: -1}; echo "the-${url##*/}"',
    tmp_path / 'bin' / 'git': '[ "$1" != clone ] || mkdir "$4"',
    tmp_path / 'bin' / 'python3': 'mkdir -p "$3/bin"; '
    f'for p in pip uv; do cp {tool} "$3/bin/$p"; done',
  }
  (tmp_path / 'bin').mkdir()
  for path, body in bodies.items():
    path.write_text(
      '#!/bin/bash\n'
      f'echo "${{0##*/}} $* ${{UV_PYTHON_INSTALL_DIR:-}}" >> {calls}\n{body}\n'
    )
    path.chmod(0o755)
  place = tmp_path / 'opt'
  product = tmp_path / 'product'
  product.write_text('Google Compute Engine\n')

  def start(*arguments):
    calls.write_text('')
    process = subprocess.run(
      ['/bin/bash', LAUNCH / 'startup.sh', *arguments],
      check=False,
      capture_output=True,
      text=True,
      env={
        'PATH': f'{tmp_path}/bin:/usr/bin:/bin',
        'FOLDER': str(place),
        'PRODUCT': str(product),
        'RETRY_SECONDS': '0',
      },
    )
    marks = [x for x in ('ready', 'failed') if (place / x).exists()]
    start.said = process.stdout + process.stderr
    return process.returncode, marks, calls.read_text().splitlines()

  return start


def test_a_machine_is_set_up_once(new_machine, tmp_path):
  (tmp_path / 'network').touch()
  status, marks, calls = new_machine()
  assert (status, marks) == (0, ['ready'])
  place = tmp_path / 'opt'
  (clone,) = [call for call in calls if call.startswith('git clone')]
  assert f' the-repository {place}/source' in clone
  (checkout,) = [call for call in calls if ' checkout ' in call]
  assert ' the-revision ' in checkout
  (install,) = [call for call in calls if '[tpu,gcs]' in call]
  # Every user must be able to read its Python.
  assert install.startswith('uv ') and install.endswith(f' {place}/python')
  assert new_machine() == (0, ['ready'], [])


def test_a_failed_setup_is_marked_and_can_be_retried(new_machine, tmp_path):
  status, marks, calls = new_machine()
  assert (status, marks) == (1, ['failed'])
  assert sum(call.startswith('uv venv ') for call in calls) == 5
  (tmp_path / 'network').touch()
  status, marks, _ = new_machine()
  assert (status, marks) == (0, ['ready'])


@pytest.mark.parametrize('made_by', ['Standard PC', None])
def test_only_google_cloud_machines_are_set_up(new_machine, tmp_path, made_by):
  product = tmp_path / 'product'
  product.write_text(made_by) if made_by else product.unlink()
  assert new_machine() == (2, [], [])
  assert new_machine.said == (
    'error: not a Google Cloud machine; use --dry-run to print the commands\n'
  )
  assert not (tmp_path / 'opt').exists()


def test_a_dry_run_prints_the_setup(new_machine, tmp_path):
  (tmp_path / 'product').unlink()
  assert new_machine('--dry-run') == (0, [], [])
  assert not (tmp_path / 'opt').exists()
  place = tmp_path / 'opt'
  printed = new_machine.said.splitlines()
  assert f'git clone --quiet REPOSITORY {place}/source' in printed
  assert f'git -C {place}/source checkout --quiet REVISION' in printed
  assert printed[-1] == f'touch {place}/ready'


@pytest.mark.parametrize('argument', ['--dryrun', 'now'])
def test_other_arguments_are_refused(new_machine, tmp_path, argument):
  assert new_machine(argument) == (2, [], [])
  assert new_machine.said.startswith(f'error: {argument}: unknown')
  assert not (tmp_path / 'opt').exists()
