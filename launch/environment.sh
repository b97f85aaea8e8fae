# Sourced by quickstart.sh and test.sh: `use_environment EXTRAS [PACKAGE...]` makes .venv hold the project with these
# extras, at the versions of requirements.txt, and these packages without what they require, and puts it first on PATH.
# What is installed already is not installed again.

use_environment() {
  local extras=$1 python stamp
  shift
  if [ ! -x .venv/bin/python ]; then
    python=${PYTHON:-$(command -v python3.11 || command -v python3.12 || command -v python3 || true)}
    if ! "${python:-false}" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
      echo "error: Python 3.11 or 3.12 with venv is needed, found '${python:-none}'; name one with PYTHON=..." >&2
      exit 2
    fi
    "$python" -m venv .venv
  fi
  export PATH="$PWD/.venv/bin:$PATH"
  stamp=.venv/installed-$(printf '%s' "$extras" "$@" | cat - setup.cfg launch/requirements.txt | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    echo "installing into .venv: $extras"
    python -m pip install --quiet --disable-pip-version-check --upgrade pip
    PYTHONWARNINGS=ignore python -m pip install --quiet --disable-pip-version-check \
      --constraint launch/requirements.txt --editable ".[$extras]"
    if [ $# -gt 0 ]; then
      python -m pip install --quiet --disable-pip-version-check --no-deps "$@"
    fi
    touch "$stamp"
  fi
}

# `install_beside FOLDER PACKAGE...` makes .venv/FOLDER hold just these packages, without what they require, for a
# process that has it first on PYTHONPATH.
install_beside() {
  local folder=.venv/$1 stamp
  shift
  stamp=$folder/installed-$(printf '%s ' "$@" | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    echo "installing into $folder: $*"
    rm -rf "$folder"
    python -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" "$@"
    touch "$stamp"
  fi
}
