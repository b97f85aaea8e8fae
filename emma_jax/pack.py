"""Corpus to packed rows: `python -m emma_jax.pack --config=configs/bilingual.py`.

Owns what is packed anew, what goes on and what is done already, and says so. The plan of a component is `pack_plan`,
the work `pack_stages`, what it leaves behind `store`. Running it again does only what is missing or was changed.
"""

import collections
import contextlib
import json
import pathlib
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from absl import logging

from emma_jax import command_line, exchange, manifest, pack_plan, shares, store, tokenizer

PROGRESS_SECONDS = 10


def main(config) -> None:
    """Packs each component of `config.pack.components`, and the validation documents of all their tasks."""
    command_line.require_extra("data", "seqio", "tensorflow")
    command_line.require_extra("corpus", "apache_beam")
    check(config)
    from emma_jax import pack_stages  # imports TensorFlow, which takes seconds: after the checks

    begun = time.monotonic()
    corpus = manifest.load(config.corpus.folder)
    vocabulary = tokenizer.load(config.tokenizer.folder)
    job = pack_stages.Job(
        rows=config.pack.folder,
        corpus=config.corpus.folder,
        tokenizer=config.tokenizer.folder,
        sections=json.dumps(
            {
                "rendering": config.rendering.to_dict(),
                "mixture": config.mixture.to_dict(),
                "components": config.pack.components.to_dict(),
            }
        ),
    )
    tasks = pack_stages.open_tasks(job).tasks
    plans = [
        plan
        for component, dependencies in component_dependencies(config, corpus, vocabulary, tasks).items()
        if (plan := unfinished_plan(job, config, component, dependencies))
    ]
    if plans:
        with progress(job, plans):
            pack_stages.run(job, plans, config.pack.num_workers, config.pack.beam_options)
    for plan in plans:
        finish(job, plan, vocabulary)
    logging.info("pack: %d components are in %s, %.0f seconds", len(tasks), config.pack.folder, time.monotonic() - begun)
