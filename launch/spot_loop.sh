#!/usr/bin/env bash
# Trains on a slice that may be taken away: makes it again, and starts the same
# command again, until that is done. A run goes on from its newest checkpoint.
#
#   PROJECT=P ZONE=Z NAME=dcgan WORKDIR=gs://bucket/runs/dcgan REPOSITORY=... \
#     launch/spot_loop.sh [--dry-run] -- \
#     python -m gan_flax.main --config=configs/dcgan.py
#
# KIND  queued (the default), gce or mig; settings as for the script that makes it
# MAX_RECREATIONS  how often it is made again before this gives up (default 20)
# BACKOFF_SECONDS  after a failure, doubled for each more one after the other, at
#                  most an hour (default 60)
# What was made is deleted in the end. The exit status is the command's. SIGTERM or
# Ctrl-C stop the run in order first; a slice of that name that is there before is
# taken over.

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

# attend COMMAND...: its status in $status. A signal goes on to it, and this script
# ends after it: the shell alone would hear a signal only after hours.
child=
stopped=0
# shellcheck disable=SC2329 # the traps do
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

# What could be wrong is found before anything is made or deleted.
"$create" --dry-run >/dev/null
"$HERE/run_all_workers.sh" --dry-run -- "${WORDS[@]}" >/dev/null

trap 'trap - EXIT; "$HERE/delete.sh" || true' EXIT
trap 'stop 143' TERM
trap 'stop 130' INT
backoff=$BACKOFF_SECONDS
for ((attempt = 0; attempt <= MAX_RECREATIONS; attempt++)); do
  started=$SECONDS
  attend "$create"
  [ "$status" != 0 ] || attend "$HERE/run_all_workers.sh" -- "${WORDS[@]}"
  case "$status" in
    # 2: what was given is wrong, and will be the next time.
    0 | 2) exit "$status" ;;
    143) backoff=$BACKOFF_SECONDS ;;
  esac
  # Nothing is wrong with what ran for long.
  [ $((SECONDS - started)) -lt 3600 ] || backoff=$BACKOFF_SECONDS
  echo "attempt $attempt ended with status $status" >&2
  [ "$attempt" -lt "$MAX_RECREATIONS" ] || break
  # One that was taken away is still there by name.
  "$HERE/delete.sh" || true
  attend sleep "$backoff"
  backoff=$((backoff * 2 > 3600 ? 3600 : backoff * 2))
done
echo "error: gave up after $MAX_RECREATIONS recreations of $NAME" >&2
exit 1
