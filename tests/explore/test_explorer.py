"""A real browser does everything that the explorer offers."""

import io
import os
import re
import shutil
import subprocess
import sys
import time

from conftest import recipe
from conftest import ROOT
import jax
import PIL.Image
import pytest

from vae_flax.train import train as train_vae

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(CHROMIUM is None, reason='Chromium is not installed'),
]
sync_api = pytest.importorskip('playwright.sync_api')
pytest.importorskip('nicegui')

GAN, CONDITIONAL, VAE_OF_2, VAE_OF_8, RING, VANISHING = range(6)
ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
PATIENCE = 90  # seconds, for programs to compile


def vae_run(workdir, latent_size, conditioning='none'):
  config = recipe('vae.py', 'smoke')
  config.model.name = 'mlp'
  config.model.hidden_sizes = (16,)
  config.model.base_features = 32
  config.model.latent_size = latent_size
  config.model.conditioning = conditioning
  assert train_vae(config, workdir) is None
  return workdir


@pytest.fixture(scope='module')
def vanishing(trained, tmp_path_factory):
  """A run whose checkpoints a test takes away."""
  return shutil.copytree(trained, tmp_path_factory.mktemp('gone') / 'gone')


@pytest.fixture(scope='module')
def server(
  trained, trained_conditional, trained_points, vanishing, tmp_path_factory
):
  """An explorer of all runs: its process and its address."""
  folder = tmp_path_factory.mktemp('explored')
  runs = [
    trained,
    trained_conditional,
    vae_run(folder / 'vae2', 2),
    vae_run(folder / 'vae8', 8, 'label'),
    trained_points,
    vanishing,
  ]
  compiled = jax.config.jax_compilation_cache_dir
  # Under pytest, NiceGUI would start a server for tests of its own.
  environment = {
    **{k: v for k, v in os.environ.items() if not k.startswith('PYTEST')},
    'PYTHONPATH': str(ROOT),
    'JAX_COMPILATION_CACHE_DIR': str(compiled),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  command = [sys.executable, '-u', '-m', 'common_flax.explore', '--nobrowser']
  command += [f'--workdir={run}' for run in runs]
  log = folder / 'log'
  with (
    log.open('w') as file,
    subprocess.Popen(
      command, cwd=folder, env=environment, stdout=file, stderr=file
    ) as process,
  ):
    try:
      yield process, _address(log, process)
    finally:
      process.terminate()
      process.wait(30)
  assert not re.search('Traceback|error:', log.read_text()), log.read_text()
  assert {path.name for path in folder.iterdir()} <= {
    'log',
    'vae2',
    'vae8',
  }


def _address(log, process):
  end = time.monotonic() + PATIENCE
  while time.monotonic() < end and process.poll() is None:
    if found := re.search(r'at (http://127\.0\.0\.1:\d+)\n', log.read_text()):
      return found[1]
    time.sleep(0.1)
  raise AssertionError(log.read_text())


@pytest.fixture(scope='module')
def browser():
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=CHROMIUM, args=ARGUMENTS
    )
    yield browser
    browser.close()


@pytest.fixture
def visit(server, browser):
  """Opens pages of runs; none of them may ask another machine for anything."""
  _, address = server
  requests, contexts = [], []

  def open_page(run, **query):
    context = browser.new_context()
    contexts.append(context)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.on('request', lambda request: requests.append(request.url))
    query = ''.join(f'&{k}={v}' for k, v in query.items())
    page.goto(f'{address}/?run={run}{query}')
    return page

  yield open_page
  for context in contexts:
    context.close()
  elsewhere = [
    url for url in requests if not url.startswith((address, 'data:', 'blob:'))
  ]
  assert requests
  assert not elsewhere


def source(page, alt):
  """What a picture shows, once it shows something."""
  place = page.locator(f'img[alt="{alt}"][src^="data:"]')
  return place.get_attribute('src')


def changes(page, alt, action):
  """Asserts that an action changes a picture."""
  before = source(page, alt)
  action()
  page.wait_for_function(
    '([alt, old]) => document.querySelector(`img[alt="${alt}"]`).src !== old',
    arg=[alt, before],
  )


def button(page, name):
  page.get_by_role('button', name=name, exact=True).click()


def track_of(page, name):
  """The part of the first slider of that name that takes keys."""
  slider = page.get_by_role('slider', name=re.compile(f'^{name}')).first
  return slider.locator('.q-slider__track-container')


def move(page, name, keys=20):
  """Moves a slider to the right."""
  track = track_of(page, name)
  for _ in range(keys):
    track.press('Control+ArrowRight')


