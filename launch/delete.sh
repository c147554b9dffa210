#!/usr/bin/env bash
# Deletes everything that the other scripts created under a name. Nothing to
# delete is no error. It fails if it cannot tell whether something remains.
#
#   PROJECT=P ZONE=Z NAME=dcgan launch/delete.sh [--dry-run]

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_flags "$@"
read_place

status=0
delete() { # delete 'GROUP WORDS' THING FLAGS...: deletes it if it exists
  local group thing known=0
  read -r -a group <<<"$1"
  thing=$2
  shift 2
  "$DRY_RUN" ||
    asks gcloud "${group[@]}" describe "$thing" "${@/--force/--quiet}" ||
    known=$?
  case "$known" in
    0) run gcloud "${group[@]}" delete "$thing" "$@" --quiet || status=1 ;;
    3) status=1 ;;
  esac
}

delete 'compute tpus queued-resources' "$NAME" "${PLACE[@]}" --force
delete 'compute tpus tpu-vm' "$NAME" "${PLACE[@]}"
delete 'compute instance-groups managed' "$NAME" "${PLACE[@]}"
delete 'compute instance-templates' "$NAME-template" "--project=$PROJECT"
delete 'compute resource-policies' "$NAME-policy" "--project=$PROJECT" \
  "--region=$REGION"
delete 'compute instances' "$NAME" "${PLACE[@]}"
[ "$status" = 0 ] || echo "error: resources named $NAME may remain; try again" >&2
exit "$status"
