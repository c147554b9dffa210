"""Hostile workdirs are refused in one line; no link in them is followed."""

import io
import json
import os
import pathlib
import signal

from conftest import contents
from conftest import ROOT
import numpy as np
import PIL.Image
import pytest

from common_flax import compare_runs
from common_flax import config as config_lib
from common_flax.workdir import stored_config
from gan_flax import evaluate as gan_evaluate
from gan_flax import main as gan_main
from gan_flax import sample as gan_sample
from vae_flax import evaluate as vae_evaluate
from vae_flax import sample as vae_sample

pytestmark = pytest.mark.usefixtures('in_the_repository', 'untrained')

RECIPE = 'configs/dcgan.py:smoke'
SECONDS = 30  # limit of a test
CONFIG = stored_config.to_json(config_lib.load(str(ROOT / RECIPE)))
READERS = {
  'gan sample': (gan_sample.main, ['--output=OUT']),
  'gan evaluate': (gan_evaluate.main, []),
  'vae sample': (vae_sample.main, ['--output=OUT']),
  'vae evaluate': (vae_evaluate.main, []),
  'train': (gan_main.main, [f'--config={RECIPE}']),
  'fine-tune': (
    gan_main.main,
    [f'--config={RECIPE}', '--init_from=WORKDIR', '--workdir=OUT'],
  ),
  'compare runs': (
    compare_runs.main,
    ['--workdirs=WORKDIR,WORKDIR', '--output=OUT'],
  ),
}


@pytest.fixture(autouse=True)
def alarm():
  def hang(*unused):
    pytest.fail('it hangs')  # no error handler catches this

  previous = signal.signal(signal.SIGALRM, hang)
  signal.alarm(SECONDS)
  yield
  signal.alarm(0)
  signal.signal(signal.SIGALRM, previous)


def picture():
  buffer = io.BytesIO()
  PIL.Image.fromarray(np.zeros((9, 9), np.uint8)).save(buffer, 'PNG')
  return buffer.getvalue()


@pytest.fixture
def workdir(tmp_path):
  """The workdir of a run, without checkpoints."""
  workdir = tmp_path / 'workdir'
  (workdir / 'samples').mkdir(parents=True)
  (workdir / 'config.json').write_text(CONFIG)
  (workdir / 'metrics.jsonl').write_text('{"step": 2, "d_loss": 1.0}\n')
  (workdir / 'samples' / 'step_00000002.png').write_bytes(picture())
  return workdir


def run(reader, workdir):
  """Runs a command on a workdir."""
  main, arguments = READERS[reader]
  out = workdir.parent / 'out.png'
  if not any('WORKDIR' in argument for argument in arguments):
    arguments = [*arguments, '--workdir=WORKDIR']
  replaced = [
    a.replace('WORKDIR', str(workdir)).replace('OUT', str(out))
    for a in arguments
  ]
  return main(['command', *replaced])


def assert_refuses(capfd, reader, workdir, *words):
  before = contents(workdir.parent)
  assert run(reader, workdir) == 2
  error = capfd.readouterr().err
  assert error.startswith('error: ')
  assert error.endswith('\n')
  assert error[:-1].isprintable()
  assert len(error) < 2000
  for word in words:
    assert word in error
  assert contents(workdir.parent) == before


def changed(**fields):
  """The config with changed fields; `a__b` stands for `a.b`."""
  config = json.loads(CONFIG)
  for name, value in fields.items():
    *parts, last = name.split('__')
    group = config
    for part in parts:
      group = group[part]
    group[last] = value
  return json.dumps(config)


