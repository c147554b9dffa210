"""Folders as people have them: shown as a viewer does, and nothing is lost."""

import json

import numpy as np
import odd_images
import pytest

from common_flax import data
from common_flax.data import image_sets
from common_flax.data.decode import decode
from common_flax.data.decode import decode_with_facts
from common_flax.data.own import open_images
from common_flax.data.rendering import Rendering
from common_flax.errors import UserError
from common_flax.training.inputs import Inputs
from common_flax.workdir import stored_config
from gan_flax import config as gan_config
from gan_flax.train import train

PICTURES = odd_images.pictures()
SIDE = odd_images.HEIGHT


@pytest.mark.parametrize('name', PICTURES)
def test_a_picture_is_what_a_viewer_shows(name):
  content, expected = PICTURES[name]
  shown = decode(content, None, 3).astype(float)
  np.testing.assert_allclose(shown, expected, atol=2)


@pytest.mark.parametrize('background', ['black', '#ff8000'])
@pytest.mark.parametrize('kind', ['colour', 'grey', 'deep', 'deep grey'])
def test_transparent_pixels_show_the_background(kind, background):
  name = f'{kind} alpha.png' if 'deep' in kind else f'{kind} and alpha.png'
  rendering = Rendering(background)
  shown = decode(PICTURES[name][0], None, 3, rendering)
  colours = odd_images.GREY if 'grey' in kind else odd_images.COLOUR
  expected = odd_images.over(colours, odd_images.ALPHA, rendering.colour)
  np.testing.assert_allclose(shown, expected, atol=2)


def test_background_none_shows_hidden_colours_as_earlier_versions_did():
  content, _ = PICTURES['colour and alpha.png']
  shown = decode(content, None, 3, Rendering('none'))
  np.testing.assert_array_equal(shown, odd_images.COLOUR)


def folder_of(tmp_path, files):
  folder = tmp_path / 'photos'
  for name, content in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
  return folder


def load(folder, split='train', **options):
  return data.load_source('folder', split, SIDE, path=str(folder), **options)


def many(image=odd_images.save, count=20):
  """Different images by name."""
  return {f'{i}.png': image(odd_images.GREY + i, 'PNG') for i in range(count)}


def test_greys_on_a_coloured_background_are_in_colour(tmp_path):
  files = {'a.png': PICTURES['grey and alpha.png'][0]}
  for background, channels in (('white', 1), ('red', 3), ('none', 1)):
    images = open_images(
      str(folder_of(tmp_path, files)), 'train', rendering=Rendering(background)
    )
    assert images.channels == channels


@pytest.mark.parametrize('color', [False, True])
@pytest.mark.parametrize('bits', [8, 10, 12])
def test_shallow_values_in_deep_files_are_noted_and_can_be_scaled(
  tmp_path, bits, color
):
  values = odd_images.COLOUR if color else odd_images.GREY
  deep = values.astype(np.uint16) << (bits - 8)
  deep[0, 0] = 2**bits - 1
  folder = folder_of(tmp_path, {'a.png': odd_images.png(deep)})
  (note,) = load(folder).report.notes
  assert f'--config.dataset.white_level={2**bits - 1}.' in note
  source = load(folder, rendering=Rendering(white_level=2**bits - 1))
  assert not source.report.notes
  assert source.examples.max() > 180
  shown = decode(
    odd_images.png(deep), None, 3, Rendering(white_level=2**bits - 1)
  )
  expected = values if color else np.stack([values] * 3, -1)
  np.testing.assert_allclose(shown[1:], expected[1:], atol=2)


