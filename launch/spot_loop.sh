#!/usr/bin/env bash
# Trains on a spot slice. After a preemption it creates the slice again and restarts
# the command, which resumes from its newest checkpoint, until the command succeeds.
#
#   PROJECT=P ZONE=Z NAME=dcgan WORKDIR=gs://bucket/runs/dcgan REPOSITORY=... \
#     launch/spot_loop.sh [--dry-run] -- \
#     python -m gan_flax.main --config=configs/dcgan.py
#
# KIND             queued (default), gce or mig; see the script that creates it for
#                  its settings
# MAX_RECREATIONS  maximum number of recreations (default 20)
# BACKOFF_SECONDS  pause after a failure, doubled after each consecutive failure, up
#                  to an hour (default 60)
#
# A slice of that name that already exists is used, and the slice is deleted at the
# end. The exit status is the command's. SIGTERM or Ctrl-C first stops the run with
# a checkpoint.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_command "$@"
read_place
KIND=${KIND:-queued}
matches KIND '(queued|gce|mig)' 'queued, gce or mig'
MAX_RECREATIONS=${MAX_RECREATIONS:-20}
BACKOFF_SECONDS=${BACKOFF_SECONDS:-60}
matches MAX_RECREATIONS '[0-9]+' 'a number'
matches BACKOFF_SECONDS '[0-9]+' 'a number of seconds'
export KIND SPOT=true

case "$KIND" in
  queued) create=$HERE/tpu_queued.sh ;;
  gce) create=$HERE/gce_tpu.sh ;;
  mig) create=$HERE/gce_tpu_mig.sh ;;
esac
if "$DRY_RUN"; then
  "$create" --dry-run
  "$HERE/run_all_workers.sh" --dry-run -- "${WORDS[@]}"
  "$HERE/delete.sh" --dry-run
  exit 0
fi

# attend COMMAND...: runs COMMAND and sets $status. A signal is passed on to COMMAND
# and ends this script after it. Without this the shell would handle the signal
# only after COMMAND ends, hours later.
child=
stopped=0
# shellcheck disable=SC2329 # called by the traps
stop() {
  stopped=$1
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
attend() {
  status=0
  "$@" &
  child=$!
  while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
  wait "$child" || status=$?
  child=
  [ "$stopped" = 0 ] || exit "$stopped"
}

# Check all settings before anything is created or deleted.
"$create" --dry-run >/dev/null
"$HERE/run_all_workers.sh" --dry-run -- "${WORDS[@]}" >/dev/null

trap 'trap - EXIT; "$HERE/delete.sh" || true' EXIT
trap 'stop 143' TERM
trap 'stop 130' INT
trap 'stop 129' HUP
backoff=$BACKOFF_SECONDS
for ((attempt = 0; attempt <= MAX_RECREATIONS; attempt++)); do
  started=$SECONDS
  attend "$create"
  [ "$status" != 0 ] || attend "$HERE/run_all_workers.sh" -- "${WORDS[@]}"
  case "$status" in
    # 2: a mistake in the command or config, so do not retry.
    0 | 2) exit "$status" ;;
    143) backoff=$BACKOFF_SECONDS ;;
  esac
  # A long run shows that the setup works.
  [ $((SECONDS - started)) -lt 3600 ] || backoff=$BACKOFF_SECONDS
  echo "attempt $attempt exited with status $status" >&2
  [ "$attempt" -lt "$MAX_RECREATIONS" ] || break
  # A preempted slice still exists by name.
  "$HERE/delete.sh" || true
  attend sleep "$backoff"
  backoff=$((backoff * 2 > 3600 ? 3600 : backoff * 2))
done
echo "error: gave up after $MAX_RECREATIONS recreations of $NAME" >&2
exit 1