UNREADABLE = {
  'empty': '',
  'no JSON': '{"seed": ',
  'binary': b'\xff\xfe\0\1' * 100,
  'a list': '[1, 2]',
  'a number': '7',
  'null': 'null',
  'deep': '{"a":' * 100_000,
  'deep lists': '[' * 100_000,
  'huge': ' ' * 2**21 + CONFIG,
}
WRONG = {
  'an unknown field': changed(no_such_field=1),
  'a name with dots': changed(**{'dataset.name': 'digits'}),
  'an empty name': changed(**{'': 1}),
  'an odd name': changed(**{'a\nb\0': 1}),
  'a value for a group': changed(dataset='digits'),
  'a list for a group': changed(dataset=['digits']),
  'no dataset': changed(dataset=None),
  'text for a number': changed(seed='0'),
  'a float for a number': changed(num_steps=0.5),
  'a list for a number': changed(batch_size=[1]),
  'a number for text': changed(dataset__name=3),
  'a huge number': changed(seed=10**400),
  'many seeds': changed(num_seeds=2**31),
  'many latents': changed(model__latent_size=2**40),
  'many features': changed(model__base_features=2**40),
  'no latents': changed(model__latent_size=0),
  'NaN': changed(ema_decay=float('nan')),
  'infinity': changed(generator__learning_rate=float('inf')),
  'an unknown model': changed(model__name='$(touch x)'),
  'an unknown loss': changed(loss__name='os.system'),
  'a null character': changed(dataset__path='a\0b'),
}


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('name', UNREADABLE)
def test_a_config_that_cannot_be_read_is_named(capfd, workdir, name, reader):
  content = UNREADABLE[name]
  data = content if isinstance(content, bytes) else content.encode()
  (workdir / 'config.json').write_bytes(data)
  assert_refuses(capfd, reader, workdir, 'config.json')


@pytest.mark.parametrize(
  'reader', ['gan sample', 'gan evaluate', 'vae sample', 'fine-tune']
)
@pytest.mark.parametrize('name', WRONG)
def test_a_config_with_wrong_values_is_named(capfd, workdir, name, reader):
  (workdir / 'config.json').write_text(WRONG[name])
  assert_refuses(capfd, reader, workdir, 'config.json')
  assert not pathlib.Path('x').exists()


def make_pipe(path):
  os.mkfifo(path)


