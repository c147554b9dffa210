#!/usr/bin/env bash
# What a new TPU machine does when it starts: installs the project into
# /opt/gan_vae_flax. Its system may be too old a Python's: uv brings one.
# Machines call it by themselves; by hand there is startup.sh --dry-run.
#
# repository, revision  in the machine's metadata
# /opt/gan_vae_flax/ready is there when all is done, and restarts change nothing;
# /opt/gan_vae_flax/failed if it cannot be done. What it says is in
# `journalctl -u google-startup-scripts`.

# It reaches the machine alone: nothing of common.sh is there.
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
    *) fail "$argument: unknown; there are --dry-run and --help" ;;
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

# The network of a new machine may take a while.
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

# It installs as root: never on a machine that somebody only tries it on.
if ! "$DRY_RUN"; then
  [[ "$(cat "$PRODUCT" 2>/dev/null)" = Google* ]] ||
    fail 'this is no machine of Google Cloud; --dry-run prints what it would do'
  [ ! -e "$FOLDER/ready" ] || exit 0
fi
run mkdir -p "$FOLDER"
run rm -f "$FOLDER/failed"
"$DRY_RUN" || trap '[ -e "$FOLDER/ready" ] || touch "$FOLDER/failed"' EXIT
# Not in /root, where the users who train cannot read it.
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
