"""The report of runs: what it shows, and what it does with damaged workdirs."""

import base64
import html.parser
import io
import json
import re
import shlex
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest

from common_flax import images as images_lib
from common_flax.report import __main__ as command
from common_flax.report import facts
from common_flax.report import page
from common_flax.report import pictures
from common_flax.report import runs as runs_lib
from common_flax.workdir import provenance

EVIL = '<script>alert("x")</script>&'
CONFIG = {
  'batch_size': 16,
  'num_steps': 20,
  'seed': 3,
  'dataset': {'name': 'folder', 'path': f'/data/{EVIL}', 'split': 'train'},
  'model': {'name': 'dcgan'},
}
ROWS = [
  {'step': 10, 'd_loss': 0.5, 'g_loss': 1.25, 'only_here': None},
  {'step': 20, 'd_loss': 0.75, 'g_loss': None, 'only_here': 7.0},
]
LOG = """2026-11-29 10:00:00 Training on 1 x cpu in runs/x
2026-11-29 10:00:01 step 10/20  d_loss 0.5
2026-11-29 10:00:02 Step 10: the generator draws <b>copies</b>. Try less.
2026-11-29 10:00:02 Checkpoint 10 cannot be read (x); taking 5 instead.
2026-11-29 10:00:03 Step 20: fid 12.5, precision 0.1, kid nan
a line without a time
"""
EVALUATION = {
  'fid': 2.5,
  'real_fid': 1.5,
  'perfect_fid': 0.125,
  'fid_standard_error': 0.25,
  'by_class': [1, 2],
  'provenance': {'num_samples': 1000, 'checkpoints': [{'step': 10}]},
}


def record(**changes):
  start = provenance.Start(
    0,
    '2026-11-29T10:00:00+00:00',
    'python -m family.main --config=dcgan:smoke',
    '1 x cpu',
    {'processor': 'a processor', 'cores': 2},
    {'jax': '0.10.2'},
    '2026-11-29T10:03:20+00:00',
    20,
  )
  fields = {
    'function': 'family.steps.train_step',
    'data': {
      'kind': 'images',
      'image_shape': [8, 6, 3],
      'num_examples': 1500,
      'num_classes': 2,
    },
    'parameters': {'generator': 1000, 'discriminator': 234},
    'panels': {'losses': ['d_loss', 'g_loss', 'missing']},
    'starts': [start],
  }
  return provenance.Provenance(**fields | changes)


def make_run(folder, config=CONFIG, rows=ROWS):
  """A workdir as a run leaves it, but for the checkpoints."""
  (folder / 'samples').mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(config))
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'metrics.jsonl').write_text(lines)
  (folder / 'log.txt').write_text(LOG)
  (folder / 'evaluation.json').write_text(json.dumps(EVALUATION))
  (folder / 'classes.json').write_text(json.dumps({'class_names': ['a', EVIL]}))
  provenance.write(folder, record())
  for step in (0, 10, 20):
    picture = np.full((4, 4, 3), step, np.uint8)
    images_lib.write_png(folder / f'samples/step_{step:08d}.png', picture)
  return folder


@pytest.fixture
def run(tmp_path):
  return make_run(tmp_path / 'x<i>y')


def report(*workdirs):
  text, faults = page.render([runs_lib.read(each) for each in workdirs])
  return text, faults


class Parsed(html.parser.HTMLParser):
  """The texts, tags and attributes of a page; script and style apart."""

  def __init__(self, text):
    super().__init__()
    self.words, self.tags, self.raw, self._inside = [], [], [], ''
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self._inside = tag

  def handle_endtag(self, tag):
    self._inside = ''

  def handle_data(self, data):
    is_raw = self._inside in ('script', 'style')
    (self.raw if is_raw else self.words).append(data)

  @property
  def text(self):
    return ' '.join(' '.join(self.words).split())


