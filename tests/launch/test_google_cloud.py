"""Scripts for TPUs on Google Cloud, with a stand-in for gcloud."""

import pathlib
import re
import shutil
import signal
import subprocess

import pytest
from stand_ins import ABSENT
from stand_ins import LAUNCH
from stand_ins import Scripts
from stand_ins import UNKNOWN

SHELL = sorted([*LAUNCH.glob('*.sh'), LAUNCH / 'slurm.sbatch'])
CREATING = {
  'gce_tpu.sh': 'compute instances create dcgan ',
  'gce_tpu_mig.sh': 'compute instance-groups managed create dcgan ',
  'tpu_queued.sh': 'compute tpus queued-resources create dcgan ',
}
ACTIVE = {'match': 'state.state', 'output': 'ACTIVE', 'times': 1000}


@pytest.fixture
def scripts(tmp_path):
  return Scripts(tmp_path)


@pytest.mark.parametrize('script', SHELL, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(script):
  if not shutil.which('shellcheck'):
    pytest.skip('shellcheck is not installed')
  subprocess.run(
    ['shellcheck', '-x', script], check=True, cwd=LAUNCH.parent, text=True
  )


@pytest.mark.parametrize('script', CREATING)
def test_a_dry_run_prints_and_calls_nothing(scripts, script):
  process = scripts(script, '--dry-run')
  assert process.returncode == 0, process.stderr
  assert CREATING[script] in process.stdout
  assert all(x.startswith('gcloud ') for x in process.stdout.splitlines())
  assert scripts.calls() == []


@pytest.mark.parametrize('script', [*CREATING, 'delete.sh'])
@pytest.mark.parametrize('missing', ['PROJECT', 'ZONE', 'NAME'])
def test_a_missing_setting_is_named(scripts, script, missing):
  process = scripts(script, **{missing: None})
  assert process.returncode == 2
  assert process.stderr.startswith(f'error: {missing}: not set; ')
  assert process.stderr.count('\n') == 1
  assert scripts.calls() == []


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('NAME', 'x; rm -rf /'),
    ('NAME', '-x'),
    ('NAME', 'X'),
    ('ZONE', 'us-east5'),
    ('PROJECT', '$(touch x)'),
    ('REPOSITORY', 'https://h/x,startup-script=y'),
    ('REVISION', 'a b'),
    ('CHIPS', '3'),
  ],
)
def test_invalid_settings_are_refused(scripts, name, value):
  process = scripts('gce_tpu.sh', **{name: value})
  assert process.returncode == 2
  assert process.stderr.startswith(f'error: {name}={value}: use ')
  assert scripts.calls() == []


def test_a_machine_is_created_with_its_settings(scripts):
  process = scripts('gce_tpu.sh', CHIPS='4', SPOT='true', REVISION='v1.0')
  assert process.returncode == 0, process.stderr
  (call,) = scripts.calls(' create ')
  assert call == (
    'gcloud compute instances create dcgan --project=some-project '
    '--zone=us-east5-b --machine-type=ct6e-standard-4t '
    '--image-project=ubuntu-os-accelerator-images '
    '--image-family=ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e '
    '--maintenance-policy=TERMINATE --boot-disk-size=100GB '
    '--scopes=cloud-platform '
    '--metadata=repository=https://example.com/gan_vae_flax.git,revision=v1.0 '
    f'--metadata-from-file=startup-script={LAUNCH}/startup.sh '
    '--provisioning-model=SPOT --instance-termination-action=DELETE'
  )
  assert scripts.calls(' delete ') == []


def test_a_group_has_one_host_per_four_chips(scripts):
  process = scripts('gce_tpu_mig.sh', TOPOLOGY='8x8')
  assert process.returncode == 0, process.stderr
  policy, template, group = scripts.calls(' create ')
  assert '--accelerator-topology=8x8' in policy
  assert '--region=us-east5' in policy
  assert '--machine-type=ct6e-standard-4t' in template
  assert '--size=16' in group
  assert 'regions/us-east5/resourcePolicies/dcgan-policy' in group


