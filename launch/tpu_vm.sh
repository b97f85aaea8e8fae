#!/usr/bin/env bash
# A TPU VM slice from creation to deletion, all its workers at once. Needs gcloud, logged in; with --dry-run, nothing.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/tpu_vm.sh VERB NAME --zone=ZONE [flags] [-- command]

  create   makes the slice NAME: needs --type and --version
  setup    copies the last commit to all workers and installs it there, with the TPU extra
  run      starts the command after -- on all workers, in the background; it outlives this connection
  logs     follows the log of the run on one worker, until interrupted
  stop     ends the run on all workers
  delete   deletes the slice, after a question

  --zone=ZONE        such as us-east5-a
  --type=TYPE        accelerator type, such as v5p-128
  --version=VERSION  software of the VMs, such as v2-alpha-tpuv5
  --project=PROJECT  if not gcloud's default
  --worker=N         whose log to follow, 0 if not given
  --yes              deletes without a question
  --dry-run          prints the commands and executes none

example: launch/tpu_vm.sh run emma --zone=us-east5-a -- python -m emma_jax.train \
  --config=configs/bilingual.py:llama3.1-8b --workdir=gs://BUCKET/bilingual --config.sharding.distributed=True
END
}

fail() {
  echo "error: $1; see launch/tpu_vm.sh --help" >&2
  exit 2
}

# Executes a command, or prints it so that it can be pasted.
execute() {
  local word words=()
  if [[ ! $dry_run ]]; then
    "$@"
    return
  fi
  for word in "$@"; do
    if [[ $word =~ ^[[:alnum:]_./:=@%+,-]+$ ]]; then words+=("$word"); else words+=("${word@Q}"); fi
  done
  echo "${words[*]}"
}

tpu() {
  execute gcloud compute tpus tpu-vm "$@" --zone="$zone" ${project:+"--project=$project"}
}

on_workers() {
  tpu ssh "$name" --worker="$1" --command="$2"
}

setup() {
  local root archive code
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  archive="${TMPDIR:-/tmp}/emma_jax-$name.tar.gz"
  if [[ ! $dry_run && $(git -C "$root" status --porcelain) ]]; then
    echo "note: changes that are not committed are not copied" >&2
  fi
  execute git -C "$root" archive --format=tar.gz --output="$archive" HEAD
  tpu scp "$archive" "$name:emma_jax.tar.gz" --worker=all
  # Code that the new commit no longer has must not stay; what a run wrote must.
  code="cd emma_jax && rm -rf emma_jax data_tasks configs launch && tar -xzf ../emma_jax.tar.gz"
  on_workers all "mkdir -p emma_jax && $code && bash launch/worker.sh setup"
}

delete() {
  local answer=
  if [[ ! $yes && ! $dry_run ]]; then
    read -rp "delete the TPU VM $name in $zone, with what is on its disks? [y/N] " answer || true
    if [[ $answer != [yY]* ]]; then
      echo "$name is not deleted" >&2
      exit 1
    fi
  fi
  tpu delete "$name" --quiet
}

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  usage
  exit
fi
verb=${1:-} name=${2:-} zone='' type='' version='' project='' worker=0 yes='' dry_run=''
case $verb in
  create | setup | run | logs | stop | delete) ;;
  '') usage >&2; exit 2 ;;
  *) fail "there is no verb '$verb'; there are create, setup, run, logs, stop and delete" ;;
esac
[[ $name && $name != -* ]] || fail "$verb needs the name of a TPU VM"
shift 2
while (($#)); do
  case $1 in
    --zone=?*) zone=${1#*=} ;;
    --type=?*) type=${1#*=} ;;
    --version=?*) version=${1#*=} ;;
    --project=?*) project=${1#*=} ;;
    --worker=?*) worker=${1#*=} ;;
    --yes) yes=1 ;;
    --dry-run) dry_run=1 ;;
    --) shift; break ;;
    --zone | --type | --version | --project | --worker | --*=) fail "flag '$1' needs a value, as ${1%=}=VALUE" ;;
    *) fail "flag '$1' is not known" ;;
  esac
  shift
done
[[ $zone ]] || fail "$verb needs --zone"
[[ $verb != create || ($type && $version) ]] || fail "create needs --type and --version"
[[ $verb != run || $# -gt 0 ]] || fail "run needs a command after --"
[[ $verb == run || $# -eq 0 ]] || fail "$verb takes no command"
[[ $worker =~ ^[0-9]+$ ]] || fail "--worker is '$worker', not a number"
[[ $dry_run ]] || command -v gcloud >/dev/null || fail "gcloud is not installed"

case $verb in
  create) tpu create "$name" --accelerator-type="$type" --version="$version" ;;
  setup) setup ;;
  run) on_workers all "bash emma_jax/launch/worker.sh run$(printf ' %q' "$@")" ;;
  logs) on_workers "$worker" "bash emma_jax/launch/worker.sh logs" ;;
  stop) on_workers all "bash emma_jax/launch/worker.sh stop" ;;
  delete) delete ;;
esac