def test_a_report_tells_what_was_trained_on_what_and_how(run):
  text = Parsed(report(run)[0]).text
  for words in (
    'dcgan on folder',
    'dcgan:smoke',
    'family.steps.train_step',
    '1,500 images of 6 x 8 pixels, colour',
    f'2: a, {EVIL}',
    '1,234: generator 1,000, discriminator 234',
    '20, each with a batch of 16 images',
    '3 min 20 s',
    'a processor',
    'jax 0.10.2',
    'python -m family.main \\ --config=dcgan:smoke',
    'Step 10: the generator draws <b>copies</b>. Try less.',
    'Checkpoint 10 cannot be read',
    'fid 2.500 ± 0.250 1.500 0.125',  # this run, real and perfect samples
    "dataset.path '/data/",
  ):
    assert words in text
  assert 'Step 20: fid' not in text  # a score is no warning
  assert 'by class' not in text


def test_a_command_may_have_spaces_and_quotes(run):
  words = ['main', '--config=quick', "--workdir=my 'best' --run", '-x y']
  start = provenance.Start(0, 'now', shlex.join(words))
  provenance.write(run, record(starts=[start]))
  (command,) = facts.commands(runs_lib.read(run))
  assert command.count('\n') == 2
  assert shlex.split(command.replace('\\\n', '')) == words


def test_nothing_in_a_report_is_markup_or_loaded(run):
  text, _ = report(run)
  parsed = Parsed(text)
  assert parsed.text.count(EVIL) == 3  # the folder's path twice, the class
  scripts = [attributes for tag, attributes in parsed.tags if tag == 'script']
  assert len(scripts) == 5
  assert not [tag for tag, _ in parsed.tags if tag in ('b', 'i', 'link')]
  for _, attributes in parsed.tags:
    assert attributes.get('src', 'data:').startswith('data:')
    assert 'href' not in attributes
  policy = [a['content'] for t, a in parsed.tags if a.get('http-equiv')]
  assert policy[0].startswith("default-src 'none'; img-src data:;")


def test_curves_hold_the_numbers_and_escape_names(tmp_path):
  rows = [{'step': 5, 'd_loss': 0.123456789, '</script><b>': 1.0}]
  run = make_run(tmp_path / 'run', rows=rows)
  text, _ = report(run)
  data = re.search('id="data">(.*?)</script>', text)[1]
  first, other = json.loads(data)
  assert first['steps'] == [5]  # the recorded panel
  assert first['curves'] == [
    {'label': 'd_loss', 'colour': 0, 'values': [0.123457]}
  ]
  assert other['curves'][0]['label'] == '</script><b>'


def test_pictures_are_embedded_with_words_for_those_who_cannot_see(run):
  images = [a for tag, a in Parsed(report(run)[0]).tags if tag == 'img']
  assert [a['alt'].rpartition(' at ')[2] for a in images] == [
    'step 20',  # the last samples
    'step 0',
    'step 10',
    'step 20',
  ]
  data = base64.b64decode(images[2]['src'].partition(',')[2])
  assert PIL.Image.open(io.BytesIO(data)).getpixel((0, 0)) == (10, 10, 10)


def test_every_table_and_field_has_a_name(run):
  tags = Parsed(report(run)[0]).tags
  names = [tag for tag, _ in tags]
  assert names.count('table') == names.count('caption') > 4
  assert all(a['scope'] in ('row', 'col') for tag, a in tags if tag == 'th')
  for tag, attributes in tags:
    if tag == 'input' or attributes.get('role'):
      assert attributes['aria-label']


def test_long_runs_are_thinned_out(tmp_path):
  rows = [{'step': i, 'd_loss': float(i)} for i in range(1, 2502)]
  run = make_run(tmp_path / 'run', rows=rows)
  for step in range(100, 200):
    shutil.copy(
      run / 'samples/step_00000010.png', run / f'samples/step_{step:08d}.png'
    )
  text, _ = report(run)
  parsed = Parsed(text)
  frames = [a for t, a in parsed.tags if 'frame' in a.get('class', '').split()]
  assert len(frames) == 24
  steps = json.loads(re.search('id="data">(.*?)</script>', text)[1])[0]['steps']
  assert steps[0] == 1 and steps[-1] == 2501 and len(steps) == 835
  assert 'one row in 3 of 2,501 is drawn' in parsed.text


