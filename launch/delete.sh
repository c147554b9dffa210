#!/usr/bin/env bash
# Deletes whatever the other scripts made under a name. Twice is no error; not
# to know whether something is left is one.
#
#   PROJECT=P ZONE=Z NAME=dcgan launch/delete.sh [--dry-run]

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_flags "$@"
read_place

status=0
delete() { # delete 'GROUP WORDS' THING FLAGS...: if it is there
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
[ "$status" = 0 ] || echo "error: $NAME may not all be deleted" >&2
exit "$status"