def test_a_request_waits_in_the_queue(scripts):
  states = ('WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')
  # The first call asks whether the request already exists.
  plan = [{'match': 'state.state', **ABSENT}]
  plan += [{'match': 'state.state', 'output': state} for state in states]
  process = scripts('tpu_queued.sh', plan=plan)
  assert process.returncode == 0, process.stderr
  assert process.stdout.splitlines() == [
    'dcgan: WAITING_FOR_RESOURCES',
    'dcgan: PROVISIONING',
    'dcgan is ready.',
  ]
  (call,) = scripts.calls(' create ')
  assert '--accelerator-type=v5litepod-8' in call
  assert '--runtime-version=v2-alpha-tpuv5-lite' in call
  assert scripts.calls(' delete ') == []


@pytest.mark.parametrize('script', CREATING)
def test_an_existing_resource_is_left_alone(scripts, script):
  process = scripts(script, plan=[ACTIVE], nothing_is_there=False)
  assert process.returncode == 0, process.stderr
  assert scripts.calls(' create ') == []
  assert scripts.calls(' delete ') == []


@pytest.mark.parametrize('script', CREATING)
def test_a_refused_creation_leaves_nothing(scripts, script):
  """For example without quota."""
  refused = {'match': CREATING[script], 'status': 1, 'output': 'QUOTA_EXCEEDED'}
  # The resources created before the refusal exist and must be deleted.
  made = [
    {'match': f' {kind} describe dcgan-', **ABSENT}
    for kind in ('resource-policies', 'instance-templates')
  ]
  is_group = script == 'gce_tpu_mig.sh'
  plan = [refused, *(made if is_group else [])]
  if is_group:
    plan += [{'match': ' describe dcgan-', 'times': 1000}]
  process = scripts(script, plan=plan)
  assert process.returncode == 1
  deleted = scripts.calls(' delete ')
  assert deleted
  if is_group:
    assert {call.split(' delete ')[1].split()[0] for call in deleted} == {
      'dcgan-template',
      'dcgan-policy',
    }


@pytest.mark.parametrize('script', CREATING)
@pytest.mark.parametrize(
  'answer', [UNKNOWN['error'], 'gcloud: command not found', '']
)
def test_a_resource_that_may_exist_is_left_alone(scripts, script, answer):
  """An inconclusive answer must not delete a running slice."""
  plan = [{'match': ' describe ', 'status': 1, 'error': answer}]
  process = scripts(script, plan=plan)
  assert process.returncode == 1
  assert answer in process.stderr
  assert scripts.calls(' create ') == []
  assert scripts.calls(' delete ') == []


def test_lost_answers_do_not_end_the_wait_in_the_queue(scripts):
  lost = {'match': 'state.state', **UNKNOWN, 'times': 9}
  plan = [
    {'match': 'state.state', **ABSENT},
    lost,
    {'match': 'state.state', 'output': 'PROVISIONING'},
    lost,
    {'match': 'state.state', 'output': 'ACTIVE'},
  ]
  process = scripts('tpu_queued.sh', plan=plan)
  assert process.returncode == 0, process.stderr
  assert scripts.calls(' delete ') == []


def test_a_request_without_answers_is_deleted(scripts):
  lost = {'match': 'state.state', **UNKNOWN, 'times': 1000}
  plan = [{'match': 'state.state', **ABSENT}, lost]
  process = scripts('tpu_queued.sh', plan=plan)
  assert process.returncode == 1
  assert 'error: gcloud does not answer about the request' in process.stderr
  assert len(scripts.calls(' delete ')) == 1