def test_large_pictures_become_small_ones():
  noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
  source = pictures.data_uri(PIL.Image.fromarray(noise), 400, 10_000)
  kind, _, data = source.partition(',')
  assert kind == 'data:image/jpeg;base64'
  assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).size == (400, 300)


def test_several_runs_are_shown_side_by_side(run, tmp_path):
  config = CONFIG | {'seed': 4}
  other = make_run(tmp_path / 'other', config, [{'step': 20, 'd_loss': 9.0}])
  text, _ = report(run, other)
  told = Parsed(text).text
  assert 'Fields that differ Field x<i>y other seed 3 4' in told
  assert 'other: real examples' in told
  charts = json.loads(re.search('id="data">(.*?)</script>', text)[1])
  assert charts[0]['steps'] == [10, 20]
  assert charts[0]['curves'] == [
    {'label': 'x<i>y', 'colour': 0, 'values': [0.5, 0.75]},
    {'label': 'other', 'colour': 1, 'values': [None, 9.0]},
  ]


def test_runs_in_folders_of_one_name_are_told_apart(tmp_path):
  runs = [make_run(tmp_path / each / 'run') for each in ('one', 'two')]
  (runs[1] / 'evaluation.json').write_text('{"fid": 7.5}')
  told = Parsed(report(*runs)[0]).text
  assert f'{runs[0]} {runs[0]}: real examples' in told
  assert 'fid 2.500 ± 0.250 1.500 0.125 7.500' in told


def test_a_run_that_has_only_begun_has_a_report(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(CONFIG))
  text, faults = report(tmp_path)
  told = Parsed(text).text
  assert not faults
  for words in (
    'has taken 0 of 20 steps so far',
    'There are no samples yet',
    'There are no metrics yet',
    'has not been evaluated',
    'has no log.txt',
    'did not record its command',
  ):
    assert words in told


def test_what_cannot_be_read_is_named_and_left_out(run, capsys):
  (run / 'samples/step_00000010.png').write_bytes(b'\x89PNG, damaged')
  (run / 'evaluation.json').write_text('{')
  (run / 'run.json').write_text('{"starts": 3}')
  (run / 'metrics.jsonl').write_text('{"step": 10, "d_loss": 1}\n{"st\nx\n')
  (run / 'classes.json').write_text('[]')
  text, faults = report(run)
  told = Parsed(text).text
  named = {re.search(r'(\w+)\.\w+: ', fault)[1] for fault in faults}
  assert named == {'step_00000010', 'evaluation', 'run', 'classes'}
  assert all(' '.join(fault.split()) in told for fault in faults)
  assert '2 damaged lines are left out' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('config.json', {'num_steps': 'x'}),
    ('config.json', {'seed': 1e300}),
    ('config.json', {'batch_size': None}),
    ('config.json', {'dataset': None, 'model': [[1]]}),
    ('run.json', {'panels': {'x': 3}}),
    ('run.json', {'panels': {'x': [3]}}),
    ('run.json', {'parameters': {'x': 'y'}, 'data': {'num_examples': 'x'}}),
    ('run.json', {'data': {'image_shape': 3, 'num_classes': [], 'kind': 1}}),
    ('run.json', {'starts': [{'step': 'x', 'began': 3}]}),
    ('run.json', {'starts': [{'step': 1, 'began': 3, 'ended': 4}]}),
    ('run.json', {'starts': [{'step': 1, 'began': '', 'versions': 3}]}),
    ('evaluation.json', {'fid': 10**400, 'real_fid': 'x', 'provenance': 3}),
  ],
)
def test_files_that_somebody_has_changed_end_in_no_traceback(
  run, tmp_path, capsys, name, changes
):
  stored = json.loads((run / name).read_text())
  (run / name).write_text(json.dumps(stored | changes))
  flags = [f'--workdir={run}', f'--output={tmp_path / "x.html"}']
  status = command.main(['command', *flags])
  assert status in (0, 2)
  assert capsys.readouterr().err.count('\n') == (1 if status else 0)


