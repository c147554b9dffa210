#!/usr/bin/env bash
# Creates a TPU VM on Compute Engine: v6e, one host.
#
#   PROJECT=P ZONE=us-east5-b NAME=dcgan REPOSITORY=https://... \
#     launch/gce_tpu.sh [--dry-run]
#
# CHIPS     1, 4 or 8 (default 8)
# SPOT      true for a cheaper machine that may be preempted (default false)
# REVISION  branch, tag or commit to install (default main)
#
# A machine that already exists is left alone. If creation fails, nothing remains.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_flags "$@"
read_place
read_source
CHIPS=${CHIPS:-8}
matches CHIPS '(1|4|8)' '1, 4 or 8'
spot=()
[ "${SPOT:-false}" = false ] ||
  spot=(--provisioning-model=SPOT --instance-termination-action=DELETE)

if is_there gcloud compute instances describe "$NAME" "${PLACE[@]}"; then
  echo "$NAME already exists."
  exit 0
fi
undo_at_failure run gcloud compute instances delete "$NAME" "${PLACE[@]}" --quiet
run gcloud compute instances create "$NAME" "${PLACE[@]}" \
  "--machine-type=ct6e-standard-${CHIPS}t" \
  --image-project=ubuntu-os-accelerator-images \
  --image-family=ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e \
  --maintenance-policy=TERMINATE --boot-disk-size=100GB \
  --scopes=cloud-platform "${METADATA[@]}" "${spot[@]}"
