#!/usr/bin/env bash
# Ask for a Cloud TPU slice as a queued resource and wait until it is there; or delete it.
#   scripts/tpu_create.sh --name=pod --zone=us-west4-a --accelerator_type=v5litepod-16 --spot
#   scripts/tpu_create.sh --help
#
# The gcloud commands were checked against the documentation named beside each flag, not run on a TPU.
# `#--flag` below is the anchor on the page named at the head of its block.
set -euo pipefail

usage() {
  cat <<'HELP'
Ask for a Cloud TPU slice as a queued resource and wait until it is ACTIVE; or delete it.

  --name=NAME                  of the queued resource and of its node (required)
  --zone=ZONE                  e.g. us-west4-a; cloud.google.com/tpu/docs/regions-zones (required)
  --accelerator_type=TYPE      generation and size: v4-32, v5litepod-16, v5p-32, v6e-16 (required to create)
  --project=PROJECT            gcloud's configured project when not given
  --runtime_version=VERSION    follows from the generation when not given
  --spot | --on_demand         spot is cheap and can be taken away at any time; on demand is the default
  --valid_until_duration=TIME  give up the place in the queue after this time, e.g. 6h; never when not given
  --timeout=SECONDS            how long to wait here, 3600; the request stays queued after that
  --poll_seconds=SECONDS       between two looks, 30
  --delete                     delete the node and the queued resource, without asking
  --dry_run                    print the commands, one per line, ready to paste; run nothing

Examples
  # sixteen v5e chips on four hosts, at spot prices, within six hours or not at all
  scripts/tpu_create.sh --name=pod --zone=us-west4-a --accelerator_type=v5litepod-16 --spot --valid_until_duration=6h
  # go on waiting: the same command; a resource that exists is not created again
  # what would be run
  scripts/tpu_create.sh --name=pod --zone=us-west4-a --accelerator_type=v6e-8 --dry_run
  # stop paying; also after a spot slice was taken away (SUSPENDED), before creating it again
  scripts/tpu_create.sh --name=pod --zone=us-west4-a --delete

Then scripts/tpu_train.sh trains on it. Exit codes: 0 ACTIVE or deleted, 1 not, 2 wrong options.
HELP
}

misuse() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# One word as bash reads it back, bare where that is safe.
quote() {
  local LC_ALL=C single="'\\''"
  case $1 in
    *[[:cntrl:]]*) printf '%q' "$1" ;;
    '' | *[!A-Za-z0-9_./:=@%+,-]*) printf "'%s'" "${1//\'/$single}" ;;
    *) printf '%s' "$1" ;;
  esac
}

show() {
  local word line=''
  for word in "$@"; do
    if [[ $word =~ ^--[a-z-]+= ]]; then
      line+=" ${word%%=*}=$(quote "${word#*=}")"
    else
      line+=" $(quote "$word")"
    fi
  done
  printf '%s\n' "${line# }"
}

name='' zone='' accelerator_type='' project='' runtime_version='' tier='' valid_until_duration=''
timeout=3600 poll_seconds=30 delete='' dry_run=''
for argument in "$@"; do
  value=${argument#*=}
  case $argument in
    --help | -h) usage; exit 0 ;;
    --name=*) name=$value ;;
    --zone=*) zone=$value ;;
    --accelerator_type=*) accelerator_type=$value ;;
    --project=*) project=$value ;;
    --runtime_version=*) runtime_version=$value ;;
    --valid_until_duration=*) valid_until_duration=$value ;;
    --timeout=*) timeout=$value ;;
    --poll_seconds=*) poll_seconds=$value ;;
    --spot | --on_demand)
      [ -z "$tier" ] || [ "$tier" = "$argument" ] || misuse "--spot and --on_demand exclude each other; give one"
      tier=$argument
      ;;
    --delete) delete=1 ;;
    --dry_run) dry_run=1 ;;
    --name | --zone | --accelerator_type | --project | --runtime_version | --valid_until_duration | --timeout | \
      --poll_seconds)
      misuse "$argument needs a value: $argument=VALUE" ;;
    *) misuse "unknown option '$argument'; --help explains the options" ;;
  esac