def test_numbers_that_are_not_finite_leave_the_page_valid(tmp_path):
  run = make_run(tmp_path / 'run')
  line = '{"step": 5, "d_loss": Infinity}\n{"step": 6, "d_loss": 2}\n'
  (run / 'metrics.jsonl').write_text(line)
  data = re.search('id="data">(.*?)</script>', report(run)[0])[1]
  assert 'Infinity' not in data
  assert json.loads(data)[0]['curves'][0]['values'] == [2.0]


def test_names_that_are_no_text_do_not_break_a_page(tmp_path):
  odd = 'a\x00b\ud800\x1b[31m'
  config = CONFIG | {'model': {'name': odd}}
  text, _ = report(make_run(tmp_path / 'run', config))
  text.encode()
  assert r'a\x00b\ud800\x1b[31m' in Parsed(text).text


def test_a_report_is_written_anew_only_if_there_is_one(
  run, capsys, monkeypatch
):
  page.refresh(run)
  assert not (run / page.FILE).exists()
  (run / page.FILE).write_text('old')
  page.refresh(run)
  assert 'real examples' in (run / page.FILE).read_text()
  monkeypatch.setattr(page, 'write', lambda unused: 1 / 0)
  page.refresh(run)
  told = 'report.html cannot be written: division by zero\n'
  assert capsys.readouterr().out == told


def test_the_command_writes_a_page(run, tmp_path, capsys):
  output = tmp_path / 'new' / 'report.html'
  flags = [f'--workdir={run}', f'--output={output}']
  assert command.main(['command', *flags]) == 0
  assert 'Report of x<i>y: ' in capsys.readouterr().out
  assert output.read_text().startswith('<!DOCTYPE html>\n<html lang="en">')


def test_mistakes_are_one_line(run, tmp_path, refuses):
  good, out = f'--workdir={run}', f'--output={tmp_path / "r.html"}'
  empty = tmp_path / 'empty'
  empty.mkdir()
  damaged = make_run(tmp_path / 'damaged')
  (damaged / 'config.json').write_text('{"a": ')
  file = tmp_path / 'file'
  file.touch()
  for flags, *words in (
    ([out], '--workdir', 'missing'),
    ([good], '--output', 'missing'),
    (['--workdir=/nowhere', out], '/nowhere', 'no such folder'),
    (['--workdir=', out], '--workdir', 'empty'),
    ([f'--workdir={file}', out], 'no such folder'),
    ([f'--workdir={empty}', out], 'config.json', 'empty a workdir?'),
    ([f'--workdir={damaged}', out], 'config.json', 'cannot be read'),
    ([good, good, out], 'given twice'),
    ([good, '--output=r.pdf'], '.html'),
    ([good, f'--output={file}/r.html'], 'file'),
    ([good, '--output=gs://x/r.html'], 'this machine'),
  ):
    refuses(command.main, flags, *words, folder=tmp_path)


CHROMIUM = shutil.which('chromium')


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason='needs chromium')
def test_a_browser_draws_the_curves(run, tmp_path):
  page.write(run)
  flags = '--headless --no-sandbox --disable-gpu --no-first-run --dump-dom'
  process = subprocess.run(
    [
      CHROMIUM,
      *flags.split(),
      '--disable-background-networking',
      f'--user-data-dir={tmp_path / "browser"}',
      (run / page.FILE).as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=60,
    check=True,
  )
  parsed = Parsed(process.stdout)
  assert [tag for tag, _ in parsed.tags].count('canvas') == 1  # one is folded
  shown = [a for t, a in parsed.tags if 'frame' in a.get('class', '').split()]
  assert ['on' in a['class'].split() for a in shown] == [False, False, True]
