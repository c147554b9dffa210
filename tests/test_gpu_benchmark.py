"""The measurement of a machine: every part is recorded, whatever it does."""

import json
import shutil
import subprocess

import pytest

from benchmarks import gpu
from benchmarks.gpu import Part


def part(name, *commands, seconds=60, module='json'):
  return Part(name, f'Part {name}', commands, commands[:1], seconds, module)


PARTS = [
  part('good', '-c print("|a|b|")', '-c open("{json}","w").write("[1]")'),
  part('bad', '-c print("so~far");raise~SystemExit("no~memory")', '-c 1'),
  part('slow', '-c import~time;print(7*11);time.sleep(60)', seconds=5),
  part('absent', '-c 1', module='benchmarks.nosuch'),
  part('last', '-c print("last")'),
]


@pytest.fixture
def light(monkeypatch):
  """Replaces the parts, and what asks JAX and PyTorch for devices."""
  monkeypatch.setattr(gpu, 'PARTS', PARTS)
  monkeypatch.setattr(gpu, '_PROBES', {'jax': 'print("one GPU")'})


def results(folder):
  return json.loads((folder / 'gpu.json').read_text())


@pytest.mark.usefixtures('light')
def test_every_part_is_recorded_with_its_reason(tmp_path, capsys):
  assert gpu.main(['gpu', f'--output={tmp_path}']) == 1
  found = results(tmp_path)
  records = {record['name']: record for record in found['parts']}
  assert {name: r['status'] for name, r in records.items()} == {
    'good': 'done',
    'bad': 'failed',
    'slow': 'failed',
    'absent': 'skipped',
    'last': 'done',
  }
  assert records['good']['result'] == [1]
  assert records['bad']['reason'] == 'no memory'
  assert records['bad']['output'].count('took') == 1  # its second did not run
  assert 'stopped after' in records['slow']['reason']
  assert records['slow']['output'].startswith('77')
  assert 'benchmarks.nosuch' in records['absent']['reason']
  assert found['devices'] == {'jax': 'one GPU'}
  page = (tmp_path / 'gpu.md').read_text()
  printed = capsys.readouterr().out
  for text in ('|a|b|', 'so far', 'no memory', 'last'):
    assert text in page
    assert text in printed


@pytest.mark.usefixtures('light')
def test_parts_without_time_are_skipped(tmp_path):
  assert gpu.main(['gpu', f'--output={tmp_path}', '--minutes=0']) == 0
  records = results(tmp_path)['parts']
  assert {r['reason'] for r in records if r['name'] != 'absent'} == {
    'no time left'
  }


def test_the_first_step_finds_an_empty_cache(monkeypatch):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'full')
  code = (
    'import~os,sys;print(os.environ["XDG_CACHE_HOME"]==sys.argv[1],'
    'os.environ.get("JAX_COMPILATION_CACHE_DIR"))'
  )
  twice = [f'-c {code} {{folder}}'] * 2
  record = gpu.measure(part('first-step', *twice), False, 60)
  assert record['output'].count('True None\n') == 2
  record = gpu.measure(part('training', *twice), False, 60)
  assert record['output'].count('False full\n') == 2


def test_missing_packages_are_named(monkeypatch, capsys):
  monkeypatch.setattr(gpu, '_PROBES', {'jax': 'import nosuch'})
  monkeypatch.setattr(gpu, '_EXTRAS', ('nosuch-package',))
  assert gpu.main(['gpu', '--check']) == 0
  printed = capsys.readouterr().out
  assert "jax: ModuleNotFoundError: No module named 'nosuch'" in printed
  assert 'missing packages: nosuch-package\n' in printed


@pytest.mark.parametrize('script', ['gpu.sh', 'wheels.sh'])
def test_scripts_are_clean(script):
  if not shutil.which('shellcheck'):
    pytest.skip('shellcheck is not installed')
  path = gpu.ROOT / 'benchmarks' / script
  subprocess.run(['shellcheck', str(path)], check=True)


@pytest.mark.slow
def test_the_whole_runs_on_a_cpu_in_small(tmp_path):
  # Of parts that run the same program, one is enough.
  names = [p.name for p in gpu.PARTS if p.name not in ('dcgan-64', 'tests')]
  chosen = [f'--only={name}' for name in names]
  gpu.main(['gpu', '--small', *chosen, f'--output={tmp_path}', '--minutes=20'])
  records = results(tmp_path)['parts']
  assert [record['name'] for record in records] == names
  failed = {r['name']: r['reason'] for r in records if r['status'] == 'failed'}
  assert not failed
  skipped = {r['name'] for r in records if r['status'] == 'skipped'}
  assert skipped <= {'overhead', 'resnet'}
  page = (tmp_path / 'gpu.md').read_text()
  for text in ('ours, bfloat16', 'single runs', 'from memory', 'First step'):
    assert text in page
  assert records[0]['result']['seconds']['ours']
