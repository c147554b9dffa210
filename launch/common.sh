# Functions that the scripts in this folder share; they source this file.
# shellcheck shell=bash disable=SC2034 # the scripts use these variables
set -euo pipefail

DRY_RUN=false
# Without this gcloud could wait for the answer to a prompt that nobody sees.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1

# fail MESSAGE: reports a mistake of the caller and exits with status 2.
fail() {
  echo "error: $*" >&2
  exit 2
}

# require NAME WHAT: fails if a setting without a default is unset.
require() {
  [ -n "${!1:-}" ] || fail "$1: not set; set this environment variable to $2"
}

# matches NAME PATTERN WHAT: fails unless a setting matches a pattern.
matches() {
  [[ "${!1}" =~ ^$2$ ]] || fail "$1=${!1}: use $3"
}

# run COMMAND...: prints a command and runs it; with --dry-run only prints it.
run() {
  if "$DRY_RUN"; then
    show "$@"
  else
    show + "$@" >&2
    "$@"
  fi
}

show() {
  printf '%q' "$1"
  printf ' %q' "${@:2}"
  printf '\n'
}

# asks COMMAND...: 0 if the resource that COMMAND describes exists, 1 if not, 3 if
# that is unknown. An error such as expired credentials leaves it unknown: the
# resource may exist and cost money. With --dry-run nothing exists.
asks() {
  local answer
  ! "$DRY_RUN" || return 1
  ! answer=$("$@" 2>&1 >/dev/null) || return 0
  # A service that was never enabled has no resources.
  local nothing='was not found|\] not found|NOT_FOUND|SERVICE_DISABLED|has not been used'
  [[ ! "$answer" =~ $nothing ]] || return 1
  printf 'error: %s\n' "${answer:-$1 failed}" >&2
  return 3
}

# is_there COMMAND...: like asks, but exits if the answer is unknown.
is_there() {
  local answer=0
  asks "$@" || answer=$?
  [ "$answer" != 3 ] || exit 1
  return "$answer"
}

# read_flags FLAG...: reads --dry-run and --help. --help prints the comment at the
# top of the script.
read_flags() {
  local argument
  for argument in "$@"; do
    case "$argument" in
      --dry-run) DRY_RUN=true ;;
      --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
      *) fail "$argument: unknown; use --dry-run or --help" ;;
    esac
  done
}

# read_command FLAG... -- WORD...: reads flags, and the command into WORDS.
read_command() {
  local flags=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    flags+=("$1")
    shift
  done
  read_flags "${flags[@]}"
  [ $# -gt 1 ] || fail 'no command; give it after --'
  shift
  WORDS=("$@")
}

# Reads the settings of all Google Cloud resources.
read_place() {
  require PROJECT 'the project ID'
  require ZONE 'the zone, such as us-east5-b'
  require NAME 'a name for the resources'
  matches PROJECT '[a-z][-a-z0-9:.]{2,62}' 'a project ID'
  matches ZONE '[a-z]+-[a-z]+[0-9]+-[a-z]' 'a zone, such as us-east5-b'
  matches NAME '[a-z][-a-z0-9]{0,40}' 'lower-case letters, digits and hyphens'
  REGION=${ZONE%-*}
  export REGION
  PLACE=("--project=$PROJECT" "--zone=$ZONE")
}

# Reads the settings of the source that a new machine installs.
read_source() {
  require REPOSITORY 'the URL from which git clones the project'
  REVISION=${REVISION:-main}
  matches REPOSITORY '(https://|git@)[-A-Za-z0-9_./:@~]+' 'a URL for git'
  matches REVISION '[-A-Za-z0-9_./]+' 'a branch, tag or commit'
  METADATA=(
    "--metadata=repository=$REPOSITORY,revision=$REVISION"
    "--metadata-from-file=startup-script=$HERE/startup.sh"
  )
}

# undo_at_failure COMMAND...: runs COMMAND if the script fails, so that nothing
# remains that costs money. Use it only for resources that the script creates.
UNDO=()
undo_at_failure() {
  UNDO=("$@")
  trap undo EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT
  trap 'exit 129' HUP
}

undo() {
  local status=$?
  trap - EXIT
  [ "$status" = 0 ] || "${UNDO[@]}" || true
  exit "$status"
}
