#!/usr/bin/env bash
# Measures this project on a machine with an accelerator, in at most 8 minutes.
#
#   benchmarks/gpu.sh [--output=FOLDER] [--small] [--only=PART ...] [--check]
#
# Needs no network. Packages that are missing may lie in WHEELS, a folder that
# benchmarks/wheels.sh made; they are installed beside the others, for this
# command alone. PYTHON names the interpreter.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

if [[ -n ${WHEELS:-} ]]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile \
    --target "$site" "$WHEELS"/*.whl
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus || true
"$python" -m benchmarks.gpu "$@"