def choose(page, name, option):
  page.get_by_role('combobox', name=name, exact=True).click()
  page.get_by_role('option', name=option, exact=True).click()


def upload(page, name, data):
  """Uploads a file of that name by the only or the first place for it."""
  page.locator('input[type=file]').first.set_input_files(
    {'name': name, 'mimeType': 'image/png', 'buffer': data}
  )


def png(size=(40, 30), value=200):
  file = io.BytesIO()
  PIL.Image.new('L', size, value).save(file, 'PNG')
  return file.getvalue()


SAMPLE, IMAGE = 'The sample', 'The decoded image'


def test_seeds_truncation_and_directions_change_the_sample(visit):
  page = visit(GAN)
  changes(page, SAMPLE, lambda: button(page, 'Another one'))
  changes(page, SAMPLE, lambda: page.get_by_label('Seed').fill('5'))
  page.locator('.q-slider:not(.disabled)[aria-label="Direction 1"]').wait_for()
  changes(page, SAMPLE, lambda: move(page, 'Direction 1'))
  changes(page, SAMPLE, lambda: button(page, 'Back to the middle'))
  seed = page.locator('button.explore-thumb').nth(3)
  changes(page, SAMPLE, seed.click)
  assert page.get_by_label('Seed').input_value() == '3'


def test_marked_samples_are_mixed_and_walked_between(visit):
  page = visit(GAN)
  source(page, SAMPLE)
  button(page, 'Mark')
  for _ in range(2):
    changes(page, SAMPLE, lambda: button(page, 'Another one'))
    button(page, 'Mark')
  page.get_by_text('c', exact=True).first.wait_for()
  mix = [page.get_by_role('combobox', name=each, exact=True) for each in 'ABC']
  assert [each.input_value() for each in mix] == ['a', 'b', 'c']
  changes(page, SAMPLE, lambda: button(page, 'Mix'))
  changes(page, SAMPLE, lambda: move(page, 'Walk', 5))
  changes(page, SAMPLE, lambda: button(page, 'Play'))
  page.get_by_role('button', name='Pause', exact=True).wait_for()
  button(page, 'Forget them')
  page.get_by_role('button', name='Play', exact=True).wait_for()


def test_training_images_and_the_discriminator_are_asked(visit):
  page = visit(GAN)
  source(page, SAMPLE)
  button(page, 'Search')
  near = page.locator('div.explore-thumb')
  near.nth(7).wait_for()
  distances = [float(text) for text in near.all_inner_texts()]
  assert distances == sorted(distances)
  button(page, "Discriminator's opinion")
  page.get_by_text(re.compile(r'real with \d+\s?%|score')).wait_for()


def test_a_class_is_chosen_and_a_picture_is_found(visit):
  page = visit(CONDITIONAL)
  changes(page, SAMPLE, lambda: choose(page, 'Class', '3'))
  upload(page, 'mine.png', png())
  found = page.get_by_text(re.compile(r'PSNR \d+\.\d dB.*class \d'))
  label = found.inner_text()[-1]
  assert source(page, 'The nearest image')
  changes(page, SAMPLE, lambda: button(page, 'Use it'))
  chosen = page.get_by_role('combobox', name='Class', exact=True)
  sync_api.expect(chosen).to_have_value(label, timeout=1000 * PATIENCE)


def test_checkpoints_are_switched(visit):
  page = visit(GAN)
  before = source(page, SAMPLE)
  choose(page, 'Checkpoint', 'step 4')
  page.wait_for_url('**step=4')
  assert source(page, SAMPLE) != before


def test_two_latents_have_a_map_and_pictures_are_encoded(visit):
  page = visit(VAE_OF_2)
  place = page.get_by_role('img', name='Map of the latents')
  page.get_by_text('●').first.wait_for()
  changes(
    page, IMAGE, lambda: place.click(position={'x': 30, 'y': 30}, force=True)
  )
  changes(page, IMAGE, lambda: upload(page, 'mine.png', png()))
  assert source(page, 'Its reconstruction')
  page.get_by_label('Draw here').scroll_into_view_if_needed()
  box = page.get_by_label('Draw here').bounding_box()

  def stroke():
    page.mouse.move(box['x'] + 20, box['y'] + 20)
    page.mouse.down()
    page.mouse.move(box['x'] + 150, box['y'] + 150, steps=5)
    page.mouse.up()

  changes(page, 'The picture', stroke)


