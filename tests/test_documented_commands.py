"""The commands on the pages about data and samples are run as they stand."""

import os
import pathlib
import re
import shlex

from conftest import ROOT
import pytest

from common_flax.cli import commands
from gan_flax import config as gan_config
from gan_flax import sample

PAGES = {
  name: (ROOT / f'docs/{name}.md').read_text() for name in ('data', 'sample')
}


def commands_of(module):
  """The arguments of a module's commands on the pages, without comments."""
  blocks = '\n'.join(
    block
    for text in PAGES.values()
    for block in re.findall(r'^```bash\n(.*?)^```', text, re.M | re.S)
  )
  lines = re.findall(rf'python -m {re.escape(module)} (.*)', blocks)
  return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize('arguments', commands_of('gan_flax.main'))
def test_runs_that_the_pages_start_have_good_configs(
  in_the_repository, arguments
):
  fields = dict(x.removeprefix('--').split('=', 1) for x in arguments)
  spec = fields.pop('config')
  overrides = [f'--{name}={value}' for name, value in fields.items()]
  gan_config.check(commands.load_config(spec, overrides))


@pytest.mark.slow
def test_the_page_about_samples_draws_what_it_says(
  trained, trained_conditional, tmp_path, monkeypatch
):
  """On smoke runs in the place of those that the page names."""
  monkeypatch.chdir(tmp_path)
  os.mkdir('runs')
  os.symlink(trained, 'runs/dcgan')
  os.symlink(trained_conditional, 'runs/conditional')
  drawn = commands_of('gan_flax.sample')
  assert len(drawn) > 10
  shorter = {
    '--step=1000': '--step=4',
    '--num_samples=10000': '--num_samples=80',
  }
  for command in drawn:
    arguments = [shorter.get(x, x) for x in command]
    assert sample.main(['sample', *arguments]) == 0, arguments
    (output,) = (x for x in arguments if x.startswith('--output='))
    assert pathlib.Path(output.removeprefix('--output=')).exists()
    pathlib.Path('samples.png').unlink(missing_ok=True)
  code = re.findall(r'^```python\n(.*?)^```', PAGES['sample'], re.M | re.S)
  found = {}
  exec(compile('\n'.join(code), 'docs/sample.md', 'exec'), found)
  assert found['images'].shape == (3, 16, 16, 1)
  assert found['z'].shape == (3, found['sampler'].gan.latent_size)
