#!/usr/bin/env bash
# Runs one command on all workers of a slice and waits for it.
#
#   PROJECT=P ZONE=Z NAME=dcgan WORKDIR=gs://bucket/runs/dcgan \
#     launch/run_all_workers.sh [--dry-run] -- \
#     python -m gan_flax.main --config=configs/dcgan.py
#
# KIND           how the slice was created: queued (default), gce or mig
# WORKDIR        passed to the command as --workdir; the workers' logs are copied
#                to its folder logs/TIME
# ACCELERATOR    type of a queued slice (default v5litepod-8)
# WORKERS        number of its hosts (default: from ACCELERATOR, if a v5litepod)
# READY_SECONDS  time limit for a host to install the project (default 1800)
#
# The exit status is 0 if all workers succeed. Otherwise it is 2 if any worker
# exits with 2, else 143, 130 or 129 if any does (the run can be resumed), else
# the status of the first worker that failed.

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$HERE/common.sh"
read_command "$@"
read_place
require WORKDIR 'the workdir, such as gs://bucket/runs/dcgan'
KIND=${KIND:-queued}
matches KIND '(queued|gce|mig)' 'queued, gce or mig'
ACCELERATOR=${ACCELERATOR:-v5litepod-8}
matches ACCELERATOR '[a-z0-9]+-[0-9]+' 'an accelerator type, such as v5litepod-16'
# A v5e slice of up to eight chips is one host; larger ones have four per host.
chips=${ACCELERATOR#v5litepod-}
[ -n "${WORKERS:-}" ] || [ "$chips" != "$ACCELERATOR" ] ||
  fail "WORKERS: not set; give the number of hosts of $ACCELERATOR"
WORKERS=${WORKERS:-$((chips > 8 ? chips / 4 : 1))}
READY_SECONDS=${READY_SECONDS:-1800}
matches WORKERS '[1-9][0-9]*' 'a number of hosts'
matches READY_SECONDS '[0-9]+' 'a number of seconds'

# One string for the remote shell, with each word quoted.
printf -v command '%q ' "${WORDS[@]}" "--workdir=$WORKDIR"
# launch/startup.sh may still be running there, or may have failed.
place=/opt/gan_vae_flax
remote="waited=0; until [ -e $place/ready ]; do"
remote+=" if [ -e $place/failed ] || [ \$waited -ge $READY_SECONDS ]; then"
remote+=" echo error: the project is not installed, \
see journalctl -u google-startup-scripts >&2; exit 1; fi;"
remote+=" sleep 5; waited=\$((waited + 5)); done;"
# gcloud reconnects after a lost connection. The folder prevents a second run
# beside one that may still be running.
stamp=$(date -u +%Y%m%dT%H%M%SZ)
remote+=" mkdir /tmp/gan_vae_flax_${stamp}_$$ ||"
remote+=" { echo error: the connection was lost >&2; exit 1; };"
remote+=" cd $place/source && PATH=$place/venv/bin:\$PATH exec $command"

instances=("$NAME")
if [ "$KIND" = mig ] && ! "$DRY_RUN"; then
  mapfile -t instances < <(gcloud compute instance-groups managed \
    list-instances "$NAME" "${PLACE[@]}" '--format=value(instance)')
  [ "${#instances[@]}" -gt 0 ] || fail "NAME=$NAME: the group has no instances"
fi

# A preempted machine does not close the connection. ssh closes it after 90 seconds
# without an answer, with status 255.
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

reach() { # reach NUMBER: waits until a new machine accepts connections
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
echo "worker logs, until the workers exit: $logs" >&2
# The first call creates the ssh key if there is none; parallel calls would each
# create one. A failure to connect is reported below.
reach 0 >"$logs/worker_0.log" 2>&1 || true
pids=()
for ((i = 0; i < count; i++)); do
  {
    reach "$i" && [ ! -e "$folder/stopped" ] && ssh_to "$i" "$remote"
  } >>"$logs/worker_$i.log" 2>&1 &
  pids+=($!)
done
# Ctrl-C or a closed terminal sends SIGTERM to the workers, which agree on a step and save it.
# shellcheck disable=SC2329 # called by the trap
stop_all() {
  touch "$folder/stopped"
  for ((j = 0; j < count; j++)); do
    ssh_to "$j" "pkill -TERM -f '_flax[.]main' || true" >/dev/null 2>&1 &
  done
}
trap stop_all INT TERM HUP

worst=0
rank() { # rank STATUS: precedence of an exit status
  case "$1" in 0) echo 0 ;; 2) echo 3 ;; 143 | 130 | 129) echo 2 ;; *) echo 1 ;; esac
}
for ((i = 0; i < ${#pids[@]}; i++)); do
  # A signal to this script interrupts `wait` before the process ends.
  while kill -0 "${pids[$i]}" 2>/dev/null; do wait "${pids[$i]}" || true; done
  status=0
  wait "${pids[$i]}" || status=$?
  [ "$status" = 0 ] || {
    echo "worker $i exited with status $status:" >&2
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
  echo "error: could not copy the logs; they are in $logs" >&2
}
exit "$worst"
