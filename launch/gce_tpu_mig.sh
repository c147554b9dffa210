#!/usr/bin/env bash
# Creates a slice of several hosts on Compute Engine: v6e, as a managed group.
#
#   PROJECT=P ZONE=us-east5-b NAME=dcgan TOPOLOGY=4x4 REPOSITORY=https://... \
#     launch/gce_tpu_mig.sh [--dry-run]
#
# TOPOLOGY        chips along both sides, four per host (default 4x4: 4 hosts)
# SPOT, REVISION  as for gce_tpu.sh
#
# A group that already exists is left alone. If creation fails, nothing remains.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_flags "$@"
read_place
read_source
TOPOLOGY=${TOPOLOGY:-4x4}
matches TOPOLOGY '(4x4|4x8|8x8|8x16|16x16)' '4x4, 4x8, 8x8, 8x16 or 16x16'
hosts=$((${TOPOLOGY%x*} * ${TOPOLOGY#*x} / 4))
spot=()
[ "${SPOT:-false}" = false ] ||
  spot=(--provisioning-model=SPOT --instance-termination-action=STOP)

if is_there gcloud compute instance-groups managed describe "$NAME" "${PLACE[@]}"
then
  echo "$NAME already exists."
  exit 0
fi
undo_at_failure "$HERE/delete.sh"
is_there gcloud compute resource-policies describe "$NAME-policy" \
  "--project=$PROJECT" "--region=$REGION" ||
  run gcloud compute resource-policies create workload-policy "$NAME-policy" \
    "--project=$PROJECT" "--region=$REGION" --type=HIGH_THROUGHPUT \
    "--accelerator-topology=$TOPOLOGY"
is_there gcloud compute instance-templates describe "$NAME-template" \
  "--project=$PROJECT" ||
  run gcloud compute instance-templates create "$NAME-template" \
    "--project=$PROJECT" --machine-type=ct6e-standard-4t \
    --image-project=ubuntu-os-accelerator-images \
    --image-family=ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e \
    --maintenance-policy=TERMINATE --boot-disk-size=100GB \
    --scopes=cloud-platform "${METADATA[@]}" "${spot[@]}"
run gcloud compute instance-groups managed create "$NAME" "${PLACE[@]}" \
  "--size=$hosts" "--template=$NAME-template" \
  --target-size-policy-mode=bulk \
  --default-action-on-vm-failure=do-nothing \
  "--workload-policy=projects/$PROJECT/regions/$REGION/resourcePolicies/$NAME-policy"
run gcloud compute instance-groups managed wait-until "$NAME" "${PLACE[@]}" \
  --stable "--timeout=${TIMEOUT_SECONDS:-3600}"
