"""The files of an evaluation: `results.jsonl` and `generations.jsonl`, one JSON object a line.

Owns their schema, reading and writing. What is in them is the business of the tasks; what is made of them, of `report`.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from etils import epath

RESULTS, GENERATIONS = "results.jsonl", "generations.jsonl"


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
    """The generations in `folder` in their order; none if there is no such file. Raises ValueError at a damaged line."""
    return _read(epath.Path(folder) / GENERATIONS, Generation)


def replace(folder, model: str, benchmark: str, results: Iterable[Result], generations: Iterable[Generation]) -> None:
    """Puts the rows of one model and benchmark in place of those that `folder` holds; other rows stay."""
    for name, kind, rows in ((RESULTS, Result, results), (GENERATIONS, Generation, generations)):
        path = epath.Path(folder) / name
        kept = [row for row in _read(path, kind) if (row.model, row.benchmark) != (model, benchmark)]
        lines = [json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in [*kept, *rows]]
        # Written beside and renamed: what other models took hours for must outlive a crash here.
        temporary = path.with_name(name + ".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("".join(lines))
        temporary.replace(path)


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