ODD_FILES = {
  'a pipe': make_pipe,
  'a folder': pathlib.Path.mkdir,
  'a device': lambda path: path.symlink_to('/dev/zero'),
  'a link to itself': lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize('reader', ['gan sample', 'fine-tune', 'compare runs'])
@pytest.mark.parametrize('kind', ODD_FILES)
def test_a_config_that_is_no_file_is_named(capfd, workdir, kind, reader):
  (workdir / 'config.json').unlink()
  ODD_FILES[kind](workdir / 'config.json')
  assert_refuses(capfd, reader, workdir, 'config.json')


@pytest.mark.parametrize('name', ['config.json', 'metrics.jsonl'])
@pytest.mark.parametrize('kind', ['a pipe', 'a folder', 'a device'])
def test_training_refuses_obstacles_in_its_workdir(capfd, workdir, kind, name):
  (workdir / name).unlink()
  ODD_FILES[kind](workdir / name)
  assert_refuses(capfd, 'train', workdir, name)


@pytest.mark.parametrize('kind', ODD_FILES)
def test_metrics_that_are_no_file_are_refused(capfd, workdir, kind):
  (workdir / 'metrics.jsonl').unlink()
  ODD_FILES[kind](workdir / 'metrics.jsonl')
  assert_refuses(capfd, 'compare runs', workdir, str(workdir))


@pytest.mark.parametrize('kind', ODD_FILES)
@pytest.mark.parametrize('reader', ['gan sample', 'gan evaluate'])
def test_an_odd_checkpoint_folder_holds_no_checkpoints(
  capfd, workdir, kind, reader
):
  ODD_FILES[kind](workdir / 'checkpoints')
  assert_refuses(capfd, reader, workdir, 'train first')


def test_a_config_that_is_a_link_is_read(capfd, workdir):
  (workdir / 'config.json').rename(workdir.parent / 'elsewhere')
  (workdir / 'config.json').symlink_to(workdir.parent / 'elsewhere')
  assert_refuses(capfd, 'gan sample', workdir, 'train first')


@pytest.mark.parametrize(
  'name', ['a\nb', '-1', '1e3', '٣', 'x' * 200, '99999999999999999999', '.7']
)
def test_oddly_named_checkpoints_are_ignored(capfd, workdir, name):
  (workdir / 'checkpoints' / name).mkdir(parents=True)
  assert_refuses(capfd, 'gan sample', workdir)


@pytest.mark.parametrize(
  'lines',
  [
    b'',
    b'\xff\xfe\0\1' * 1000,
    b'[1]\n"x"\n7\nnull\n{}\n',
    b'{"step": "2", "d_loss": 1.0}\n',
    b'{"step": true, "d_loss": 1.0}\n',
    b'{"step": 2, "d_loss": "high"}\n',
    b'{"step": 2, "d_loss": [1, 2]}\n',
    b'{"step": 2, "d_loss": {"a": 1}}\n',
    b'{"step": 1' + b'0' * 400 + b', "d_loss": 1}\n',
    b'{"step": 2, "d_loss": 1' + b'0' * 400 + b'}\n',
    b'[' * 100_000 + b'\n',
  ],
  ids=range(11),
)
def test_malformed_metrics_are_left_out(capfd, workdir, lines):
  (workdir / 'metrics.jsonl').write_bytes(lines)
  assert_refuses(capfd, 'compare runs', workdir, 'train first')


def test_malformed_lines_do_not_hide_other_metrics(workdir):
  lines = (
    b'{"step": 2, "d_loss": 1.0}\ngarbage\n\xff\xfe\n'
    b'{"step": 4, "d_loss": NaN}\n{"step": 3, "d_loss": 1.0}\n'
    b'{"step": 6, "d_loss": null, "g_loss": 2}\n{"step": 8'
  )
  (workdir / 'metrics.jsonl').write_bytes(lines)
  rows = compare_runs.Run(str(workdir)).rows
  assert [row['step'] for row in rows] == [2, 4, 6]


@pytest.mark.parametrize(
  'data',
  [b'', b'random', picture()[:40], b'%!PS-Adobe-3.0 EPSF-3.0\n'],
  ids=range(4),
)
def test_a_broken_picture_is_named(capfd, workdir, data):
  (workdir / 'samples' / 'step_00000004.png').write_bytes(data)
  assert_refuses(capfd, 'compare runs', workdir, 'step_00000004.png')


@pytest.mark.parametrize('kind', ODD_FILES)
def test_a_picture_that_is_no_file_is_named(capfd, workdir, kind):
  ODD_FILES[kind](workdir / 'samples' / 'step_00000004.png')
  assert_refuses(capfd, 'compare runs', workdir, 'step_00000004.png')


@pytest.mark.parametrize('value', ['$\\frac{$', 'x' * 10_000, 'a\nb', '%s{}'])
def test_any_text_can_be_drawn(capfd, workdir, value):
  other = workdir.parent / '$(touch x)'
  workdir.rename(other)
  (other / 'config.json').write_text(json.dumps({'name': value, value: 1}))
  (workdir / 'samples').mkdir(parents=True)
  for path in ('metrics.jsonl', 'samples/step_00000002.png', 'config.json'):
    (workdir / path).write_bytes((other / path).read_bytes())
  (workdir / 'samples' / 'step_final.png').write_bytes(picture())
  (workdir / 'config.json').write_text('{}')
  out = workdir.parent / 'out.png'
  names = f'--workdirs={workdir},{other}'
  assert compare_runs.main(['command', names, f'--output={out}']) == 0
  assert not capfd.readouterr().err
  with PIL.Image.open(out) as drawn:
    assert max(drawn.size) < 10_000


def test_links_are_not_written_through(workdir):
  precious = workdir.parent / 'precious'
  precious.write_text('precious')
  (workdir / '.config.json.partial').symlink_to(precious)
  (workdir / 'config.json').unlink()
  assert run('train', workdir) == 0
  assert precious.read_text() == 'precious'
  assert json.loads((workdir / 'config.json').read_text())


@pytest.mark.parametrize(
  'output', ['.', 'file/x.png', 'folder.png', 'pipe.png', 'x' * 300 + '.png']
)
@pytest.mark.parametrize('reader', ['gan sample', 'compare runs'])
def test_an_impossible_output_is_named(
  capfd, workdir, monkeypatch, output, reader
):
  monkeypatch.chdir(workdir.parent)
  pathlib.Path('file').write_text('')
  pathlib.Path('folder.png').mkdir()
  os.mkfifo('pipe.png')
  main, _ = READERS[reader]
  flag = 'workdirs' if reader == 'compare runs' else 'workdir'
  names = f'{workdir},{workdir}' if flag == 'workdirs' else workdir
  before = contents(workdir.parent)
  assert main(['command', f'--{flag}={names}', f'--output={output}']) == 2
  error = capfd.readouterr().err
  assert error.startswith('error: ')
  assert error.count('\n') == 1
  assert contents(workdir.parent) == before
