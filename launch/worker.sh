#!/usr/bin/env bash
# What launch/tpu_vm.sh has done on each worker of a slice: setup, run COMMAND, logs, stop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
logs="$HOME/emma_jax_logs"
pid_file="$logs/run.pid"

is_running() {
  local state
  # A process that has ended, but that nobody has asked about, is a Z.
  [[ -f $pid_file ]] && state=$(ps -o stat= -p "$(<"$pid_file")") && [[ $state != Z* ]]
}

setup() {
  local python=python3.12
  command -v "$python" >/dev/null || python=python3.11
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # The images of TPU VMs come with an older Python, or with one that cannot make environments.
    sudo apt-get update -qq
    sudo apt-get install -y -qq "$python" "$python-venv"
  fi
  [[ -x .venv/bin/python ]] || "$python" -m venv .venv
  .venv/bin/pip install --quiet --constraint launch/requirements.txt --editable '.[tpu]'
  .venv/bin/python -c 'import jax; print("installed, with jax", jax.__version__)'
}

run() {
  local log
  if is_running; then
    echo "error: process $(<"$pid_file") is still running here; launch/tpu_vm.sh stop ends it" >&2
    exit 1
  fi
  mkdir -p "$logs"
  # The flags recommended for this TPU, after which come those that are set here, and win.
  LIBTPU_INIT_ARGS="$(PATH="$PWD/.venv/bin:$PATH" python -m emma_jax.tpu_topology) ${LIBTPU_INIT_ARGS:-}"
  export LIBTPU_INIT_ARGS
  log="$logs/run-$(date -u +%Y%m%d-%H%M%S).log"
  ln -sfn "$log" "$logs/run.log"
  # A session of its own: the end of the connection that started it does not reach it, and stop reaches all of it. The
  # trap lets the shell outlive what it waits for.
  PATH="$PWD/.venv/bin:$PATH" setsid nohup bash -c 'trap : TERM; "$@"; echo "ended with exit status $?"' run "$@" \
    >"$log" 2>&1 </dev/null &
  echo $! >"$pid_file"
  for _ in {1..10}; do
    sleep 0.2
    if ! is_running; then
      cat "$log" >&2
      tail -n 1 "$log" | grep -q 'ended with exit status 0'
      return
    fi
  done
  echo "running as process $(<"$pid_file"); its log is $log"
}

stop() {
  if is_running; then
    kill -TERM -- "-$(<"$pid_file")"
  else
    echo "nothing is running here"
  fi
}

case ${1:-} in
  setup) setup ;;
  run) shift; run "$@" ;;
  logs) exec tail -n 100 -F "$logs/run.log" ;;
  stop) stop ;;
  *) echo "usage: launch/worker.sh setup|run COMMAND|logs|stop" >&2; exit 2 ;;
esac
