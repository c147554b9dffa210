#!/usr/bin/env bash
# Requests a v5e slice from the Cloud TPU API and waits until it is ready.
#
#   PROJECT=P ZONE=us-west4-a NAME=dcgan REPOSITORY=https://... \
#     launch/tpu_queued.sh [--dry-run]
#
# ACCELERATOR  accelerator type (default v5litepod-8: one host of eight chips)
# RUNTIME      runtime version (default v2-alpha-tpuv5-lite, for v5e)
# SPOT         true for a cheaper slice that may be preempted (default false)
# VALID_FOR    maximum time in the queue (default 6h)
# REVISION     branch, tag or commit to install (default main)
#
# If the request already exists, it only waits. A failed request is deleted.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_flags "$@"
read_place
read_source
ACCELERATOR=${ACCELERATOR:-v5litepod-8}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
VALID_FOR=${VALID_FOR:-6h}
matches ACCELERATOR '[a-z0-9]+-[0-9]+' 'an accelerator type, such as v5litepod-16'
matches RUNTIME '[-a-z0-9.]+' 'a runtime version'
matches VALID_FOR '[0-9]+[smhd]' 'a duration, such as 6h'
spot=()
[ "${SPOT:-false}" = false ] || spot=(--spot)

state_of() {
  gcloud compute tpus queued-resources describe "$NAME" "${PLACE[@]}" \
    '--format=value(state.state)'
}

delete=(run gcloud compute tpus queued-resources delete "$NAME" "${PLACE[@]}"
  --force --quiet)
if ! is_there state_of; then
  undo_at_failure "${delete[@]}"
  run gcloud compute tpus queued-resources create "$NAME" "${PLACE[@]}" \
    "--node-id=$NAME" "--accelerator-type=$ACCELERATOR" \
    "--runtime-version=$RUNTIME" "--valid-until-duration=$VALID_FOR" \
    "${METADATA[@]}" "${spot[@]}"
fi
"$DRY_RUN" && exit 0
unanswered=0
while true; do
  state=$(state_of) || state=
  case "$state" in
    ACTIVE) break ;;
    FAILED | SUSPENDING | SUSPENDED)
      echo "error: the request for $NAME is $state" >&2
      undo_at_failure "${delete[@]}" # useless even if it existed before
      exit 1
      ;;
    '') # one lost answer must not cost hours in the queue
      unanswered=$((unanswered + 1))
      if [ "$unanswered" = 10 ]; then
        echo "error: gcloud does not answer about the request for $NAME" >&2
        exit 1
      fi
      ;;
    *)
      unanswered=0
      echo "$NAME: $state"
      ;;
  esac
  sleep "${POLL_SECONDS:-30}"
done
echo "$NAME is ready."
