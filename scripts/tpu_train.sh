#!/usr/bin/env bash
# Train on all hosts of a Cloud TPU slice: copy this commit, install it, start, follow, look, stop.
#   scripts/tpu_train.sh --name=pod --zone=us-west4-a --experiment=balle2017 -- --workdir=gs://BUCKET/q4 ...
#   scripts/tpu_train.sh --help
#
# The gcloud commands were checked against the documentation named beside each flag, not run on a TPU.
# `#--flag` below is the anchor on the page named at the head of its block.
set -euo pipefail

usage() {
  cat <<'HELP'
Train on all hosts of a Cloud TPU slice that scripts/tpu_create.sh made.

  scripts/tpu_train.sh --name=NAME --zone=ZONE --experiment=EXPERIMENT [--follow] -- FLAGS OF THE EXPERIMENT
  scripts/tpu_train.sh --name=NAME --zone=ZONE --follow | --status | --stop

  --name=NAME              the slice (required)
  --zone=ZONE              its zone (required)
  --project=PROJECT        gcloud's configured project when not given
  --experiment=EXPERIMENT  a file of experiments/, e.g. balle2017; run with --multihost and the flags after --
  --follow                 show the log of worker 0 until the run ends; Ctrl-C stops looking, not the run
  --status                 one line per worker: running or not, exit code, last line of the log
  --stop                   send SIGTERM to all workers: the run saves and exits with 75; wait for that
  --force                  with --stop: SIGKILL, for a run that hangs; what came after the last save is lost
  --stop_seconds=SECONDS   how long --stop waits, 600
  --dry_run                print the commands, one per line, ready to paste; run nothing

Starting copies the commit that is checked out (nothing uncommitted) to ~/jaxcodec-run on every worker, installs it
there with '.[tpu,train]' into a virtual environment of Python 3.12, and starts
`python -m experiments.EXPERIMENT --multihost FLAGS` in the background, so that it outlives the connection.
The log is ~/jaxcodec-run/train.log on each worker. Running the same command again after a stop, a crash or a lost
spot slice resumes from the last checkpoint, so --workdir has to be a bucket or a disk that all workers share, and
--train_data has to be readable on every worker.

gcloud reaches several workers only with its key in the ssh agent:
  eval "$(ssh-agent)" && ssh-add ~/.ssh/google_compute_engine

Examples
  # the photos, on every worker
  gcloud compute tpus tpu-vm ssh pod --zone=us-west4-a --worker=all \
    --command='gcloud storage cp --recursive gs://BUCKET/photos /tmp'
  scripts/tpu_train.sh --name=pod --zone=us-west4-a --experiment=balle2017 --follow -- \
    --workdir=gs://BUCKET/runs/q4 --train_data=/tmp/photos --lambda=0.013 --steps=200000 --batch_size=256
  scripts/tpu_train.sh --name=pod --zone=us-west4-a --status
  scripts/tpu_train.sh --name=pod --zone=us-west4-a --stop

Exit codes: 0 done, 1 not, 2 wrong options; with --follow what the run exits with (75: stopped and saved).
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
    if [[ $word =~ ^--[a-z_-]+= ]]; then
      line+=" ${word%%=*}=$(quote "${word#*=}")"
    else
      line+=" $(quote "$word")"
    fi
  done
  printf '%s\n' "${line# }"
}

run() {
  if [ -n "$dry_run" ]; then show "$@"; else "$@"; fi
}

name='' zone='' project='' experiment='' follow='' action=start force='' stop_seconds=600 dry_run=''
flags=() separator=''
while [ $# -gt 0 ]; do
  argument=$1 value=${1#*=}
  shift
  case $argument in
    --help | -h) usage; exit 0 ;;
    --name=*) name=$value ;;
    --zone=*) zone=$value ;;
    --project=*) project=$value ;;
    --experiment=*) experiment=$value ;;
    --stop_seconds=*) stop_seconds=$value ;;
    --follow) follow=1 ;;
    --status | --stop)
      [ "$action" = start ] || misuse "--status and --stop exclude each other; give one"
      action=${argument#--}
      ;;
    --force) force=1 ;;
    --dry_run) dry_run=1 ;;
    --) separator=1 flags=("$@"); break ;;
    --name | --zone | --project | --experiment | --stop_seconds)
      misuse "$argument needs a value: $argument=VALUE" ;;
    *) misuse "unknown option '$argument'; --help explains the options, and flags of the experiment come after --" ;;
  esac
