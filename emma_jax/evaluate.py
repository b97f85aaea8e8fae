"""Evaluation: `python -m emma_jax.evaluate --config=configs/quickstart.py --model=NAME=DIR,NAME=DIR --output=DIR`.

Runs tasks on models and writes `results.jsonl` and `generations.jsonl` for `emma_jax.report`. A model and task that are
there already, with the same texts and the same model files, are not run again. A new benchmark is a class of the shape
`evaluation.task.Task` and a line in `TASKS`.
"""

from collections.abc import Callable

from absl import logging
from etils import epath

from emma_jax import command_line, conversion, manifest
from emma_jax.evaluation import intrinsic, language_model, parallel, results, translation
from emma_jax.evaluation.task import Outcome, Task

TASKS: dict[str, Callable[..., Task]] = {
    intrinsic.TranslationGain.name: intrinsic.TranslationGain,
    translation.SampleTranslations.name: translation.SampleTranslations,
}
FLAGS = {
    "model": "what to evaluate: NAME=DIR,NAME=DIR, each a workdir, WORKDIR@STEP or a Hugging Face folder",
    "output": "folder for results.jsonl and generations.jsonl",
    "tasks": f"which tasks, separated by commas; if left out: {','.join(TASKS)}",
}


def main(config, model: str, output: str, tasks: str = "") -> None:
    """Evaluates each model on each task; raises ValueError before anything is loaded if a name or folder is wrong."""
    if not model or not output:
        raise ValueError("which models, and where to? --model=NAME=DIR,NAME=DIR --output=DIR")
    folders = results.named_folders(model)
    for folder in folders.values():
        if not epath.Path(conversion.split_step(folder)[0]).is_dir():
            raise ValueError(f"there is no model in {folder!r}: no such folder")
    names = tasks.split(",") if tasks else list(TASKS)
    if unknown := [name for name in names if name not in TASKS]:
        raise ValueError(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    corpus = manifest.load(config.corpus.folder)
    chosen = [TASKS[name](config, corpus) for name in names]
    loader = language_model.Loader(config)
    for name, folder in folders.items():
        evaluate(name, folder, chosen, loader, output, config.seed)


def evaluate(name: str, folder: str, tasks: list[Task], loader: language_model.Loader, output: str, seed: int) -> None:
    """Runs those of `tasks` that are not done for the model in `folder`, called `name`, and writes their results."""
    files = files_fingerprint(folder)
    states = {task.name: parallel.digest([files, task.prompt_hash]) for task in tasks}
    done = results.read_done(output).get(name, {})
    pending = [task for task in tasks if done.get(task.name) != states[task.name]]
    for task in tasks:
        if task not in pending:
            logging.info("%s: %s is done already", name, task.name)
        elif task.name in done:
            logging.info("%s: %s was done with another model or other texts, and is done anew", name, task.name)
    if not pending:
        return
    model = loader.load(name, folder)
    for task in pending:
        logging.info("%s: %s begins", name, task.name)
        outcome = task.run(model)
        _write(output, name, task, outcome, seed, states[task.name])


def files_fingerprint(folder: str) -> str:
    """A hash of the names, sizes and times of a model's files: another checkpoint under the same name has another."""
    root, step = conversion.split_step(folder)
    checkpoints = epath.Path(root) / "checkpoints"
    if checkpoints.is_dir():
        files = checkpoints.glob(f"{'*' if step is None else step}/*")
    else:
        files = epath.Path(folder).iterdir()
    stats = ((str(file), file.stat()) for file in files)
    return parallel.digest(sorted((name, stat.length, stat.mtime) for name, stat in stats if not stat.is_directory))


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
    for metric in dict.fromkeys(row.metric for row in rows):
        values = [row.value for row in rows if row.metric == metric]
        mean = sum(values) / len(values)
        logging.info("%s: %s %s: mean %.4f over %d", name, task.name, metric, mean, len(values))


if __name__ == "__main__":
    command_line.run(main, flag_help=FLAGS)
