#!/usr/bin/env bash
# Trains on a slice of TPU hosts under GKE, as a JobSet that restarts until the
# command succeeds.
#
#   NAME=dcgan IMAGE=REGISTRY/gan_vae_flax:tpu launch/gke_jobset.sh [--dry-run] \
#     -- python -m gan_flax.main --config=configs/dcgan.py \
#     --workdir=gs://bucket/runs/dcgan
#
# ACCELERATOR     accelerator type of the nodes (default tpu-v5-lite-podslice)
# TOPOLOGY        chips of the slice (default 2x4: two hosts of four chips)
# CHIPS_PER_HOST  default 4
# MAX_RESTARTS    default 100
#
# --dry-run prints the manifest. Applying it twice changes nothing.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_command "$@"
require NAME 'a name for the JobSet'
require IMAGE 'the image built from launch/Dockerfile'
ACCELERATOR=${ACCELERATOR:-tpu-v5-lite-podslice}
TOPOLOGY=${TOPOLOGY:-2x4}
CHIPS_PER_HOST=${CHIPS_PER_HOST:-4}
MAX_RESTARTS=${MAX_RESTARTS:-100}
matches NAME '[a-z][-a-z0-9]{0,40}' 'lower-case letters, digits and hyphens'
matches IMAGE '[-A-Za-z0-9_./:@]+' 'an image name'
matches ACCELERATOR '[-a-z0-9]+' 'an accelerator type'
matches TOPOLOGY '[0-9]+x[0-9]+(x[0-9]+)?' 'a topology, such as 4x4'
matches CHIPS_PER_HOST '[1-9]' 'a number'
matches MAX_RESTARTS '[0-9]+' 'a number'

chips=1
for side in ${TOPOLOGY//x/ }; do chips=$((chips * side)); done
[ $((chips % CHIPS_PER_HOST)) = 0 ] ||
  fail "TOPOLOGY=$TOPOLOGY: use a multiple of $CHIPS_PER_HOST chips, not $chips"
# shellcheck disable=SC2034 # read by name below
HOSTS=$((chips / CHIPS_PER_HOST))

# The words of the command as JSON strings, which are valid YAML.
COMMAND='['
for word in "${WORDS[@]}"; do
  [[ "$word" != *[[:cntrl:]]* ]] || fail "the command has a control character in $word"
  word=${word//\\/\\\\}
  COMMAND+="\"${word//\"/\\\"}\", "
done
COMMAND="${COMMAND%, }]"

manifest=$(<"$HERE/gke_jobset.yaml")
for name in NAME IMAGE ACCELERATOR TOPOLOGY CHIPS_PER_HOST MAX_RESTARTS HOSTS \
  COMMAND; do
  value=${!name}
  # Unquoted, & in the value would stand for the matched text.
  manifest=${manifest//"{$name}"/"$value"}
done
if "$DRY_RUN"; then
  printf '%s\n' "$manifest"
else
  kubectl apply -f - <<<"$manifest"
fi
