#!/usr/bin/env bash
# Runs one command on all workers of a slice, and waits for it.
#
#   PROJECT=P ZONE=Z NAME=dcgan WORKDIR=gs://bucket/runs/dcgan \
#     launch/run_all_workers.sh [--dry-run] -- \
#     python -m gan_flax.main --config=configs/dcgan.py
#
# KIND     queued for the Cloud TPU API (the default), or gce, mig for the others
# WORKDIR  where the run lives, added to the command as --workdir; logs of the
#          workers go to its folder logs/, into one named after the time
# ACCELERATOR, WORKERS  what a queued slice is, and how many hosts it has (default:
#          those of v5litepod-8, as many as a v5litepod has)
# READY_SECONDS  how long a host may take to install the project (default 1800)
# The exit status is 0 if all workers end so; else 2 if one says that, then 143
# or 130, which ask for a start again, then 1.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_command "$@"
read_place
require WORKDIR 'the workdir, such as gs://bucket/runs/dcgan'
KIND=${KIND:-queued}
matches KIND '(queued|gce|mig)' 'queued, gce or mig'
ACCELERATOR=${ACCELERATOR:-v5litepod-8}
matches ACCELERATOR '[a-z0-9]+-[0-9]+' 'a type, such as v5litepod-16'
# Up to eight chips of v5e are one host, more are hosts of four.
chips=${ACCELERATOR#v5litepod-}
[ -n "${WORKERS:-}" ] || [ "$chips" != "$ACCELERATOR" ] ||
  fail "WORKERS: not set; give the number of hosts of $ACCELERATOR"
WORKERS=${WORKERS:-$((chips > 8 ? chips / 4 : 1))}
READY_SECONDS=${READY_SECONDS:-1800}
matches WORKERS '[1-9][0-9]*' 'a number of hosts'
matches READY_SECONDS '[0-9]+' 'a number of seconds'

# One string for the other side's shell, each word quoted.
printf -v command '%q ' "${WORDS[@]}" "--workdir=$WORKDIR"
# launch/startup.sh is perhaps still at work there, or has failed.
place=/opt/gan_vae_flax
remote="waited=0; until [ -e $place/ready ]; do"
remote+=" if [ -e $place/failed ] || [ \$waited -ge $READY_SECONDS ]; then"
remote+=" echo error: the project is not installed, \
see journalctl -u google-startup-scripts >&2; exit 1; fi;"
remote+=" sleep 5; waited=\$((waited + 5)); done;"
# Where the connection is lost, gcloud calls again: not a second run beside one that
# may be there still.
stamp=$(date -u +%Y%m%dT%H%M%SZ)
remote+=" mkdir /tmp/gan_vae_flax_${stamp}_$$ ||"
remote+=" { echo error: the connection was lost >&2; exit 1; };"
remote+=" cd $place/source && PATH=$place/venv/bin:\$PATH exec $command"

instances=("$NAME")
if [ "$KIND" = mig ] && ! "$DRY_RUN"; then
  mapfile -t instances < <(gcloud compute instance-groups managed \
    list-instances "$NAME" "${PLACE[@]}" '--format=value(instance)')
  [ "${#instances[@]}" -gt 0 ] || fail "NAME=$NAME: the group has no machines"
fi

# A machine that is taken away does not hang up: after a minute and a half without
# an answer ssh does, with status 255.
ssh_to() { # ssh_to NUMBER COMMAND
  local alive=--ssh-flag=-oServerAliveInterval=30
  if [ "$KIND" = queued ]; then
    run gcloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" "$alive" \
      "--worker=$1" "--command=$2"
  else
    run gcloud compute ssh "${instances[$1]##*/}" "${PLACE[@]}" "$alive" \
      "--command=$2"
  fi
}

reach() { # reach NUMBER: a new machine takes a while until it lets anybody in
  local try
  for ((try = 1; try < 20; try++)); do
    ! ssh_to "$1" true || return 0
    sleep "${RETRY_SECONDS:-15}"
  done
  ssh_to "$1" true
}

count=$WORKERS
[ "$KIND" = queued ] || count=${#instances[@]}
if "$DRY_RUN"; then
  for ((i = 0; i < count; i++)); do ssh_to "$i" "$remote"; done
  [[ "$WORKDIR" != gs://* ]] ||
    run gcloud storage cp --recursive LOGS "$WORKDIR/logs/"
  exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
logs=$folder/$stamp
mkdir "$logs"
echo "logs of the workers, until they end: $logs" >&2
# The first call makes the key for ssh if there is none, which many at a time
# would all do. Who cannot be reached says so below.
reach 0 >"$logs/worker_0.log" 2>&1 || true
pids=()
for ((i = 0; i < count; i++)); do
  {
    reach "$i" && [ ! -e "$folder/stopped" ] && ssh_to "$i" "$remote"
  } >>"$logs/worker_$i.log" 2>&1 &
  pids+=($!)
done
# Ctrl-C here is SIGTERM there: the workers agree on a step, and save it.
# shellcheck disable=SC2329 # the trap does
stop_all() {
  touch "$folder/stopped"
  for ((j = 0; j < count; j++)); do
    ssh_to "$j" "pkill -TERM -f '_flax[.]main' || true" >/dev/null 2>&1 &
  done
}
trap stop_all INT TERM

worst=0
rank() { # how much a status says of what is to be done
  case "$1" in 0) echo 0 ;; 2) echo 3 ;; 143 | 130) echo 2 ;; *) echo 1 ;; esac
}
for ((i = 0; i < ${#pids[@]}; i++)); do
  # A signal to this script ends a `wait` before its process does.
  while kill -0 "${pids[$i]}" 2>/dev/null; do wait "${pids[$i]}" || true; done
  status=0
  wait "${pids[$i]}" || status=$?
  [ "$status" = 0 ] || {
    echo "worker $i ended with status $status:" >&2
    tail -n 3 "$logs/worker_$i.log" >&2
  }
  [ "$(rank "$status")" -le "$(rank "$worst")" ] || worst=$status
done

keep_logs() {
  if [[ "$WORKDIR" == gs://* ]]; then
    run gcloud storage cp --recursive "$logs" "$WORKDIR/logs/"
  else
    mkdir -p "$WORKDIR/logs" && cp -r "$logs" "$WORKDIR/logs/"
  fi
}
keep_logs || {
  trap - EXIT
  echo "error: the logs stay in $logs" >&2
}
exit "$worst"
