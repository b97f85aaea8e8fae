#!/usr/bin/env bash
# Sets up what the tests need and runs them all; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
use_environment data,corpus,quickstart,report,test
python -m ruff check .
python -m ruff format --check .
exec python -m pytest "$@"
