"""The notebooks of the two chapters run, and show how a run trains."""

import base64
import re

from conftest import ROOT
import jax
import jupytext
import matplotlib.pyplot as plt
import nbclient
import pytest

FOLDER = ROOT / 'docs/notebooks'
NAMES = sorted(file.stem for file in FOLDER.glob('[0-9]*.md'))
TRAINING = '6_train_a_dcgan'
SMALL = 'num_steps = 8\nbase_features = 4'


def read(name):
  return jupytext.read(FOLDER / f'{name}.md')


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:FigureCanvasAgg is non-interactive')
@pytest.mark.parametrize('name', [name for name in NAMES if name != TRAINING])
def test_a_notebook_runs_and_draws(name):
  plt.switch_backend('agg')
  variables = {}
  try:
    with jax.numpy_rank_promotion('allow'):  # as in a student's process
      for cell in read(name).cells:
        if cell.cell_type == 'code':
          exec(compile(cell.source, name, 'exec'), variables)
    assert plt.get_fignums()
    for number in plt.get_fignums():
      plt.figure(number).canvas.draw()
  finally:
    plt.close('all')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The notebook that trains, run by a kernel, with small networks."""
  notebook = read(TRAINING)
  (cell,) = (
    cell
    for cell in notebook.cells
    if 'parameters' in cell.metadata.get('tags', ())
  )
  cell.source = SMALL
  folder = str(tmp_path_factory.mktemp('notebook'))
  client = nbclient.NotebookClient(
    notebook, timeout=300, resources={'metadata': {'path': folder}}
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', str(ROOT))
    return client.execute()


@pytest.mark.slow
def test_training_in_a_cell_shows_a_bar_and_the_latest_samples(trained):
  (cell,) = (cell for cell in trained.cells if cell.source.startswith('train('))
  shown = [
    out.data for out in cell.outputs if out.output_type == 'display_data'
  ]
  bar, picture = shown
  assert 'value="8" max="8"' in bar['text/html']
  assert 'd_loss' in bar['text/html']
  assert picture['text/plain'] == 'samples after 8 steps'
  assert base64.b64decode(picture['image/png']).startswith(b'\x89PNG')
  printed = ''.join(out.get('text', '') for out in cell.outputs)
  assert 'First step after' in printed
  assert 'step 8/8' not in printed


@pytest.mark.slow
def test_the_kernel_draws_metrics_and_samples(trained):
  drawn = [
    out
    for cell in trained.cells
    for out in cell.get('outputs', ())
    if out.get('data', {}).get('text/plain', '').startswith('<Figure')
  ]
  assert len(drawn) == 2
  assert all('image/png' in out.data for out in drawn)


@pytest.mark.parametrize('name', NAMES)
def test_notebooks_are_kept_without_outputs_and_end_with_exercises(name):
  notebook = read(name)
  assert notebook.metadata.kernelspec.name == 'python3'
  assert '## Exercises' in notebook.cells[-1].source
  assert re.search(r'^\*UDL 1[457]\.', notebook.cells[0].source, re.M)