done
[ -n "$name" ] || misuse "--name=NAME is missing: the slice that scripts/tpu_create.sh made"
[ -n "$zone" ] || misuse "--zone=ZONE is missing: where the slice is, e.g. --zone=us-west4-a"
[[ $stop_seconds =~ ^(0|[1-9][0-9]*)$ ]] || misuse "--stop_seconds=$stop_seconds is not a whole number of seconds"
[ -z "$force" ] || [ "$action" = stop ] || misuse "--force goes with --stop only"
if [ "$action" != start ]; then
  [ -z "$follow$experiment$separator" ] || misuse "--$action goes without --follow, --experiment and flags after --"
elif [ -z "$experiment" ]; then
  [ -z "$separator" ] || misuse "--experiment=EXPERIMENT is missing: whose flags are those after --"
  [ -n "$follow" ] || misuse "--experiment=EXPERIMENT is missing; or give --follow, --status or --stop"
  action=follow
else
  [ "${#flags[@]}" -gt 0 ] ||
    misuse "the flags of the experiment are missing: ... -- --workdir=gs://BUCKET/FOLDER --train_data=PHOTOS"
  root=$(cd "$(dirname "$0")/.." && pwd)
  commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null) ||
    misuse "$root is no git checkout with a commit to copy"
  git -C "$root" cat-file -e "HEAD:experiments/$experiment.py" 2>/dev/null ||
    misuse "the commit has no experiments/$experiment.py; commit it, or correct --experiment"
  if [ -n "$(git -C "$root" status --porcelain --untracked-files=no)" ]; then
    echo "note: uncommitted changes are not copied; commit $commit is" >&2
  fi
fi
[ -n "$dry_run" ] || command -v gcloud >/dev/null || {
  echo "error: gcloud is not installed; see cloud.google.com/sdk/docs/install, or print the commands with --dry_run" >&2
  exit 1
}

# on_workers WHICH COMMAND: run one line of bash on worker WHICH, or on all.
on_workers() {
  # cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm/ssh
  local ssh=(
    gcloud compute tpus tpu-vm ssh "$name"
    "--zone=$zone"                     # #--zone
    ${project:+"--project=$project"}   # cloud.google.com/sdk/gcloud/reference#--project
    "--worker=$1"                      # #--worker: a number or all; also cloud.google.com/tpu/docs/jax-pods
    "--command=$2"                     # #--command
  )
  run "${ssh[@]}"
}

# What runs on the workers, put together as one line each, so that a printed command is one line too. `running` is
# true while the recorded process is an experiment, not a later process that was given the same number.
folder='~/jaxcodec-run'
running='pid=$(cat train.pid 2>/dev/null) && grep -qs experiments /proc/$pid/cmdline'
refuse_second="if $running; then echo \"\$(hostname): a run is under way, pid \$pid; --stop it first\" >&2; exit 1; fi"
how_it_ended='code=$(cat train.exit 2>/dev/null || echo unknown); text="ended, exit code $code"'
how_it_ended+='; [ "$code" != 75 ] || text="stopped and saved, exit code 75; the same command resumes"'

