#!/usr/bin/env bash
# The whole way on a laptop: real multilingual text in, a continually pre-trained tiny Llama in Hugging Face format out.
# Everything is written below quickstart/. Running it again continues where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
use_environment data,corpus,quickstart,report
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0 PYTHONWARNINGS=ignore

config=configs/quickstart.py
out=quickstart
mkdir -p "$out"

step() { # step NAME COMMAND...: runs it, and notes its time and the peak memory of its largest process
  echo "== $1"
  python launch/measure.py "$out/steps.jsonl" "$@"
}
unless() { # unless MADE FROM NAME COMMAND...: runs the step if what it makes is not there
  if [ ! -e "$1" ]; then
    step "${@:3}"
  elif [ "$1" -ot "$2" ]; then
    echo "error: $1 is older than $2, which it was made from; remove it and run again" >&2
    exit 2
  else
    echo "== $3: $1 is there"
  fi
}

step corpus python -m emma_jax.corpus --config=$config
step tokenizer python -m emma_jax.train_tokenizer --config=$config
step pack python -m emma_jax.pack --config=$config

step "train base" python -m emma_jax.train --config=$config:base --workdir=$out/base
newest_step() { # newest_step WORKDIR
  ls -td "$1"/checkpoints/[0-9]*/metadata | head -n 1
}
unless $out/hf/base "$(newest_step $out/base)" "export base" \
  python -m emma_jax.hf export --from=$out/base --to=$out/hf/base --dtype=float32
unless $out/base_imported/checkpoints/0 $out/hf/base/config.json "import base" \
  python -m emma_jax.hf import --from=$out/hf/base --to=$out/base_imported

for arm in monolingual bilingual; do
  step "train $arm" python -m emma_jax.train --config=$config:$arm --workdir=$out/$arm
  unless $out/hf/$arm "$(newest_step $out/$arm)" "export $arm" \
    python -m emma_jax.hf export --from=$out/$arm --to=$out/hf/$arm --dtype=float32
done

models=base=$out/base,mono=$out/monolingual,bi=$out/bilingual
step evaluate python -m emma_jax.evaluate --config=$config --model=$models --output=$out/results
step report python -m emma_jax.report --results=$out/results --runs=$models --corpus=$out/corpus --output=$out/report

python launch/measure.py "$out/steps.jsonl"
echo "the report is $out/report/report.html; the models are in $out/hf; curves: tensorboard --logdir $out"
