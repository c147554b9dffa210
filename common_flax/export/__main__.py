"""Writes trained networks as files that run without this package.

  python -m common_flax.export --workdir=DIR --output=FOLDER
      [--parts=NAME,NAME] [--formats=stablehlo,safetensors,onnx]
      [--license=ID] [--name=NAME] [--seed_index=INDEX] [--step=STEP] [--noema]

The new folder can be uploaded to a hub as it is: README.md is a model card with
samples, metrics and the lines of Python that load it. NAME.stablehlo holds a
network for `jax.export` on CPUs, CUDA and TPUs, NAME.onnx for other runtimes,
NAME.safetensors its weights alone. The numbers are those of `sample` before
they become bytes; the batch size is free. --parts are networks of the run, by
default the one that draws samples.

From Python:

  networks = common_flax.export.load_exported(FOLDER)  # functions by name
"""

from collections.abc import Mapping
from collections.abc import Sequence
import importlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
from types import ModuleType
from typing import Any

from absl import flags
from etils import epath

from common_flax import files
from common_flax import images as images_lib
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.errors import UserError
from common_flax.export import card
from common_flax.export import programs
from common_flax.export.parts import Exportable
from common_flax.workdir import layout as workdir_lib

# A field that only the configs of one family have, and the family's package;
# None for a family whose networks cannot be exported.
_FAMILIES = {
  'discriminator': 'gan_flax',
  'codebook': None,
  'likelihood': 'vae_flax',
}


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_run_flags(values)
  flags.DEFINE_string('output', None, 'A new folder.', flag_values=values)
  flags.DEFINE_list('parts', [], 'Networks to export.', flag_values=values)
  flags.DEFINE_list(
    'formats', list(programs.FORMATS), 'What to write.', flag_values=values
  )
  flags.DEFINE_string(
    'license',
    'unknown',
    "Licence of the weights, a hub's ID such as mit.",
    flag_values=values,
  )
  flags.DEFINE_string(
    'name',
    None,
    "Name on the card; by default the workdir's.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    'seed_index',
    None,
    'Index of the seed, if the run has several.',
    0,
    flag_values=values,
  )


def family_of(workdir: epath.PathLike) -> ModuleType:
  """The module that loads the networks of a run's family.

  Raises:
    UserError: if the folder holds no run, or one that cannot be exported.
  """
  path = epath.Path(workdir) / workdir_lib.CONFIG
  if path.exists():
    try:
      fields = files.read_json(path)
    except (OSError, ValueError) as error:
      raise UserError(f'{path}: cannot be read: {error}') from error
  else:
    with workdir_lib.open_checkpoints(workdir) as checkpoints:
      _, fields = checkpoints.newest_config() or (0, {})
  for field, package in _FAMILIES.items():
    if field in fields:
      if package is None:
        raise UserError(
          f'--workdir={workdir}: models of discrete latents cannot be exported'
        )
      return importlib.import_module(f'{package}.exporting')
  raise UserError(f'--workdir={workdir}: {path} is not the config of a run')


def _check_choice(
  flag: str, chosen: Sequence[str], known: Sequence[str]
) -> list[str]:
  """What a list flag names, each once.

  Raises:
    UserError: if it names nothing, or something unknown.
  """
  for each in chosen or ['']:
    if each not in known:
      raise UserError(
        f'--{flag}={each}: unknown; choose from {", ".join(known)}'
      )
  return list(dict.fromkeys(chosen))


def _read_evaluation(workdir: epath.Path) -> dict[str, Any]:
  """What evaluation.json holds; {} if there is no such file."""
  path = workdir / workdir_lib.EVALUATION
  if not path.exists():
    return {}
  try:
    return files.read_json(path)
  except (OSError, ValueError) as error:
    raise UserError(
      f'{path}: cannot be read: {error}; evaluate again, or remove it'
    ) from error


def _metrics(
  evaluation: Mapping[str, Any], exportable: Exportable, use_ema: bool
) -> dict[str, float]:
  """The numbers of an evaluation of the weights that are exported, if it is."""
  how = evaluation.get('provenance')
  how = how if isinstance(how, dict) else {}
  ours = {
    'checkpoint_step': exportable.step,
    'moving_average': use_ema,
    'num_seeds': 1,
  }
  for name, value in ours.items():
    if how.get(name, value) != value:
      print(
        f'{workdir_lib.EVALUATION}: is of {name}={how[name]}, and the export '
        f'of {value}; left out of the card.'
      )
      return {}
  return card.numbers(evaluation)


def _write(
  output: str,
  exportable: Exportable,
  formats: Sequence[str],
  described: dict[str, Any],
  readme: str,
) -> None:
  """Writes a folder beside the output, and moves it there when it is whole.

  Into a folder that exists, such as an empty clone, its files are moved.
  """
  with outputs.writable(output) as path:
    target = path.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=f'.{target.name}.', dir=target.parent)
    folder = pathlib.Path(scratch)
    try:
      folder.chmod(0o777 & ~_umask())
      for name, part in exportable.parts.items():
        programs.write(folder, name, part, formats)
      text = json.dumps(described, indent=2) + '\n'
      (folder / 'export.json').write_text(text)
      (folder / 'README.md').write_text(readme, 'utf-8')
      (folder / 'samples.png').write_bytes(
        images_lib.encode(exportable.samples, '.png')
      )
      if not target.exists():
        folder.rename(target)
      else:  # it holds hidden files alone, as `outputs.check` has seen
        for each in folder.iterdir():
          each.rename(target / each.name)
    finally:
      shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  reason = 'because nothing is drawn; remove it'
  commands.refuse_unused(values, reason, 'seed')
  workdir = commands.existing_workdir(values)
  outputs.check(values.output, [outputs.FOLDER])
  formats = _check_choice('formats', values.formats, list(programs.FORMATS))
  if not re.fullmatch(r'[a-z0-9][a-z0-9.+-]*', values.license):
    raise UserError(
      f"--license={values.license}: give a hub's ID, such as mit or apache-2.0"
    )
  family = family_of(workdir)
  names = _check_choice('parts', values.parts or family.PARTS[:1], family.PARTS)
  programs.check_available(formats)
  evaluation = _read_evaluation(workdir)
  exportable = family.load(
    workdir,
    names,
    use_ema=values.ema,
    seed_index=values.seed_index,
    step=values.step,
  )
  metrics = _metrics(evaluation, exportable, values.ema)
  described = card.description(exportable, formats, metrics)
  name = files.one_line(values.name or workdir.resolve().name)
  readme = card.card(described, name, values.license)
  _write(values.output, exportable, formats, described, readme)
  print(f'{", ".join(names)} of step {exportable.step:,} in {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
