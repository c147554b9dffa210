#!/usr/bin/env bash
# Makes a TPU VM of Compute Engine: v6e, one host.
#
#   PROJECT=P ZONE=us-east5-b NAME=dcgan REPOSITORY=https://... \
#     launch/gce_tpu.sh [--dry-run]
#
# CHIPS  1, 4 or 8 (default 8)
# SPOT   true for a machine that may be taken away, at a lower price
# REVISION  branch, tag or commit (default main)
# There already, it is left alone. If it cannot be made, nothing remains.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_flags "$@"
read_place
read_source
CHIPS=${CHIPS:-8}
matches CHIPS '(1|4|8)' '1, 4 or 8 chips'
spot=()
[ "${SPOT:-false}" = false ] ||
  spot=(--provisioning-model=SPOT --instance-termination-action=DELETE)

if is_there gcloud compute instances describe "$NAME" "${PLACE[@]}"; then
  echo "$NAME is there already."
  exit 0
fi
undo_at_failure run gcloud compute instances delete "$NAME" "${PLACE[@]}" --quiet
run gcloud compute instances create "$NAME" "${PLACE[@]}" \
  "--machine-type=ct6e-standard-${CHIPS}t" \
  --image-project=ubuntu-os-accelerator-images \
  --image-family=ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e \
  --maintenance-policy=TERMINATE --boot-disk-size=100GB \
  --scopes=cloud-platform "${METADATA[@]}" "${spot[@]}"
