"""Benchmarks run through lm-evaluation-harness: tasks in, rows of `results` out. Needs the extra [eval].

Owns how the harness is called and what its results are called here. What is asked is `benchmarks`', what answers is
`language_model`'s.
"""

import logging as std_logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import lm_eval
from absl import logging

from emma_jax.evaluation.benchmarks import BenchmarkTask, TaskManager
from emma_jax.evaluation.results import Generation, Result
from emma_jax.responses import digest

VERSION = f"lm_eval {lm_eval.__version__}"
FEWSHOT_SEED = 1234  # the harness's

std_logging.getLogger("lm_eval").setLevel(std_logging.ERROR)  # it warns of every task's metadata


class Failure(NamedTuple):
    """A task that could not be run, and why."""

    model: str
    task: str
    reason: str


def run(
    name: str, language_model, tasks: Sequence[BenchmarkTask], metadata: Mapping[str, Any], seed: int, limit: int = 0
) -> tuple[list[Result], list[Generation], list[Failure]]:
    """What the model, called `name`, scores on `tasks`, of which at most the first `limit` items are asked.

    All are asked together, so that batches are full; where one of them fails, each is asked alone, and those that fail
    are told.
    """
    try:
        return (*_run(name, language_model, tasks, metadata, seed, limit), [])
    except Exception as error:  # of a task, which may raise anything: a missing file, no network, a metric
        if len(tasks) == 1:
            logging.error("%s: %s failed: %s", name, tasks[0].name, error)
            logging.debug("it failed here", exc_info=True)
            return [], [], [Failure(name, tasks[0].name, f"{type(error).__name__}: {error}")]
    found: tuple[list, list, list] = ([], [], [])
    for task in tasks:
        for all_rows, rows in zip(found, run(name, language_model, [task], metadata, seed, limit), strict=True):
            all_rows += rows
    return found


def _run(name, language_model, tasks, metadata, seed: int, limit: int) -> tuple[list[Result], list[Generation]]:
    manager = TaskManager(include_defaults=False, metadata=metadata)
    loaded = manager.load([task.config for task in tasks])["tasks"]
    for task in loaded.values():  # as the harness's own command line does
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    groups = {"tasks": loaded, "groups": {}, "group_map": {}}
    found = lm_eval.evaluate(language_model, groups, limit=limit or None, bootstrap_iters=0)
    rows, generations = [], []
    for task in tasks:
        samples, values = found["samples"][task.name], found["results"][task.name]
        prompt_hash = digest(sorted((sample["doc_hash"], sample["prompt_hash"]) for sample in samples))
        num_items = len({sample["doc_id"] for sample in samples})
        rows += [
            Result(
                name, task.benchmark, task.language, metric, float(values[key]), num_items, task.shots, prompt_hash,
                seed, VERSION,
            )
            for key, metric in task.metrics.items()
        ]  # fmt: skip
        if task.config["output_type"] == "generate_until":
            first = samples[0]["filter"]  # each filter has samples of its own, of the same answers
            generations += [_generation(name, task, sample) for sample in samples if sample["filter"] == first]
    return rows, generations


def _generation(name: str, task: BenchmarkTask, sample: Mapping[str, Any]) -> Generation:
    scores = {metric: sample[metric] for metric in sample["metrics"] if isinstance(sample[metric], int | float)}
    prompt, output = sample["arguments"][0][0], sample["resps"][0][0]
    return Generation(name, task.benchmark, task.language, prompt, output, str(sample["target"]), scores)
