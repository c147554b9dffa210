"""The description of exported networks: export.json and the model card.

A model card is a README.md whose first lines are YAML that hubs read, see
https://huggingface.co/docs/hub/model-cards. JSON is YAML, too.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import inspect
import json
import math
from typing import Any

import common_flax
from common_flax import files
from common_flax.export import load
from common_flax.export.parts import Array
from common_flax.export.parts import Exportable
from common_flax.export.parts import LEARNED
from common_flax.export.programs import PLATFORMS
from common_flax.workdir import classes

# Fields of the config that name a place on the machine of the training.
_PRIVATE = ('path', 'data_dir', 'labels', 'evaluation_inception_weights')


def description(
  exportable: Exportable,
  formats: Sequence[str],
  metrics: Mapping[str, Any],
) -> dict[str, Any]:
  """What export.json holds.

  Args:
    exportable: what is exported.
    formats: the formats that are written.
    metrics: of evaluation.json.
  """
  config = _public(exportable.config.to_dict())
  config['dataset'] = _public(config['dataset'])

  def arrays(described: Mapping[str, Array]) -> dict[str, Any]:
    return {
      name: {
        'shape': ['batch', *each.shape],
        'dtype': each.dtype,
        'meaning': each.meaning,
      }
      for name, each in described.items()
    }

  return {
    'made_by': f'gan_vae_flax {common_flax.__version__}',
    'kind': exportable.kind,
    'step': exportable.step,
    'seed': exportable.seed,
    'formats': list(formats),
    'latents': exportable.latents,
    'note': exportable.note,
    'class_names': exportable.class_names,
    'parts': {
      name: {'inputs': arrays(part.inputs), 'outputs': arrays(part.outputs)}
      for name, part in exportable.parts.items()
    },
    'metrics': dict(metrics),
    'config': config,
  }


def _public(fields: Mapping[str, Any]) -> dict[str, Any]:
  return {n: None if n in _PRIVATE else v for n, v in fields.items()}


def _metadata(described: Mapping[str, Any], name: str, license_id: str) -> str:
  """The YAML between the lines of three dashes."""
  draws_images = any(
    'images' in part['outputs'] for part in described['parts'].values()
  )
  fields = {
    'license': license_id,
    'library_name': 'jax',
    'tags': ['jax', *described['formats'], described['kind'].lower()],
  }
  if draws_images:
    fields['pipeline_tag'] = 'unconditional-image-generation'
  if described['metrics']:
    result = {
      'task': {'type': 'unconditional-image-generation'},
      'dataset': {
        'type': described['config']['dataset']['name'],
        'name': described['config']['dataset']['name'],
      },
      'metrics': [
        {'type': key, 'value': value}
        for key, value in described['metrics'].items()
      ],
    }
    fields['model-index'] = [{'name': name, 'results': [result]}]
  lines = [f'{key}: {json.dumps(value)}' for key, value in fields.items()]
  return '\n'.join(['---', *lines, '---'])


def _row(*cells: Any) -> str:
  text = (str(cell).replace('|', r'\|') for cell in cells)
  return f'| {" | ".join(text)} |'


def _networks(described: Mapping[str, Any]) -> str:
  """The table of inputs and outputs."""
  rows = [
    _row('network', 'array', 'shape', 'type', 'values'),
    '|---|---|---|---|---|',
  ]
  for name, part in described['parts'].items():
    for side in ('inputs', 'outputs'):
      for key, each in part[side].items():
        shape = f'[{", ".join(map(str, each["shape"]))}]'
        arrow = '→ ' if side == 'outputs' else ''
        rows.append(
          _row(name, f'{arrow}`{key}`', shape, each['dtype'], each['meaning'])
        )
  return '\n'.join(rows)


_FILES = {
  'stablehlo': (
    'the program with its weights, for `jax.export` on '
    f'{", ".join(PLATFORMS)}; needs `pip install jax flatbuffers`'
  ),
  'onnx': 'the same for ONNX runtimes, opset 17',
  'safetensors': (
    'the weights by path: `params.LAYER.kernel` and `bias`, '
    '`batch_stats.LAYER.mean` and `var`. Kernels are [input, output] in dense '
    'layers and [height, width, input, output] in convolutions'
  ),
}


def _usage(described: Mapping[str, Any]) -> str:
  """Python code that loads and calls the first network."""
  name, part = next(iter(described['parts'].items()))
  lines = ['import numpy as np', '', 'random = np.random.default_rng(0)']
  for key, each in part['inputs'].items():
    shape = f'({", ".join(["4", *map(str, each["shape"][1:])])},)'
    if each['dtype'] == 'int32':
      drawn = f'np.zeros({shape}, np.int32)'
    elif 'U(-1, 1)' in described['latents']:
      drawn = f'random.uniform(-1, 1, {shape}).astype(np.float32)'
    elif key == 'latents' and LEARNED in described['latents']:
      drawn = "np.load('FILE.npz')['latents'][:4]  # see above"
    else:
      drawn = f'random.standard_normal({shape}, np.float32)'
    lines.append(f'{key} = {drawn}')
  outputs, inputs = ', '.join(part['outputs']), ', '.join(part['inputs'])
  lines.append(f"{outputs} = load_exported('.')['{name}']({inputs})")
  if outputs == 'images':
    is_signed = '-1 black' in part['outputs']['images']['meaning']
    scaled = '(images + 1) * 127.5' if is_signed else 'images * 255'
    lines.append(f'pixels = np.clip(np.round({scaled}), 0, 255)  # of 255')
  return '\n'.join(lines)


def card(described: Mapping[str, Any], name: str, license_id: str) -> str:
  """The text of README.md.

  Args:
    described: from `description`.
    name: of the model.
    license_id: identifier of a licence, as hubs have it.
  """
  dataset = described['config']['dataset']['name']
  sections = [
    _metadata(described, name, license_id),
    f'# {name}',
    f'A {described["kind"]} trained on the data set `{dataset}` for '
    f'{described["step"]:,} steps, exported by {described["made_by"]}.',
    '![Samples of the model](samples.png)',
    '## Networks',
    _networks(described),
    f'Latents are {described["latents"]}; to truncate them is up to the '
    'caller. All computations are in float32, and no output is rounded to '
    f'bytes. {described["note"]}'.rstrip(),
  ]
  names = described['class_names']
  if not classes.are_numbers(names):
    shown = (f'{i} {files.one_line(each)}' for i, each in enumerate(names))
    sections.append(f'Classes: {", ".join(shown)}.')
  sections += [
    '## Files',
    '\n'.join(
      f'- `{part}.{each}`: {_FILES[each]}.'
      for part in described['parts']
      for each in described['formats']
    )
    + '\n- `export.json`: what this page says, and the config of the training.',
  ]
  if 'stablehlo' in described['formats']:
    source = inspect.getsource(load)
    source = source.partition('"""\n\n')[2].rstrip()
    sections += [
      '## Use in Python',
      f'```python\n{source}\n\n\n{_usage(described)}\n```',
    ]
  if described['metrics']:
    rows = [_row('metric', 'value'), '|---|---|']
    rows += [
      _row(f'`{k}`', f'{v:.6g}') for k, v in described['metrics'].items()
    ]
    sections += ['## Evaluation', '\n'.join(rows)]
  return '\n\n'.join(sections) + '\n'


def numbers(evaluation: Mapping[str, Any]) -> dict[str, float]:
  """The finite numbers at the top of evaluation.json."""
  return {
    name: value
    for name, value in evaluation.items()
    if isinstance(value, int | float)
    and not isinstance(value, bool)
    and math.isfinite(value)
  }