install_command() {  # of archive $1, in the home folder
  local line="set -e; mkdir -p $folder; cd $folder; $refuse_second"
  # TPU VMs come with an older Python than jaxcodec needs; uv brings one: docs.astral.sh/uv/getting-started/installation
  line+='; export PATH="$HOME/.local/bin:$PATH"'
  line+='; command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh'
  line+='; [ -x venv/bin/python ] || uv venv --quiet --python 3.12 venv'
  line+="; rm -rf code; mkdir code; tar -xzf ~/$1 -C code; rm ~/$1; cd code"
  # gcsfs is what etils.epath opens gs:// folders with.
  line+="; uv pip install --quiet --python ../venv/bin/python --reinstall-package jaxcodec '.[tpu,train]' gcsfs"
  printf '%s' "$line"
}

start_command() {
  local python background line
  python=$(show ../venv/bin/python -u -m "experiments.$experiment" --multihost "${flags[@]}")
  # The number recorded is that of Python itself, which is to get the signal of --stop.
  background="cd code; $python & echo \$! > ../train.pid; wait \$!; echo \$? > ../train.exit"
  line="cd $folder || exit 1; $refuse_second; rm -f train.pid train.exit"
  line+="; echo \"== \$(date -u +%FT%TZ) commit $commit\" >> train.log"
  line+="; nohup bash -c $(quote "$background") >> train.log 2>&1 < /dev/null &"
  line+=' for i in $(seq 50); do [ ! -s train.pid ] || break; sleep 0.1; done'
  line+='; echo "$(hostname): started, pid $(cat train.pid)"'
  printf '%s' "$line"
}

follow_command() {
  local line="cd $folder && [ -e train.pid ] || { echo \"\$(hostname): nothing was started\" >&2; exit 1; }"
  line+='; tail -n 100 -F -s 0.5 --pid=$(cat train.pid) train.log; sleep 0.2'
  line+="; $how_it_ended; echo \"\$(hostname): \$text\"; [ \"\$code\" != unknown ] || code=1; exit \$code"
  printf '%s' "$line"
}

status_command() {
  local line="cd $folder 2>/dev/null && [ -e train.log ] || { echo \"\$(hostname): nothing was started\"; exit 0; }"
  line+="; if $running; then text=\"running, pid \$pid\"; else $how_it_ended; fi"
  line+='; echo "$(hostname): $text; $(tail -n 1 train.log)"'
  printf '%s' "$line"
}

stop_command() {
  local signal=TERM line
  [ -z "$force" ] || signal=KILL
  line="cd $folder 2>/dev/null && $running || { echo \"\$(hostname): nothing is running\"; exit 0; }"
  line+="; kill -$signal \$pid"
  line+="; for i in \$(seq $((5 * stop_seconds))); do kill -0 \$pid 2>/dev/null || break; sleep 0.2; done"
  line+="; ! kill -0 \$pid 2>/dev/null || { echo \"\$(hostname): pid \$pid still runs after $stop_seconds s;"
  line+=' --stop --force ends it unsaved" >&2; exit 1; }'
  line+="; sleep 0.2; $how_it_ended; echo \"\$(hostname): \$text\""
  printf '%s' "$line"
}

copy() {  # file $1 of this machine to $2 in the home folder of every worker
  # cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm/scp
  local scp=(
    gcloud compute tpus tpu-vm scp "$1" "$name:$2"
    "--zone=$zone"                     # #--zone
    ${project:+"--project=$project"}   # cloud.google.com/sdk/gcloud/reference#--project
    --worker=all                       # #--worker
  )
  run "${scp[@]}"
}

case $action in
  start)
    archive="jaxcodec-$commit.tar.gz"
    here=${TMPDIR:-/tmp}
    run git -C "$root" archive --format=tar.gz "--output=${here%/}/$archive" "$commit"
    copy "${here%/}/$archive" "$archive"
    on_workers all "$(install_command "$archive")"
    on_workers all "$(start_command)"
    [ -n "$dry_run" ] || rm -f "${here%/}/$archive"
    [ -n "$dry_run" ] || echo "started on all workers; look with --follow or --status, end with --stop"
    ;;
  status) on_workers all "$(status_command)" ;;
  stop) on_workers all "$(stop_command)" ;;
esac
if [ -n "$follow" ]; then
  on_workers 0 "$(follow_command)"
fi