def test_latents_are_ordered_by_their_use_and_a_class_is_chosen(visit):
  page = visit(VAE_OF_8)
  names = page.get_by_text(re.compile(r'^Latent \d \('))
  names.nth(7).wait_for()
  nats = [
    float(re.search(r'\((.*) nats', text)[1])
    for text in names.all_inner_texts()
  ]
  assert nats == sorted(nats, reverse=True)
  changes(page, IMAGE, lambda: move(page, 'Latent'))
  changes(page, IMAGE, lambda: button(page, 'Another one'))
  changes(page, IMAGE, lambda: choose(page, 'Class', '3'))
  page.locator('input[type=file]').nth(1).set_input_files(
    {'name': 'a.png', 'mimeType': 'image/png', 'buffer': png()}
  )
  page.get_by_text(re.compile(r'PSNR \d+\.\d dB.*, class \d')).wait_for()
  button(page, 'Use it')


def test_points_of_a_world_move_over_steps(visit):
  page = visit(RING)
  alt = 'Samples in the plane'
  assert source(page, alt)
  page.get_by_text('Step 8', exact=True).wait_for()
  track = track_of(page, 'Step')
  changes(page, alt, lambda: track.press('ArrowLeft'))
  page.get_by_text('Step 6', exact=True).wait_for()
  opinion = page.get_by_text("Discriminator's opinion")
  changes(page, alt, opinion.click)


def test_two_visitors_do_not_disturb_each_other(visit):
  one, two = visit(GAN), visit(GAN)
  before = source(two, SAMPLE)
  changes(one, SAMPLE, lambda: button(one, 'Another one'))
  button(one, 'Mark')
  one.get_by_text('a', exact=True).first.wait_for()
  assert source(two, SAMPLE) == before
  assert not two.get_by_text('a', exact=True).count()


def huge():
  """A picture of 20,000 pixels a side, in black and white."""
  file = io.BytesIO()
  PIL.Image.new('1', (20_000, 20_000)).save(file, 'PNG')
  return file.getvalue()


@pytest.mark.parametrize(
  ('create', 'sentence'),
  [
    (huge, 'cannot be read as a picture'),
    (lambda: b'no picture at all', 'cannot be read as a picture'),
    (lambda: b'', 'The file is empty'),
    (lambda: png()[:60], 'cannot be read as a picture'),
  ],
  ids=['huge', 'text', 'empty', 'cut'],
)
def test_a_wrong_file_gets_a_sentence(visit, create, sentence):
  page = visit(GAN)
  before = source(page, SAMPLE)
  upload(page, '../../mine.png', create())
  page.get_by_text(sentence).wait_for()
  assert source(page, SAMPLE) == before


@pytest.mark.parametrize('run', ['77', '-1', '../../etc', ''])
def test_a_browser_names_runs_by_number_alone(visit, run):
  visit(run).get_by_text('There is no such run').wait_for()


def test_a_checkpoint_that_vanishes_gets_a_sentence(visit, vanishing):
  shutil.rmtree(vanishing / 'checkpoints' / '4')
  page = visit(VANISHING, step=4)
  page.get_by_role('alert').wait_for()
  shutil.rmtree(vanishing / 'checkpoints')
  page = visit(VANISHING)
  page.get_by_text('holds no checkpoint').wait_for()


def test_a_tab_closed_in_a_search_leaves_the_others_alone(visit):
  page = visit(CONDITIONAL)
  source(page, SAMPLE)
  upload(page, 'mine.png', png(value=30))
  page.get_by_text('Searching').wait_for()
  page.close()
  other = visit(CONDITIONAL)
  changes(other, SAMPLE, lambda: button(other, 'Another one'))


def test_memory_stays_flat_over_quick_clicks(visit, server):
  process, _ = server
  page = visit(GAN)
  source(page, SAMPLE)
  another = page.get_by_role('button', name='Another one', exact=True)

  def click(times):
    another.evaluate(
      """async (button, times) => {
        for (let i = 0; i < times; i++) {
          button.click();
          await new Promise((done) => setTimeout(done, 10));
        }
      }""",
      times,
    )

  click(300)
  before = resident_bytes(process.pid)
  click(1000)
  changes(page, SAMPLE, another.click)
  assert resident_bytes(process.pid) - before < 30 * 2**20


def resident_bytes(pid):
  with open(f'/proc/{pid}/statm') as file:
    return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def test_a_stranger_host_is_refused(server):
  import urllib.error
  import urllib.request

  _, address = server
  request = urllib.request.Request(address, headers={'Host': 'example.com'})
  with pytest.raises(urllib.error.HTTPError, match='400') as error:
    urllib.request.urlopen(request, timeout=30)
  error.value.close()
