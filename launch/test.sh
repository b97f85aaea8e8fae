#!/usr/bin/env bash
# Sets up what the tests need and runs them all; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
# Llama 3's vocabulary is in this package, whose requirements are not needed for it.
use_environment data,corpus,quickstart,report,test llama-models==0.3.0
python -m ruff check .
python -m ruff format --check .
exec python -m pytest "$@"
