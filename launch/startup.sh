#!/usr/bin/env bash
# What a new TPU machine does when it starts: installs the project into
# /opt/gan_vae_flax. Its system may be too old a Python's: uv brings one.
#
# repository, revision  in the machine's metadata
# /opt/gan_vae_flax/ready is there when all is done, and restarts change nothing;
# /opt/gan_vae_flax/failed if it cannot be done. What it says is in
# `journalctl -u google-startup-scripts`.

set -euo pipefail

FOLDER=${FOLDER:-/opt/gan_vae_flax}
METADATA=${METADATA:-http://metadata.google.internal/computeMetadata/v1/instance/attributes}

metadata() {
  curl --fail --silent --show-error -H 'Metadata-Flavor: Google' "$METADATA/$1"
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
  rm -rf "$FOLDER/source"
  git clone --quiet "$(metadata repository)" "$FOLDER/source"
}

[ ! -e "$FOLDER/ready" ] || exit 0
mkdir -p "$FOLDER"
rm -f "$FOLDER/failed"
trap '[ -e "$FOLDER/ready" ] || touch "$FOLDER/failed"' EXIT
# Not in /root, where the users who train cannot read it.
export UV_PYTHON_INSTALL_DIR=$FOLDER/python UV_CACHE_DIR=$FOLDER/cache
patiently download
revision=$(metadata revision)
git -C "$FOLDER/source" checkout --quiet "$revision"
python3 -m venv "$FOLDER/tools" 2>/dev/null || {
  patiently apt-get update --quiet
  patiently apt-get install --yes --quiet python3-venv
  python3 -m venv "$FOLDER/tools"
}
patiently "$FOLDER/tools/bin/pip" install --quiet uv
uv=$FOLDER/tools/bin/uv
patiently "$uv" venv --quiet --clear --python 3.12 "$FOLDER/venv"
patiently "$uv" pip install --quiet --python "$FOLDER/venv/bin/python" \
  -e "$FOLDER/source[tpu,gcs]"
chmod -R a+rX "$FOLDER"
touch "$FOLDER/ready"
