#!/usr/bin/env bash
# Startup script of a new TPU machine: installs the project into
# /opt/gan_vae_flax, with a Python from uv since the system's may be too old.
# Machines run it themselves; by hand, use startup.sh --dry-run.
#
# It reads repository and revision from the machine's metadata. It creates
# /opt/gan_vae_flax/ready when it succeeds, after which restarts do nothing, or
# /opt/gan_vae_flax/failed. Its output is in
# `journalctl -u google-startup-scripts`.

# The machine gets only this file, so it cannot source common.sh.
set -euo pipefail

FOLDER=${FOLDER:-/opt/gan_vae_flax}
METADATA=${METADATA:-http://metadata.google.internal/computeMetadata/v1/instance/attributes}
PRODUCT=${PRODUCT:-/sys/class/dmi/id/product_name}
DRY_RUN=false

fail() {
  echo "error: $*" >&2
  exit 2
}

for argument in "$@"; do
  case "$argument" in
    --dry-run) DRY_RUN=true ;;
    --help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) fail "$argument: unknown; use --dry-run or --help" ;;
  esac
done

run() {
  if "$DRY_RUN"; then
    printf '%q' "$1"
    printf ' %q' "${@:2}"
    printf '\n'
  else
    "$@"
  fi
}

metadata() {
  if "$DRY_RUN"; then
    echo "${1^^}"
  else
    curl --fail --silent --show-error -H 'Metadata-Flavor: Google' "$METADATA/$1"
  fi
}

# Retries: the network of a new machine may not be up yet.
patiently() {
  for _ in 1 2 3 4; do
    ! "$@" || return 0
    sleep "${RETRY_SECONDS:-10}"
  done
  "$@"
}

download() {
  local repository
  repository=$(metadata repository) || return
  run rm -rf "$FOLDER/source"
  run git clone --quiet "$repository" "$FOLDER/source"
}

make_tools() {
  run python3 -m venv "$FOLDER/tools" 2>/dev/null
}

# It installs as root, so it must not run by accident on somebody's own machine.
if ! "$DRY_RUN"; then
  [[ "$(cat "$PRODUCT" 2>/dev/null)" = Google* ]] ||
    fail 'not a Google Cloud machine; use --dry-run to print the commands'
  [ ! -e "$FOLDER/ready" ] || exit 0
fi
run mkdir -p "$FOLDER"
run rm -f "$FOLDER/failed"
"$DRY_RUN" || trap '[ -e "$FOLDER/ready" ] || touch "$FOLDER/failed"' EXIT
# Outside /root, so that other users can read it.
run export UV_PYTHON_INSTALL_DIR="$FOLDER/python" UV_CACHE_DIR="$FOLDER/cache"
patiently download
revision=$(metadata revision)
run git -C "$FOLDER/source" checkout --quiet "$revision"
make_tools || {
  patiently apt-get update --quiet
  patiently apt-get install --yes --quiet python3-venv
  make_tools
}
patiently run "$FOLDER/tools/bin/pip" install --quiet uv
uv=$FOLDER/tools/bin/uv
patiently run "$uv" venv --quiet --clear --python 3.12 "$FOLDER/venv"
patiently run "$uv" pip install --quiet --python "$FOLDER/venv/bin/python" \
  -e "$FOLDER/source[tpu,gcs]"
run chmod -R a+rX "$FOLDER"
run touch "$FOLDER/ready"
