#!/usr/bin/env bash
# Asks the Cloud TPU API for a slice, and waits until it is there: v5e.
#
#   PROJECT=P ZONE=us-west4-a NAME=dcgan REPOSITORY=https://... \
#     launch/tpu_queued.sh [--dry-run]
#
# ACCELERATOR  its type (default v5litepod-8: one host of eight chips)
# RUNTIME  version of its system (default v2-alpha-tpuv5-lite, for v5e)
# SPOT     true for one that may be taken away, at a lower price
# VALID_FOR  how long to wait in the queue (default 6h)
# REVISION  branch, tag or commit (default main)
# A request that is there already is waited for. One that fails is deleted.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_flags "$@"
read_place
read_source
ACCELERATOR=${ACCELERATOR:-v5litepod-8}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
VALID_FOR=${VALID_FOR:-6h}
matches ACCELERATOR '[a-z0-9]+-[0-9]+' 'a type, such as v5litepod-16'
matches RUNTIME '[-a-z0-9.]+' 'a runtime version'
matches VALID_FOR '[0-9]+[smhd]' 'a time, such as 6h'
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
      undo_at_failure "${delete[@]}" # of no use, whoever made it
      exit 1
      ;;
    '') # hours in the queue are not given up for an answer that got lost
      unanswered=$((unanswered + 1))
      if [ "$unanswered" = 10 ]; then
        echo "error: nothing is heard of the request for $NAME" >&2
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
echo "$NAME is there."
