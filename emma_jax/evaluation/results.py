"""The files of an evaluation: `results.jsonl` and `generations.jsonl`, one JSON object a line, and `done.json`.

Owns their schema, reading and writing. What is in them is the business of the tasks; what is made of them, of `report`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from etils import epath

RESULTS, GENERATIONS = "results.jsonl", "generations.jsonl"
DONE, VERSION = "done.json", 1


class Result(NamedTuple):
    """One number: `value` of `metric` over `n` items of a benchmark.

    `language` is a code, or source-target for a direction. Rows are comparable if their `prompt_hash` is equal: it
    depends on all texts that were scored, and not on the model.
    """

    model: str
    benchmark: str
    language: str
    metric: str
    value: float
    n: int
    shots: int
    prompt_hash: str
    seed: int
    harness_version: str


class Generation(NamedTuple):
    """One answer of a model; `scores` maps names of metrics to values and may be empty."""

    model: str
    benchmark: str
    language: str
    prompt: str
    output: str
    reference: str
    scores: dict[str, float]


def read_results(folder) -> list[Result]:
    """The results in `folder` in their order; none if there is no such file. Raises ValueError at a damaged line."""
    return _read(epath.Path(folder) / RESULTS, Result)


def read_generations(folder) -> list[Generation]:
    """The generations in `folder` in their order, as `read_results`."""
    return _read(epath.Path(folder) / GENERATIONS, Generation)


def read_done(folder) -> dict[str, dict[str, str]]:
    """For each model, the benchmarks that are complete in `folder`, and the state that each was run in.

    Raises ValueError if the file is of another version or damaged.
    """
    path = epath.Path(folder) / DONE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        if content["version"] == VERSION:
            there = {(row.model, row.benchmark) for row in (*read_results(folder), *read_generations(folder))}
            return {
                model: {name: state for name, state in states.items() if (model, name) in there}
                for model, states in content["done"].items()
            }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass  # the same way out
    raise ValueError(f"{path} is damaged or not of version {VERSION}; delete it and evaluate again")


def replace(
    folder, model: str, benchmark: str, results: Iterable[Result], generations: Iterable[Generation], state: str
) -> None:
    """Puts the rows of one model and benchmark in place of those that `folder` holds; other rows stay.

    `state` is an opaque word for what the rows depend on; `read_done` gives it back once all rows are written.
    """
    _replace(folder, results, generations, lambda row: (row.model, row.benchmark) == (model, benchmark))
    done = read_done(folder)
    done.setdefault(model, {})[benchmark] = state
    _write(epath.Path(folder) / DONE, json.dumps({"version": VERSION, "done": done}, indent=1) + "\n")


def update(folder, results: Sequence[Result], generations: Sequence[Generation]) -> None:
    """Puts rows in place of those in `folder` of the same model, benchmark and language; other rows stay."""
    new = {row[:3] for row in results}
    _replace(folder, results, generations, lambda row: row[:3] in new)


def named_folders(text: str) -> dict[str, str]:
    """Model names and their folders from NAME=DIR,NAME=DIR; a DIR alone is named by its last part.

    Raises ValueError if a name is missing or stands twice.

    >>> named_folders("bi=runs/bilingual,export/llama")
    {'bi': 'runs/bilingual', 'llama': 'export/llama'}
    """
    folders = {}
    for part in filter(None, text.split(",")):
        name, _, folder = part.rpartition("=")
        name = name or epath.Path(folder).name
        if not name or not folder or "/" in name:
            raise ValueError(f"{part!r} is no model; write NAME=DIR,NAME=DIR")
        if name in folders:
            raise ValueError(f"two models are named {name!r}; give each a name of its own: NAME=DIR,NAME=DIR")
        folders[name] = folder
    return folders


def _replace(folder, results, generations, is_old: Callable[[Result | Generation], bool]) -> None:
    for name, kind, rows in ((RESULTS, Result, results), (GENERATIONS, Generation, generations)):
        path = epath.Path(folder) / name
        kept = [row for row in _read(path, kind) if not is_old(row)]
        _write(path, "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in [*kept, *rows]))


def _read(path: epath.Path, kind: type) -> list[Any]:
    rows = []
    # Not splitlines: U+2028 and the like stand unescaped inside JSON strings.
    for number, line in enumerate(path.read_text().split("\n") if path.exists() else (), 1):
        if line:
            try:
                rows.append(kind(**json.loads(line)))
            except (json.JSONDecodeError, TypeError) as error:
                raise ValueError(
                    f"{path} line {number} is no {kind.__name__.lower()} ({error}); delete the file and evaluate again"
                ) from error
    return rows


def _write(path: epath.Path, text: str) -> None:
    """Writes a file beside `path` and renames it: what other models took hours for must outlive a crash here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text)
    temporary.replace(path)
