#!/usr/bin/env bash
# Sets up what the tests need and runs them all; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
# With tpu, steps are compiled for TPU slices, of which none is needed. Llama 3's vocabulary is in the package at the
# end, whose requirements are not needed for it.
use_environment data,corpus,eval,quickstart,report,test,tpu llama-models==0.3.0
# Conversion is tested with a transformers of before 5 too. It needs torch, which is a test's requirement on 3.11 only.
if python -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
  install_beside transformers-4.46 transformers==4.46.3 tokenizers==0.20.3 huggingface_hub==0.36.2
fi
python -m ruff check .
python -m ruff format --check .
exec python -m pytest "$@"
