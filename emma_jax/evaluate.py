"""Evaluation: `python -m emma_jax.evaluate --model=NAME=DIR,NAME=DIR --tasks=sib200,mgsm_direct --output=DIR`.

Runs tasks on models and writes `results.jsonl`, `generations.jsonl` and `tables/*.csv`, by language and resource group.
Tasks are the benchmarks of `evaluation.benchmarks`, through lm-evaluation-harness, and those of `TASKS`, which score
the held-out text of the corpus of a `--config`; a new one of these is a class of the shape `evaluation.task.Task`.
Nothing is computed twice: what a model has answered is kept in `responses/`.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import logging
from etils import epath

from emma_jax import command_line, conversion, manifest
from emma_jax.evaluation import averages, intrinsic, parallel, results, translation
from emma_jax.evaluation.task import Outcome, Task
from emma_jax.evaluation.task_model import TaskModel
from emma_jax.text_model import TextModel

TASKS: dict[str, Callable[..., Task]] = {
    intrinsic.BitsPerByte.name: intrinsic.BitsPerByte,
    intrinsic.TranslationGain.name: intrinsic.TranslationGain,
    translation.SampleTranslations.name: translation.SampleTranslations,
}
WITHOUT = f"without it, the text of a corpus is scored: {', '.join(TASKS)}"
FLAGS = {
    "model": "NAME=DIR,NAME=DIR, each a workdir, WORKDIR@STEP, a Hugging Face folder, or its name on the Hub",
    "output": "folder for results.jsonl and generations.jsonl",
    "tasks": f"which tasks and benchmarks, separated by commas; if left out: {','.join(TASKS)}",
    "languages": "of benchmarks, as xxx_Ssss, separated by commas; all if left out; source-target for a direction",
    "data": "folder that holds a folder for each benchmark; the Hub if left out",
    "limit": "how many items of a benchmark are asked in each language; all if left out",
}


HUB_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")


class Wanted(NamedTuple):
    """What is to be run: `tasks` on the corpus, and `benchmarks` with data from `data`, of which `limit` items."""

    tasks: list[Task]
    benchmarks: list
    data: str
    limit: int


def main(
    config, model: str, output: str, tasks: str = "", languages: str = "", data: str = "", limit: str = ""
) -> None:
    """Evaluates each model on each task; raises ValueError before anything is loaded if a name or folder is wrong.

    What fails later is told when the rest is done.
    """
    if not model or not output:
        raise ValueError("which models, and where to? --model=NAME=DIR,NAME=DIR --output=DIR")
    if limit and not (limit.isdecimal() and int(limit)):
        raise ValueError(f"--limit is {limit!r}; expected a number of items, at least 1")
    if limit:
        logging.warning("only the first %s items of each file are asked, which are often of few kinds: a trial", limit)
    if (data or languages) and not tasks:
        raise ValueError(f"which benchmarks? --data and --languages are for those, and --tasks names none; {WITHOUT}")
    if epath.Path(output).exists() and not epath.Path(output).is_dir():
        raise ValueError(f"--output is {output}, which is a file; name a folder")
    folders = {name: local_folder(folder) for name, folder in results.named_folders(model).items()}
    wanted = choose(config, _split(tasks) or list(TASKS), _split(languages), data, int(limit or 0))
    failures = []
    for name, folder in folders.items():
        try:
            failures += evaluate(name, folder, wanted, config, output)
        except (ValueError, OSError) as error:
            if len(folders) == 1:
                raise
            logging.error("%s failed: %s", name, error)
            failures.append(f"{name} ({error})")
    averages.write(output, results.read_results(output))
    if failures:
        raise ValueError(f"{len(failures)} failed, and what else there was is done: {'; '.join(failures)}")


def local_folder(model: str) -> str:
    """The folder of a model, fetched from the Hub if it is named as there; raises ValueError if it is nowhere."""
    if epath.Path(conversion.split_step(model)[0]).is_dir():
        return model
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", model):
        raise ValueError(f"there is no model in {model!r}: no such folder")
    command_line.require_extra("eval", "huggingface_hub")
    import huggingface_hub  # only here: it belongs to the extra

    try:
        return huggingface_hub.snapshot_download(model, allow_patterns=HUB_FILES)
    except Exception as error:  # of the network, which has many
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{model!r} is neither a folder nor a model that the Hub gives: {reason}") from error


def choose(config, names: Sequence[str], languages: Sequence[str], data: str, limit: int) -> Wanted:
    """The tasks and benchmarks of `names`. Raises ValueError if there is none of a name, or not what it needs."""
    own = [name for name in names if name in TASKS]
    others = [name for name in names if name not in TASKS]
    chosen = []
    if others:
        command_line.require_extra("eval", "lm_eval")
        from emma_jax.evaluation import benchmarks  # only here: it needs the extra

        if unknown := [name for name in others if name not in benchmarks.BENCHMARKS]:
            raise ValueError(
                f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}; and {', '.join(benchmarks.BENCHMARKS)}"
            )
        chosen = benchmarks.select(others, languages, data)
    corpus = manifest.load(config.corpus.folder) if own else None
    return Wanted([TASKS[name](config, corpus) for name in own], chosen, data, limit)


def evaluate(name: str, folder: str, wanted: Wanted, config, output: str) -> list[str]:
    """Runs what is not done for the model in `folder`, called `name`, writes its results, and returns what failed."""
    files = conversion.files_fingerprint(folder)
    states = {task.name: parallel.digest([files, task.prompt_hash]) for task in wanted.tasks}
    done = results.read_done(output).get(name, {})
    pending = [task for task in wanted.tasks if done.get(task.name) != states[task.name]]
    for task in wanted.tasks:
        if task not in pending:
            logging.info("%s: %s is done already", name, task.name)
        elif task.name in done:
            logging.info("%s: %s was done with another model or other texts, and is done anew", name, task.name)
    if not pending and not wanted.benchmarks:
        return []
    model = TextModel(
        folder, str(epath.Path(output) / "responses" / f"{name}.jsonl"), num_slots=config.evaluation.slots
    )
    model.name = name
    for task in pending:
        logging.info("%s: %s begins", name, task.name)
        outcome = task.run(TaskModel(model, config.evaluation))
        _write(output, name, task, outcome, config.seed, states[task.name])
    return _run_benchmarks(name, folder, model, wanted, config.seed, output) if wanted.benchmarks else []


def _run_benchmarks(name: str, folder: str, model: TextModel, wanted: Wanted, seed: int, output: str) -> list[str]:
    from emma_jax.evaluation import harness, language_model  # only here: they need the extra

    asked = language_model.LanguageModel(model, seed=seed)
    metadata = {"data": wanted.data, "tokenizer": str(conversion.tokenizer_folder(folder))}
    failures = []
    for benchmark in dict.fromkeys(task.benchmark for task in wanted.benchmarks):
        tasks = [task for task in wanted.benchmarks if task.benchmark == benchmark]
        logging.info("%s: %s begins, %d tasks", name, benchmark, len(tasks))
        rows, generations, failed = harness.run(name, asked, tasks, metadata, seed, wanted.limit)
        results.update(output, rows, generations)
        _tell(name, benchmark, rows)
        failures += [f"{failure.task} of {failure.model} ({failure.reason})" for failure in failed]
    return failures


def _write(output: str, name: str, task: Task, outcome: Outcome, seed: int, state: str) -> None:
    rows = [
        results.Result(
            name, task.name, measure.language, measure.metric, measure.value, measure.n, task.shots, task.prompt_hash,
            seed, task.version,
        )
        for measure in outcome.measures
    ]  # fmt: skip
    generations = [results.Generation(name, task.name, *answer) for answer in outcome.answers]
    results.replace(output, name, task.name, rows, generations, state)
    _tell(name, task.name, rows)


def _tell(name: str, benchmark: str, rows: Sequence[results.Result]) -> None:
    for metric in dict.fromkeys(row.metric for row in rows):
        values = [row.value for row in rows if row.metric == metric]
        logging.info("%s: %s %s: mean %.4f over %d", name, benchmark, metric, sum(values) / len(values), len(values))


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


if __name__ == "__main__":
    command_line.run(main, config="configs/evaluation.py", flag_help=FLAGS)
