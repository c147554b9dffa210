"""One of several processes: trains one config after the other.

  python worker.py JOBS.json NUM_PROCESSES PROCESS_ID COORDINATOR

A job is {"family", "workdir", "changes"}; changes override the smoke recipe.
"""

import json
import sys

from conftest import recipe

from common_flax.distributed import processes
from gan_flax.train import train
from vae_flax.train import train as train_vae

FAMILIES = {'gan': ('dcgan.py', train), 'vae': ('vae.py', train_vae)}


def main(jobs, num_processes, process_id, coordinator):
  if int(num_processes) > 1:
    processes.join('on', coordinator, int(num_processes), int(process_id))
  with open(jobs) as file:
    for job in json.load(file):
      name, train_family = FAMILIES[job['family']]
      config = recipe(name, 'smoke')
      config.update_from_flattened_dict(job['changes'])
      with processes.only_first_speaks():
        assert train_family(config, job['workdir']) is None


if __name__ == '__main__':
  main(*sys.argv[1:])
