#!/usr/bin/env bash
# Downloads the wheels that another machine lacks, and says how large they are.
#
#   benchmarks/wheels.sh INSTALLED.txt FOLDER [PYTHON_VERSION]
#
# INSTALLED.txt is that machine's `pip freeze`, or the names of its packages.
# Packages with too old a version there are downloaded as well. The machine is
# Linux on x86-64.
set -euo pipefail

installed=${1:?give the list of packages that the machine has}
folder=${2:?give a folder for the wheels}
version=${3:-3.12}
python=${PYTHON:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

for_machine=(--only-binary=:all: --python-version "$version")
for glibc in 39 35 34 31 28 27 24 17; do
  for_machine+=(--platform "manylinux_2_${glibc}_x86_64")
done
for_machine+=(--platform manylinux2014_x86_64)

# Prints the requirements that the machine does not meet: of this project
# ("project"), or those that wheels in a folder add.
missing() {
  "$python" - "$installed" "$version" "$1" <<'EOF'
import configparser
import pathlib
import re
import sys
import zipfile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

installed, version, source = sys.argv[1:]
text = pathlib.Path(installed).read_text()
pattern = r'(?m)^([A-Za-z0-9._-]+)(?:\[.*?\])?(?:==(\S+))?'
there = {canonicalize_name(n): v for n, v in re.findall(pattern, text)}
needs = []
if source.endswith('setup.cfg'):
  settings = configparser.ConfigParser()
  settings.read(source)
  needs = settings['options']['install_requires'].splitlines()
  needs += ['pytest>=8', 'pytest-xdist>=3.6']
else:
  for wheel in pathlib.Path(source).glob('*.whl'):
    name, number = wheel.name.split('-')[:2]
    there[canonicalize_name(name)] = number
    with zipfile.ZipFile(wheel) as archive:
      (metadata,) = [
        n for n in archive.namelist() if n.endswith('.dist-info/METADATA')
      ]
      header = archive.read(metadata).decode().partition('\n\n')[0]
    needs += re.findall(r'(?m)^Requires-Dist: (.*)', header)
environment = {
  'python_version': version,
  'python_full_version': f'{version}.0',
  'platform_system': 'Linux',
  'sys_platform': 'linux',
  'platform_machine': 'x86_64',
  'extra': '',
}
for need in filter(None, needs):
  if need.startswith('#'):
    continue
  need = Requirement(need)
  has = there.get(canonicalize_name(need.name))
  is_met = has == '' or (has is not None and need.specifier.contains(has, True))
  if not is_met and (not need.marker or need.marker.evaluate(environment)):
    print(f'{need.name}{need.specifier}')
EOF
}

mkdir -p "$folder"
source=$root/setup.cfg
while true; do
  missing "$source" | sort -u >"$temporary/missing.txt"
  [[ -s $temporary/missing.txt ]] || break
  while read -r need; do
    # Without dependencies: pip would fetch those that the machine has, too.
    # What has no wheel is pure Python, and built here.
    "$python" -m pip download --quiet --no-deps --dest "$folder" \
      "${for_machine[@]}" "$need" 2>"$temporary/error.txt" ||
      "$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$need" ||
      { cat "$temporary/error.txt" >&2; exit 1; }
  done <"$temporary/missing.txt"
  source=$folder
done
shopt -s nullglob
wheels=("$folder"/*.whl)
if ((${#wheels[@]} == 0)); then
  echo 'Nothing is missing.'
  exit
fi
du -k --apparent-size "${wheels[@]}" | sort -rn
du -ch --apparent-size "${wheels[@]}" | tail -n 1
