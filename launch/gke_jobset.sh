#!/usr/bin/env bash
# Trains on a slice of TPU hosts under GKE, as a JobSet that starts again until
# it is done.
#
#   NAME=dcgan IMAGE=REGISTRY/gan_vae_flax:tpu launch/gke_jobset.sh [--dry-run] \
#     -- python -m gan_flax.main --config=configs/dcgan.py \
#     --workdir=gs://bucket/runs/dcgan
#
# ACCELERATOR     of the nodes (default tpu-v5-lite-podslice)
# TOPOLOGY        of the slice (default 2x4: two hosts of four chips)
# CHIPS_PER_HOST  (default 4)
# MAX_RESTARTS    (default 100)
# --dry-run prints the manifest. Applied twice, nothing changes.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_command "$@"
require NAME 'a name for the JobSet'
require IMAGE 'the image that launch/Dockerfile makes'
ACCELERATOR=${ACCELERATOR:-tpu-v5-lite-podslice}
TOPOLOGY=${TOPOLOGY:-2x4}
CHIPS_PER_HOST=${CHIPS_PER_HOST:-4}
MAX_RESTARTS=${MAX_RESTARTS:-100}
matches NAME '[a-z][-a-z0-9]{0,40}' 'small letters, digits and dashes'
matches IMAGE '[-A-Za-z0-9_./:@]+' 'the name of an image'
matches ACCELERATOR '[-a-z0-9]+' 'a type of accelerator'
matches TOPOLOGY '[0-9]+x[0-9]+(x[0-9]+)?' 'a topology, such as 4x4'
matches CHIPS_PER_HOST '[1-9]' 'a number'
matches MAX_RESTARTS '[0-9]+' 'a number'

chips=1
for side in ${TOPOLOGY//x/ }; do chips=$((chips * side)); done
[ $((chips % CHIPS_PER_HOST)) = 0 ] ||
  fail "TOPOLOGY=$TOPOLOGY: $chips chips are not whole hosts of $CHIPS_PER_HOST"
# shellcheck disable=SC2034 # read by its name below
HOSTS=$((chips / CHIPS_PER_HOST))

# Words of the command as strings of JSON, which YAML reads too.
COMMAND='['
for word in "${WORDS[@]}"; do
  [[ "$word" != *[[:cntrl:]]* ]] || fail "the command: odd characters in $word"
  word=${word//\\/\\\\}
  COMMAND+="\"${word//\"/\\\"}\", "
done
COMMAND="${COMMAND%, }]"

manifest=$(<"$HERE/gke_jobset.yaml")
for name in NAME IMAGE ACCELERATOR TOPOLOGY CHIPS_PER_HOST MAX_RESTARTS HOSTS \
  COMMAND; do
  value=${!name}
  # A bare & would stand for what it replaces.
  manifest=${manifest//"{$name}"/"$value"}
done
if "$DRY_RUN"; then
  printf '%s\n' "$manifest"
else
  kubectl apply -f - <<<"$manifest"
fi
