"""Runs scripts with stand-ins for the programs that they call."""

import json
import os
import pathlib
import subprocess
import sys

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'
STAND_IN = pathlib.Path(__file__).parent / 'stand_in.py'
SETTINGS = {
  'PROJECT': 'some-project',
  'ZONE': 'us-east5-b',
  'NAME': 'dcgan',
  'REPOSITORY': 'https://example.com/gan_vae_flax.git',
  'WORKDIR': 'gs://bucket/runs/dcgan',
  'POLL_SECONDS': '0',
  'RETRY_SECONDS': '0',
  'BACKOFF_SECONDS': '0',
}
# Unset, so that the tester's environment has no influence.
UNSET = {*SETTINGS, 'ACCELERATOR', 'CHIPS', 'KIND', 'SPOT', 'WORKERS', 'VENV'}
COMMAND = ('--', 'python', '-m', 'gan_flax.main', '--config=configs/dcgan.py')
TRAINING = 'exec python'  # only in calls of the command itself
ABSENT = {
  'status': 1,
  'error': "ERROR: (gcloud) The resource 'projects/p/x' was not found",
}
UNKNOWN = {
  'status': 1,
  'error': 'ERROR: (gcloud) There was a problem refreshing your tokens',
}


class Scripts:
  """Runs a script and records its calls."""

  def __init__(self, folder):
    self.folder = folder
    self._calls = folder / 'calls'
    programs = folder / 'bin'
    programs.mkdir()
    # Without what this environment has installed, Python starts sooner.
    text = f'#!{sys.executable} -IS\n{STAND_IN.read_text()}'
    for name in ('gcloud', 'kubectl', 'scontrol'):
      (programs / name).write_text(text)
      (programs / name).chmod(0o755)
    self.environment = {
      **{k: v for k, v in os.environ.items() if k not in UNSET},
      **SETTINGS,
      'PATH': f'{programs}:{os.environ["PATH"]}',
      'CALLS': str(self._calls),
      'PLAN': str(folder / 'plan'),
    }

  def __call__(self, script, *arguments, plan=(), nothing_is_there=True, **env):
    """Runs `launch/SCRIPT`; calls follow the rules of `plan`."""
    process = self.start(
      script, *arguments, plan=plan, nothing_is_there=nothing_is_there, **env
    )
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(
      process.args, process.returncode, output, errors
    )

  def start(self, script, *arguments, plan=(), nothing_is_there=True, **env):
    """Starts `launch/SCRIPT` without waiting for it."""
    rules = list(plan)
    if nothing_is_there:
      rules.append({'match': ' describe ', **ABSENT, 'times': 1000})
    (self.folder / 'plan').write_text(json.dumps(rules))
    self._calls.write_text('')
    environment = {**self.environment, **env}
    environment = {k: v for k, v in environment.items() if v is not None}
    return subprocess.Popen(
      [LAUNCH / script, *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=environment,
    )

  def calls(self, word=''):
    """Returns the calls that contain a word, one string each."""
    lines = map(json.loads, self._calls.read_text().splitlines())
    return [line for line in map(' '.join, lines) if word in line]