done
[ -n "$name" ] || misuse "--name=NAME is missing: how the slice is to be called"
[ -n "$zone" ] || misuse "--zone=ZONE is missing: where the slice is, e.g. --zone=us-west4-a"
[[ $timeout =~ ^(0|[1-9][0-9]*)$ ]] || misuse "--timeout=$timeout is not a whole number of seconds"
[[ $poll_seconds =~ ^(0|[1-9][0-9]*)$ ]] || misuse "--poll_seconds=$poll_seconds is not a whole number of seconds"
if [ -z "$delete" ]; then
  [ -n "$accelerator_type" ] ||
    misuse "--accelerator_type=TYPE is missing: generation and size, e.g. --accelerator_type=v5litepod-16"
  # cloud.google.com/tpu/docs/runtimes, "PyTorch and JAX"
  case $accelerator_type in
    v6e-*) default_runtime=v2-alpha-tpuv6e ;;
    v5p-*) default_runtime=v2-alpha-tpuv5 ;;
    v5litepod-*) default_runtime=v2-alpha-tpuv5-lite ;;
    v[234]-*) default_runtime=tpu-ubuntu2204-base ;;
    *) default_runtime='' ;;
  esac
  runtime_version=${runtime_version:-$default_runtime}
  [ -n "$runtime_version" ] || misuse \
    "--runtime_version=VERSION is missing: none is known for $accelerator_type; see cloud.google.com/tpu/docs/runtimes"
fi

# cloud.google.com/sdk/gcloud/reference/compute/tpus/queued-resources/create, cloud.google.com/tpu/docs/queued-resources
create=(
  gcloud compute tpus queued-resources create "$name"
  "--zone=$zone"                            # #--zone
  ${project:+"--project=$project"}          # cloud.google.com/sdk/gcloud/reference#--project
  "--node-id=$name"                         # #--node-id
  "--accelerator-type=$accelerator_type"    # #--accelerator-type
  "--runtime-version=$runtime_version"      # #--runtime-version
  ${valid_until_duration:+"--valid-until-duration=$valid_until_duration"}   # #--valid-until-duration
)
[ "$tier" != --spot ] || create+=(--spot)   # #--spot; also cloud.google.com/tpu/docs/spot

# cloud.google.com/sdk/gcloud/reference/compute/tpus/queued-resources/describe
describe=(
  gcloud compute tpus queued-resources describe "$name"
  "--zone=$zone"                     # #--zone
  ${project:+"--project=$project"}   # cloud.google.com/sdk/gcloud/reference#--project
  # cloud.google.com/sdk/gcloud/reference#--format; the resource's `state` is an object with a field `state`:
  # cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.queuedResources#QueuedResourceState
  '--format=value(state.state)'
)

# cloud.google.com/sdk/gcloud/reference/compute/tpus/queued-resources/delete
remove=(
  gcloud compute tpus queued-resources delete "$name"
  "--zone=$zone"                     # #--zone
  ${project:+"--project=$project"}   # cloud.google.com/sdk/gcloud/reference#--project
  --force                            # #--force: its nodes too
  --quiet                            # cloud.google.com/sdk/gcloud/reference#--quiet: no question
)

if [ -n "$dry_run" ]; then
  if [ -n "$delete" ]; then
    show "${remove[@]}"
  else
    show "${create[@]}"
    show "${describe[@]}"
  fi
  exit 0
fi

command -v gcloud >/dev/null || {
  echo "error: gcloud is not installed; see cloud.google.com/sdk/docs/install, or print the commands with --dry_run" >&2
  exit 1
}
if [ -n "$delete" ]; then
  exec "${remove[@]}"
fi

if state=$("${describe[@]}" 2>/dev/null); then
  echo "$name exists already and keeps its type and tier; waiting for it" >&2
else
  "${create[@]}"
fi

started=$SECONDS failures=0
while true; do
  if state=$("${describe[@]}"); then
    failures=0
    printf '%s  %s  after %d s\n' "$(date +%H:%M:%S)" "$state" $((SECONDS - started))
  else
    # A look that fails once or twice is the network; five in a row are something to be told.
    failures=$((failures + 1)) state=''
    [ "$failures" -lt 5 ] || { echo "error: cannot see the state of $name; gcloud says why above" >&2; exit 1; }
  fi
  # The states: cloud.google.com/tpu/docs/queued-resources
  case $state in
    ACTIVE) exit 0 ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING)
      echo "error: $name is $state and will not become ACTIVE; run this script with --delete, then create it again" >&2
      exit 1
      ;;
  esac
  if [ $((SECONDS - started)) -ge "$timeout" ]; then
    echo "error: $name is not ACTIVE after $timeout s; it stays queued: wait on by the same command, or --delete it" >&2
    exit 1
  fi
  sleep "$poll_seconds"
done
