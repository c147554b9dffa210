#!/usr/bin/env bash
# Downloads the wheels that another machine lacks, and says how large they are.
#
#   benchmarks/wheels.sh INSTALLED.txt FOLDER [PYTHON_VERSION]
#
# INSTALLED.txt is that machine's `pip freeze`, or the names of its packages.
# The versions fit those of INSTALLED.txt. The machine is Linux on x86-64.
set -euo pipefail

installed=${1:?give the list of packages that the machine has}
folder=${2:?give a folder for the wheels}
version=${3:-3.12}
python=${PYTHON:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

platforms=()
for glibc in 39 35 34 31 28 27 24 17; do
  platforms+=(--platform "manylinux_2_${glibc}_x86_64")
done
platforms+=(--platform manylinux2014_x86_64)
for_machine=(--only-binary=:all: --python-version "$version" "${platforms[@]}")

"$python" - "$root/setup.cfg" >"$temporary/requirements.txt" <<'EOF'
import configparser
import sys

settings = configparser.ConfigParser()
settings.read(sys.argv[1])
print(settings['options']['install_requires'])
print('pytest>=8\npytest-xdist>=3.6')
EOF
grep -E '^[A-Za-z0-9._-]+==' "$installed" >"$temporary/constraints.txt" || true

"$python" -m pip install --quiet --dry-run --ignore-installed \
  --target "$temporary/nowhere" --report "$temporary/report.json" \
  "${for_machine[@]}" --constraint "$temporary/constraints.txt" \
  --requirement "$temporary/requirements.txt"

"$python" - "$temporary/report.json" "$installed" >"$temporary/missing.txt" <<'EOF'
import json
import re
import sys


def normal(name):
  return re.sub('[-_.]+', '-', name).lower()


with open(sys.argv[2]) as file:
  there = {normal(n) for n in re.findall(r'(?m)^[A-Za-z0-9._-]+', file.read())}
with open(sys.argv[1]) as file:
  wanted = [each['metadata'] for each in json.load(file)['install']]
for each in wanted:
  if normal(each['name']) not in there:
    print(f"{each['name']}=={each['version']}")
EOF

mkdir -p "$folder"
"$python" -m pip download --quiet --no-deps --dest "$folder" \
  "${for_machine[@]}" --requirement "$temporary/missing.txt"
du -k --apparent-size "$folder"/*.whl | sort -rn
du -ch --apparent-size "$folder"/*.whl | tail -n 1