def test_a_white_level_leaves_images_of_smaller_types_as_they_are():
  content, expected = PICTURES['colour.png']
  shown = decode(content, None, 3, Rendering(white_level=4095))
  np.testing.assert_array_equal(shown, expected)
  dark = odd_images.png(odd_images.GREY // 16)
  shown = decode(dark, None, 1, Rendering(white_level=15))
  np.testing.assert_array_equal(shown[..., 0], odd_images.GREY // 16 * 17)


def test_floats_above_one_and_dark_bytes_are_noted(tmp_path):
  floats = odd_images.GREY.astype(np.float32)
  folder = folder_of(
    tmp_path,
    {
      'a.tif': odd_images.tiff(floats),
      'b.png': odd_images.png(odd_images.GREY // 50),
    },
  )
  dark, bright = load(folder).report.notes
  assert '8 bits' in dark
  assert 'floating point' in bright
  assert 'white_level=255.' in bright
  shown = decode(odd_images.tiff(floats), None, 1, Rendering(white_level=255))
  np.testing.assert_array_equal(shown[..., 0], odd_images.GREY)


def test_facts_tell_what_a_picture_lacks():
  def facts(name, size=8):
    return decode_with_facts(PICTURES[name][0], size, 3)[1]

  assert facts('colour and alpha.png').is_transparent
  assert not facts('opaque alpha.png').is_transparent
  for name in ('animation.gif', 'animation.webp', 'animation.png'):
    assert facts(name).has_frames
  assert facts('pages.tiff').has_frames
  assert facts('two photographs.jpg').has_frames
  for ending in ('png', 'jpg', 'webp', 'tiff', 'bmp'):
    assert not facts(f'colour.{ending}').has_frames
  assert facts('colour.png', 17).is_small
  assert not facts('colour.png', 16).is_small


@pytest.fixture
def odd_folder(tmp_path):
  folder = tmp_path / 'odd'
  folder.mkdir()
  odd_images.write(folder)
  (folder / 'nowhere.png').symlink_to('missing.png')
  return folder


def test_every_file_of_an_odd_folder_is_an_image_or_named(odd_folder):
  sources = [load(odd_folder, x, skip_corrupt=True) for x in ('train', 'test')]
  named = {}
  for source in sources:
    named |= {
      x.name.removeprefix(f'{odd_folder}/'): x.reason
      for x in source.report.left_out
    }
  expected = {name: why for name, (_, why) in odd_images.left_out().items()}
  expected['nowhere.png'] = 'a broken link'
  copies = [name for name, why in named.items() if why == 'also trained on']
  assert {k: v for k, v in named.items() if k not in copies} == expected
  assert sum(map(len, sources)) == len(PICTURES) - len(copies)
  line, *notes = sources[0].report.lines('run/left_out.txt')
  assert line.count('\n') == 0
  assert line.startswith(f'Left out {len(sources[0].report.left_out)} files: ')
  assert 'without the ending of an image (' in line
  assert line.endswith('; named in run/left_out.txt.')
  assert any('with transparency, laid on white' in note for note in notes)
  assert any('several frames or pages' in note for note in notes)


def test_a_corrupt_file_of_an_odd_folder_stops_the_run(odd_folder):
  (odd_folder / 'nowhere.png').unlink()
  with pytest.raises(UserError, match=r'\.(png|jpg|bmp|gif): cannot be dec'):
    load(odd_folder)


def test_a_run_names_what_it_leaves_out(
  tmp_path, odd_folder, capsys, smoke_config, untrained
):
  smoke_config.dataset.update(
    {'name': 'folder', 'path': str(odd_folder), 'skip_corrupt': True}
  )
  workdir = tmp_path / 'run'
  assert train(smoke_config.lock(), workdir) is None
  lines = (workdir / 'left_out.txt').read_text().splitlines()
  assert f'hidden: {odd_folder}/._photo.png' in lines
  assert any(f'{odd_folder}/notes.txt' in line for line in lines)
  out = capsys.readouterr().out
  assert out.count(f'named in {workdir}/left_out.txt') == 1
  for path in odd_folder.iterdir():
    if path.name not in PICTURES:
      path.unlink()
  with smoke_config.unlocked():
    smoke_config.dataset.skip_corrupt = False
  assert train(smoke_config, tmp_path / 'other') is None
  assert not (tmp_path / 'other' / 'left_out.txt').exists()


def test_every_format_is_read(tmp_path):
  files = {
    name: content
    for name, (content, _) in PICTURES.items()
    if name.startswith(('colour.', 'grey.'))
  }
  files['PHOTO.JPE'] = PICTURES['turned 3.jpg'][0]
  files['scan.TIF'] = PICTURES['fax.tiff'][0]
  folder = folder_of(tmp_path, {f'train/{k}': x for k, x in files.items()})
  images = open_images(str(folder), 'train')
  assert not images.report.left_out
  assert {*files} == {images.name(i).split('/')[-1] for i in range(len(images))}


def test_a_validation_folder_is_the_split_test_where_there_is_none(tmp_path):
  files = {f'Train/{name}': x for name, x in many().items()}
  files['valid/a.png'] = odd_images.save(odd_images.GREY // 2, 'PNG')
  folder = folder_of(tmp_path, files)
  assert len(load(folder)) == 20
  source = load(folder, 'test')
  assert len(source) == len(load(folder, 'val')) == 1
  assert 'no folder test' in source.report.notes[0]
  (folder / 'valid' / 'a.png').unlink()
  (folder / 'valid').rmdir()
  with pytest.raises(
    UserError, match=r'\(or --split\): no folder .*test; .* are train$'
  ):
    load(folder, 'test')


@pytest.mark.parametrize('folders', [('', ''), ('train/', 'test/')])
def test_an_image_that_is_trained_on_is_not_held_out(tmp_path, folders):
  inside, outside = folders
  files = {f'{inside}{name}': x for name, x in many(count=40).items()}
  files |= {f'{outside}copy {name}': x for name, x in many().items()}
  files[f'{outside}new.png'] = odd_images.save(odd_images.GREY // 2, 'PNG')
  folder = folder_of(tmp_path, files)
  train_images, test_images = load(folder), load(folder, 'test')
  seen = {x.tobytes() for x in train_images.examples}
  assert not seen & {x.tobytes() for x in test_images.examples}
  copies = [x for x in test_images.report.left_out if x.detail]
  assert {x.reason for x in copies} == {'also trained on'}
  assert len(train_images) + len(test_images) + len(copies) == len(files)


def test_a_test_folder_of_nothing_but_copies_is_kept_and_said(tmp_path):
  files = {f'train/{name}': x for name, x in many().items()}
  files |= {f'test/{name}': x for name, x in many().items()}
  source = load(folder_of(tmp_path, files), 'test')
  assert len(source) == 20
  assert 'are also trained on' in source.report.notes[0]


def test_a_stray_picture_leaves_the_labels(tmp_path):
  files = {f'{cls}/{name}': x for cls in 'ab' for name, x in many().items()}
  folder = folder_of(tmp_path, {**files, 'stray.png': files['a/0.png']})
  images = open_images(str(folder), 'train')
  assert images.num_classes == 2
  (stray,) = images.report.left_out
  assert (stray.name, stray.reason) == (
    f'{folder}/stray.png',
    'beside the class folders',
  )


def test_a_hidden_folder_is_named_once(tmp_path):
  files = many() | dict.fromkeys(
    ['.x/a.png', '.x/b.png', '__MACOSX/c.png'], b''
  )
  images = open_images(str(folder_of(tmp_path, files)), 'train')
  found = sorted(
    (x.name.split('/')[-2], x.kind) for x in images.report.left_out
  )
  assert found == [('.x', 'folder'), ('__MACOSX', 'folder')]


def test_compared_folders_are_shown_on_white_and_say_what_they_lack(
  tmp_path, capsys
):
  content, expected = PICTURES['colour and alpha.png']
  folder = folder_of(tmp_path, {'a.png': content, 'notes.txt': b''})
  source = image_sets.read(str(folder))
  np.testing.assert_allclose(source.examples[0], expected, atol=2)
  out = capsys.readouterr().out
  assert 'notes.txt' in out
  assert '1 of 1 images with transparency, laid on white' in out


@pytest.mark.parametrize('value', ['nosuch', '#12345', 'rgba(0, 0, 0, 0)', ''])
def test_a_background_that_is_no_colour_is_refused(value):
  config = gan_config.default().unlock()
  config.dataset.background = value
  with pytest.raises(UserError, match=r'^config\.dataset\.background='):
    gan_config.check(config)


@pytest.mark.parametrize('value', [0.0, -1.0, float('nan'), float('inf')])
def test_a_white_level_that_is_none_is_refused(value):
  config = gan_config.default().unlock()
  config.dataset.white_level = value
  with pytest.raises(UserError, match=r'^config\.dataset\.white_level='):
    gan_config.check(config)


def test_an_older_config_drops_transparency_as_it_did(tmp_path):
  stored = json.loads(stored_config.to_json(gan_config.default()))
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(stored))
  read = stored_config.read_json(path, gan_config.default())
  assert read.dataset.background == 'white'
  del stored['dataset']['background'], stored['dataset']['white_level']
  path.write_text(json.dumps(stored))
  read = stored_config.read_json(path, gan_config.default())
  assert read.dataset.background == 'none'
  assert read.dataset.white_level is None


def test_checkpoints_remember_a_background_that_is_seen(tmp_path):
  for name, expected in (('colour', None), ('colour and alpha', 'white')):
    folder = tmp_path / name
    folder.mkdir()
    (folder / 'a.png').write_bytes(PICTURES[f'{name}.png'][0])
    inputs = Inputs(load(folder), 1, 1, 1, False)
    assert inputs.info.get('background') == expected
