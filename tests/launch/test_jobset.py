"""The JobSet for GKE, checked against the fields of its API."""

import json

import jsonschema
import pytest
from stand_ins import LAUNCH
from stand_ins import Scripts
import yaml

COMMAND = ('--', 'python', '-m', 'gan_flax.main', '--workdir=gs://b/r')


@pytest.fixture
def scripts(tmp_path):
  return Scripts(tmp_path)


def an_object(required, **properties):
  return {
    'type': 'object',
    'properties': properties,
    'required': required,
    'additionalProperties': False,
  }


def a_list(items):
  return {'type': 'array', 'items': items, 'minItems': 1}


TEXT = {'type': 'string', 'minLength': 1}
NUMBER = {'type': 'integer', 'minimum': 0}
TEXTS = {'type': 'object', 'additionalProperties': TEXT}
RESOURCES = {'type': 'object', 'additionalProperties': {'type': 'integer'}}
CONTAINER = an_object(
  ['name', 'image'],
  name=TEXT,
  image=TEXT,
  args=a_list(TEXT),
  ports=a_list(an_object(['containerPort'], containerPort=NUMBER)),
  resources=an_object([], requests=RESOURCES, limits=RESOURCES),
)
POD = an_object(
  ['containers'],
  restartPolicy={'enum': ['Never', 'OnFailure']},
  terminationGracePeriodSeconds=NUMBER,
  nodeSelector=TEXTS,
  containers=a_list(CONTAINER),
)
EXIT_CODES = an_object(
  ['operator', 'values'],
  containerName=TEXT,
  operator={'enum': ['In', 'NotIn']},
  values=a_list({'type': 'integer', 'minimum': 1}),
)
POD_FAILURE_POLICY = an_object(
  ['rules'],
  rules=a_list(
    an_object(
      ['action'],
      action={'enum': ['FailJob', 'Ignore', 'Count', 'FailIndex']},
      onExitCodes=EXIT_CODES,
    )
  ),
)
JOB = an_object(
  ['template'],
  parallelism=NUMBER,
  completions=NUMBER,
  completionMode={'enum': ['Indexed', 'NonIndexed']},
  backoffLimit=NUMBER,
  podFailurePolicy=POD_FAILURE_POLICY,
  template=an_object(['spec'], spec=POD),
)
FAILURE_POLICY = an_object(
  [],
  maxRestarts=NUMBER,
  rules=a_list(
    an_object(
      ['action'],
      name=TEXT,
      action={
        'enum': [
          'FailJobSet',
          'RestartJobSet',
          'RestartJobSetAndIgnoreMaxRestarts',
        ]
      },
      onJobFailureReasons=a_list(
        {
          'enum': [
            'BackoffLimitExceeded',
            'DeadlineExceeded',
            'FailedIndexes',
            'MaxFailedIndexesExceeded',
            'PodFailurePolicy',
          ]
        }
      ),
    )
  ),
)
# The part of jobset.x-k8s.io/v1alpha2 and batch/v1 that the manifest may use.
SCHEMA = an_object(
  ['apiVersion', 'kind', 'metadata', 'spec'],
  apiVersion={'const': 'jobset.x-k8s.io/v1alpha2'},
  kind={'const': 'JobSet'},
  metadata=an_object(['name'], name=TEXT, annotations=TEXTS),
  spec=an_object(
    ['replicatedJobs'],
    failurePolicy=FAILURE_POLICY,
    replicatedJobs=a_list(
      an_object(
        ['name', 'template'],
        name=TEXT,
        replicas=NUMBER,
        template=an_object(['spec'], spec=JOB),
      )
    ),
  ),
)


def manifest(scripts, *command, **settings):
  settings = {'IMAGE': 'registry/gan:tpu', **settings}
  process = scripts('gke_jobset.sh', '--dry-run', *command, **settings)
  assert process.returncode == 0, process.stderr
  return yaml.safe_load(process.stdout)


def test_the_manifest_matches_the_api(scripts):
  jobset = manifest(scripts, *COMMAND)
  jsonschema.validate(jobset, SCHEMA)
  jobset['spec']['replicas'] = 2
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.validate(jobset, SCHEMA)