@pytest.mark.parametrize('is_there_before', [False, True])
def test_a_signal_in_the_queue_deletes_only_its_own_request(
  scripts, is_there_before
):
  waiting = {'match': 'state.state', 'output': 'WAITING', 'times': 1000}
  absent = {'match': 'state.state', **ABSENT}
  plan = [waiting] if is_there_before else [absent, waiting]
  process = scripts.start('tpu_queued.sh', plan=plan, POLL_SECONDS='0.1')
  assert process.stdout.readline() == 'dcgan: WAITING\n'
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=60)
  assert process.returncode == (-15 if is_there_before else 143)
  assert len(scripts.calls(' delete ')) == (not is_there_before)


@pytest.mark.parametrize('is_there_before', [False, True])
def test_a_failed_request_is_deleted(scripts, is_there_before):
  failed = {'match': 'state.state', 'output': 'FAILED', 'times': 2}
  absent = {'match': 'state.state', **ABSENT}
  plan = [failed] if is_there_before else [absent, failed]
  process = scripts('tpu_queued.sh', plan=plan)
  assert process.returncode == 1
  assert 'error: the request for dcgan is FAILED' in process.stderr
  (call,) = scripts.calls(' delete ')
  assert '--force --quiet' in call


def test_everything_is_deleted_and_a_second_time_is_no_error(scripts):
  assert scripts('delete.sh', nothing_is_there=False).returncode == 0
  assert len(scripts.calls(' delete ')) == 6
  assert scripts('delete.sh').returncode == 0
  assert scripts.calls(' delete ') == []


def test_a_failed_deletion_is_reported(scripts):
  refused = {'match': 'instances delete', 'status': 1}
  process = scripts('delete.sh', plan=[refused], nothing_is_there=False)
  assert process.returncode == 1
  assert process.stderr.endswith(
    'error: resources named dcgan may remain; try again\n'
  )
  assert len(scripts.calls(' delete ')) == 6  # it continues with the others


def test_an_unknown_resource_is_reported(scripts):
  unknown = {'match': 'instances describe', **UNKNOWN}
  process = scripts('delete.sh', plan=[unknown])
  assert process.returncode == 1
  assert UNKNOWN['error'] in process.stderr
  assert process.stderr.endswith(
    'error: resources named dcgan may remain; try again\n'
  )


def test_a_disabled_service_has_nothing_to_delete(scripts):
  disabled = {
    'match': 'tpus',
    'status': 1,
    'error': 'Cloud TPU API has not been used in project 1 before',
    'times': 2,
  }
  process = scripts('delete.sh', plan=[disabled])
  assert process.returncode == 0, process.stderr


@pytest.mark.parametrize('script', ['run_all_workers.sh', 'spot_loop.sh'])
def test_a_missing_command_is_named(scripts, script):
  process = scripts(script)
  assert process.returncode == 2
  assert process.stderr.startswith('error: no command; ')


@pytest.mark.parametrize(
  'script',
  [*CREATING, 'delete.sh', 'run_all_workers.sh', 'spot_loop.sh'],
)
def test_help_is_the_comment_at_the_top(scripts, script):
  process = scripts(script, '--help')
  assert process.returncode == 0, process.stderr
  assert f'launch/{script} [--dry-run]' in process.stdout
  assert 'HERE=' not in process.stdout
  assert scripts.calls() == []


def test_scripts_read_the_settings_in_the_readme():
  rows = (LAUNCH / 'README.md').read_text().split('| default |')[1]
  rows = [row.split('|') for row in rows.splitlines() if row.startswith('| `')]
  assert len(rows) > 10
  for _, settings, readers, *_ in rows:
    named = re.findall(r'`(\w+\.\w+)`', readers) or ['common.sh', *CREATING]
    texts = [(LAUNCH / name).read_text() for name in [*named, 'common.sh']]
    for setting in re.findall('`([A-Z_]+)`', settings):
      reads = re.compile(rf'\b{setting}:-|require {setting} ')
      assert any(map(reads.search, texts)), setting


def test_the_readme_names_every_file():
  readme = pathlib.Path(LAUNCH / 'README.md').read_text()
  for path in LAUNCH.iterdir():
    assert path.name in readme or path.name == 'README.md', path.name
