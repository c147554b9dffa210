"""Which fields of `config.dataset` have an effect on which data set.

A new field gets a row in EFFECTS, see `common_flax.effects`.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from common_flax.data.worlds import WORLDS
from common_flax.effects import ALWAYS
from common_flax.effects import Condition
from common_flax.effects import Effects
from common_flax.effects import needs

CUSTOM = 'custom'  # the `dataset.name` of a source that was given from Python

_NOT_TFDS = ('digits', 'folder', 'stacked', CUSTOM, *WORLDS)


def _is_stacked(config: ConfigDict) -> bool:
  return config.dataset.name == 'stacked'


_LOADED = Condition(
  ('dataset.name',),
  lambda config: config.dataset.name != CUSTOM,
  'leave out the source',
)


def _reads(
  is_read: Callable[[str], bool], example: str
) -> tuple[Condition, ...]:
  """The conditions of fields about reading certain data sets.

  Args:
    is_read: whether they concern the data set of this name, also where it is
      the one behind 'stacked'.
    example: a name of which `is_read` is true.
  """
  return (
    _LOADED,
    Condition(
      ('dataset.name',),
      lambda config: _is_stacked(config) or is_read(config.dataset.name),
      f'add --config.dataset.name={example}',
    ),
    Condition(
      ('dataset.stack_of',),
      lambda config: (
        not _is_stacked(config) or is_read(config.dataset.stack_of)
      ),
      f'add --config.dataset.stack_of={example}',
    ),
  )


# Where the data are a folder of images, prepared by TFDS, or either of them.
_FOLDERS = _reads(lambda name: name == 'folder', 'folder')
_TFDS = _reads(lambda name: name not in _NOT_TFDS, 'mnist')
_FILES = _reads(
  lambda name: name == 'folder' or name not in _NOT_TFDS, 'folder'
)
# Arrays hold pixels, not files that are damaged or transparent.
_ENCODED = Condition(
  ('dataset.path',),
  lambda config: (
    not str(config.dataset.path).lower().endswith(('.npz', '.npy'))
  ),
)
_STACKS = (_LOADED, needs('dataset.name', 'stacked'))
_IMAGES = (
  Condition(
    ('dataset.name',), lambda config: config.dataset.name not in WORLDS
  ),
)
_IS_SEEN = (
  *_IMAGES,
  Condition(
    ('dataset.name', 'dataset.crop'),
    lambda config: (
      config.dataset.crop == 'fit' or all(c.holds(config) for c in _FILES)
    ),
    'add --config.dataset.crop=fit',
  ),
  Condition(
    ('dataset.path',),
    lambda config: config.dataset.crop == 'fit' or _ENCODED.holds(config),
    'add --config.dataset.crop=fit',
  ),
)

EFFECTS: Effects = {
  'dataset.name': ALWAYS,
  'dataset.stack_of': _STACKS,
  'dataset.path': _FOLDERS,
  'dataset.labels': _FOLDERS,
  'dataset.data_dir': _TFDS,
  'dataset.split': (_LOADED,),
  'dataset.image_size': _IMAGES,
  'dataset.crop': (_LOADED, *_IMAGES),
  'dataset.flip': _IMAGES,
  'dataset.skip_corrupt': (*_FILES, _ENCODED),
  'dataset.background': _IS_SEEN,
  'dataset.white_level': _FILES,
}