def test_all_pods_run_on_one_slice(scripts):
  jobset = manifest(scripts, *COMMAND)
  topology = 'alpha.jobset.sigs.k8s.io/exclusive-topology'
  assert jobset['metadata']['annotations'] == {
    topology: 'cloud.google.com/gke-nodepool'
  }
  assert jobset['spec']['replicatedJobs'][0]['replicas'] == 1


@pytest.mark.parametrize(
  ('topology', 'chips_per_host', 'hosts'),
  [('2x4', '4', 2), ('4x4', '4', 4), ('2x4', '8', 1), ('2x2x4', '4', 4)],
)
def test_there_is_one_pod_per_host(scripts, topology, chips_per_host, hosts):
  jobset = manifest(
    scripts, *COMMAND, TOPOLOGY=topology, CHIPS_PER_HOST=chips_per_host
  )
  (job,) = jobset['spec']['replicatedJobs']
  spec = job['template']['spec']
  assert (spec['parallelism'], spec['completions']) == (hosts, hosts)
  (container,) = spec['template']['spec']['containers']
  assert container['resources']['limits'] == {
    'google.com/tpu': int(chips_per_host)
  }


def test_words_of_the_command_are_quoted(scripts):
  odd = (
    '--',
    'python',
    'a b',
    '"quoted"',
    "it's",
    'back\\slash',
    '$(x)',
    '&{NAME}',
  )
  jobset = manifest(scripts, *odd)
  (job,) = jobset['spec']['replicatedJobs']
  (container,) = job['template']['spec']['template']['spec']['containers']
  assert container['args'] == list(odd[1:])


def test_a_mistake_fails_the_jobset_and_a_signal_restarts_it(scripts):
  jobset = manifest(scripts, *COMMAND)
  spec = jobset['spec']
  (rule,) = spec['failurePolicy']['rules']
  assert rule['action'] == 'FailJobSet'
  job = spec['replicatedJobs'][0]['template']['spec']
  (pod_rule,) = job['podFailurePolicy']['rules']
  assert pod_rule['onExitCodes']['values'] == [2]
  # Any other status, such as 143, fails the job and restarts the JobSet.
  assert job['backoffLimit'] == 0
  assert spec['failurePolicy']['maxRestarts'] == 100


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('IMAGE', 'x"\n  bad: y'),
    ('IMAGE', None),
    ('NAME', 'a b'),
    ('TOPOLOGY', '3x3'),
    ('TOPOLOGY', '4'),
    ('CHIPS_PER_HOST', '$(x)'),
    ('MAX_RESTARTS', '-1'),
  ],
)
def test_invalid_settings_are_refused(scripts, name, value):
  settings = {'IMAGE': 'registry/gan:tpu', name: value}
  process = scripts('gke_jobset.sh', *COMMAND, **settings)
  assert process.returncode == 2
  assert process.stderr.startswith(f'error: {name}')
  assert scripts.calls() == []


def test_the_manifest_is_applied(scripts):
  process = scripts('gke_jobset.sh', *COMMAND, IMAGE='registry/gan:tpu')
  assert process.returncode == 0, process.stderr
  assert scripts.calls() == ['kubectl apply -f -']


def test_a_failure_of_kubectl_is_returned(scripts):
  plan = [{'match': 'kubectl', 'status': 3}]
  process = scripts(
    'gke_jobset.sh', *COMMAND, plan=plan, IMAGE='registry/gan:tpu'
  )
  assert process.returncode == 3


def test_the_dockerfile_copies_existing_files():
  """The image is not built here."""
  lines = (LAUNCH / 'Dockerfile').read_text().splitlines()
  copied = [line.split()[1:-1] for line in lines if line.startswith('COPY')]
  ignored = (LAUNCH.parent / '.dockerignore').read_text().splitlines()
  for names in copied:
    for name in names:
      assert (LAUNCH.parent / name).exists(), name
      assert f'!{name}' in ignored
  (command,) = [x for x in ' '.join(lines).split('CMD ')[1:]]
  assert json.loads(command.replace('\\', ''))[0] == 'python'  # not a shell
