# What the scripts of this folder share; they source it.
# shellcheck shell=bash disable=SC2034 # they use what is set here
set -euo pipefail

DRY_RUN=false
# gcloud is not to wait for an answer that nobody sees it ask for.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1

# Says what is wrong, and that it is the caller's to mend.
fail() {
  echo "error: $*" >&2
  exit 2
}

# require NAME WHAT: a setting without a default.
require() {
  [ -n "${!1:-}" ] || fail "$1: not set; give $2 in the environment"
}

# matches NAME PATTERN WHAT: a setting that other commands will read.
matches() {
  [[ "${!1}" =~ ^$2$ ]] || fail "$1=${!1}: give $3"
}

# Runs a command after printing it; with --dry-run it prints it as it is typed.
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

# asks COMMAND...: 0 if what it describes is there, 1 if not, 3 if nobody knows,
# because a password is out of date for one: that is no proof that nothing costs.
# In a dry run nothing is there.
asks() {
  local answer
  ! "$DRY_RUN" || return 1
  ! answer=$("$@" 2>&1 >/dev/null) || return 0
  # Where a service is not used there is nothing of it.
  local nothing='was not found|\] not found|NOT_FOUND|SERVICE_DISABLED|has not been used'
  [[ ! "$answer" =~ $nothing ]] || return 1
  printf 'error: %s\n' "${answer:-$1 failed}" >&2
  return 3
}

# The same for a script that cannot go on if nobody knows.
is_there() {
  local answer=0
  asks "$@" || answer=$?
  [ "$answer" != 3 ] || exit 1
  return "$answer"
}

# Reads the only flags there are. Usage is the comment at the top of a script.
read_flags() {
  local argument
  for argument in "$@"; do
    case "$argument" in
      --dry-run) DRY_RUN=true ;;
      --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
      *) fail "$argument: unknown; there are --dry-run and --help" ;;
    esac
  done
}

# read_command FLAG... -- WORD...: the flags, and the words that are to be run.
read_command() {
  local flags=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    flags+=("$1")
    shift
  done
  read_flags "${flags[@]}"
  [ $# -gt 1 ] || fail 'the command: missing; give it after --'
  shift
  WORDS=("$@")
}

# The settings of everything in Google Cloud.
read_place() {
  require PROJECT 'the project'
  require ZONE 'the zone, such as us-east5-b'
  require NAME 'a name for what is made'
  matches PROJECT '[a-z][-a-z0-9:.]{2,62}' 'a project'
  matches ZONE '[a-z]+-[a-z]+[0-9]+-[a-z]' 'a zone, such as us-east5-b'
  matches NAME '[a-z][-a-z0-9]{0,40}' 'small letters, digits and dashes'
  REGION=${ZONE%-*}
  export REGION
  PLACE=("--project=$PROJECT" "--zone=$ZONE")
}

# The settings of what a new machine installs.
read_source() {
  require REPOSITORY 'the address that git clones the project from'
  REVISION=${REVISION:-main}
  matches REPOSITORY '(https://|git@)[-A-Za-z0-9_./:@~]+' 'an address for git'
  matches REVISION '[-A-Za-z0-9_./]+' 'a branch, tag or commit'
  METADATA=(
    "--metadata=repository=$REPOSITORY,revision=$REVISION"
    "--metadata-from-file=startup-script=$HERE/startup.sh"
  )
}

# undo_at_failure COMMAND...: run if the script fails, to leave nothing that costs.
# For what the script itself makes: what was there before is not its to delete.
UNDO=()
undo_at_failure() {
  UNDO=("$@")
  trap undo EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT
}

undo() {
  local status=$?
  trap - EXIT
  [ "$status" = 0 ] || "${UNDO[@]}" || true
  exit "$status"
}
