"""The hook that keeps run.json and writes the report of a finished run."""

import functools
import json

from fake_run import FAILURE
from fake_run import moment
from fake_run import NUM_STEPS
from fake_run import Run
import jax.numpy as jnp
import pytest

from common_flax.report import page
from common_flax.training import hooks
from common_flax.workdir import provenance


def step_of_family(unused_model, state):
  return state


@pytest.fixture
def run(tmp_path):
  run = Run()
  run.workdir = tmp_path
  run.root = jnp.zeros(())  # of one seed
  run.parallel.describe = lambda: '2 x cpu'
  (tmp_path / 'config.json').write_text('{"num_steps": 20}')
  return run


def report_hook():
  return hooks.Report(
    functools.partial(step_of_family, 'model'),
    lambda state: {'net': {'w': jnp.zeros((3, 4)), 'b': jnp.zeros(4)}},
    [hooks.Curves({'loss': ('d_loss',)}, 1), print],
  )


def test_a_run_records_how_it_began_and_ended(run):
  hook = report_hook()
  with provenance.called_as('python -m family.main --config=x'):
    hook(moment(run, 0, is_start=True))
  before = provenance.read(run.workdir)
  assert before.function == f'{__name__}.step_of_family'
  assert before.parameters == {'net': 16}
  assert before.panels == {'loss': ['d_loss']}
  assert before.data == {'kind': 'images', 'num_examples': 3}
  (start,) = before.starts
  assert start.command == 'python -m family.main --config=x'
  assert start.devices == '2 x cpu'
  assert start.versions['jax'] and start.machine['cores']
  assert start.ended is None and start.reached is None
  hook(moment(run, 4))
  assert provenance.read(run.workdir) == before
  hook(moment(run, 8, is_stopped=True))
  (start,) = provenance.read(run.workdir).starts
  assert start.reached == 8 and start.ended >= start.began
  assert not (run.workdir / page.FILE).exists()


def test_a_resumed_run_adds_a_start_and_a_finished_one_a_report(run):
  for first, last in ((0, 8), (8, NUM_STEPS)):
    hook = report_hook()
    hook(moment(run, first, is_start=True))
    hook(moment(run, first, is_start=True))  # after a rollback
    hook(moment(run, last, is_stopped=True))
  starts = provenance.read(run.workdir).starts
  assert [(s.step, s.reached) for s in starts] == [(0, 8), (8, NUM_STEPS)]
  assert starts[0].command is None
  assert '16' in (run.workdir / page.FILE).read_text()


def test_parameters_of_several_seeds_are_those_of_one(run):
  run.root = jnp.zeros((4,))
  report_hook()(moment(run, 0, is_start=True))
  assert provenance.read(run.workdir).parameters == {'net': 4}


@pytest.mark.parametrize('ends', ['failing', 'not finite', 'elsewhere'])
def test_a_run_that_fails_writes_no_report(run, ends):
  run.is_first_process = ends != 'elsewhere'
  hook = report_hook()
  hook(moment(run, 0, is_start=True))
  now = moment(run, NUM_STEPS)
  now.failure = FAILURE if ends == 'failing' else None
  now.is_finite = ends != 'not finite'
  hook(now)
  assert not (run.workdir / page.FILE).exists()


def test_what_cannot_be_written_costs_a_line(run, monkeypatch):
  def fail(*unused):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(provenance, 'write', fail)
  monkeypatch.setattr(page, 'write', lambda unused: 1 / 0)
  hook = report_hook()
  hook(moment(run, 0, is_start=True))
  hook(moment(run, NUM_STEPS))
  assert run.said == [
    'run.json cannot be written: No space left on device',
    'run.json cannot be written: No space left on device',
    'report.html cannot be written: division by zero',
  ]


@pytest.mark.parametrize('text', ['', '[]', '{"starts": [{"x": 1}]}', '{'])
def test_a_damaged_record_is_begun_anew(run, text):
  (run.workdir / provenance.FILE).write_text(text)
  with pytest.raises(ValueError):
    provenance.read(run.workdir)
  report_hook()(moment(run, 0, is_start=True))
  assert len(provenance.read(run.workdir).starts) == 1


def test_a_record_keeps_its_first_and_newest_starts(tmp_path):
  starts = [provenance.Start(step, 'now') for step in range(150)]
  provenance.write(tmp_path, provenance.Provenance(starts=starts))
  steps = [
    s['step']
    for s in json.loads((tmp_path / provenance.FILE).read_text())['starts']
  ]
  assert steps == [0, *range(51, 150)]
