"""Summaries without shots: XL-Sum and MassiveSumm, asked for in the language of the document.

The words of the prompts are in summaries.csv. They are our own: of the published ones is known that there are a word
for the document and an instruction in each language. A file `prompts.tsv` in the folder of a benchmark (columns
language, document, instruction) puts others in their place. A language of MassiveSumm without words is asked in
English.

The public layout of MassiveSumm is not known to us; its files are JSON lines with `text` and `summary`.
"""

import csv
import functools
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from emma_jax import command_line, languages
from emma_jax.evaluation.tasks import files, scores

FIELDS = {"text": files.text, "summary": files.text}


class Words(NamedTuple):
    """How a language asks: what a document is called, and the instruction after it."""

    document: str
    instruction: str


@functools.cache
def xlsum_names() -> dict[str, str]:
    """The languages of XL-Sum by code, as its files call them."""
    return {row["language"]: row["xlsum"] for row in _csv()}


def xlsum(language: str, data: str = "", **_) -> dict[str, datasets.Dataset]:
    """The test rows of XL-Sum with prompts, from `data`/xlsum/LANGUAGE_test.jsonl or the Hub."""
    code = next(code for code, name in xlsum_names().items() if name == language)
    if data:
        rows = files.json_lines(Path(data) / "xlsum" / f"{language}_test.jsonl", FIELDS)
    else:
        rows = files.from_hub("csebuetnlp/xlsum", language, "test")
    return _dataset(rows, words(code, Path(data) / "xlsum" if data else None))


def massivesumm(language: str, part: str, data: str, **_) -> dict[str, datasets.Dataset]:
    """The rows of a part of MassiveSumm, long or short, with prompts: `data`/massivesumm/PART/LANGUAGE.jsonl."""
    folder = Path(data) / "massivesumm"
    return _dataset(files.json_lines(folder / part / f"{language}.jsonl", FIELDS), words(language, folder))


def words(language: str, folder: Path | None) -> Words:
    """The words to ask with: those in `folder` if it has a file of them, otherwise ours, otherwise the English ones."""
    table = {row["language"]: Words(row["document"], row["instruction"]) for row in _csv()}
    path = folder / "prompts.tsv" if folder else None
    if path and path.exists():
        rows = files.table(path, dict.fromkeys(("language", *Words._fields), files.text), header=True, quoted=True)
        table |= {row["language"]: Words(row["document"], row["instruction"]) for row in rows}
    return table.get(language, table[languages.ENGLISH])


def results(row: dict[str, str], outputs: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Summary and output for each metric."""
    return dict.fromkeys(("rouge_l", "answered"), (row["summary"], outputs[0]))


def results_for_bert_score(row: dict[str, str], outputs: Sequence[str]) -> dict[str, tuple[str, str]]:
    """As `results`, with BERTScore."""
    return {**results(row, outputs), "bert_score": (row["summary"], outputs[0])}


def with_bert_score(config: dict[str, Any]) -> dict[str, Any]:
    """The task `config` with BERTScore as a further metric. Raises ValueError if its package is not installed."""
    command_line.require_extra("bertscore", "bert_score")
    metric = {"metric": "bert_score", "aggregation": scores.bert_score, "higher_is_better": True}
    metrics = [*config["metric_list"], metric]
    return {**config, "process_results": results_for_bert_score, "metric_list": metrics}


def _dataset(rows: Sequence[dict[str, str]], words: Words) -> dict[str, datasets.Dataset]:
    made = [
        {"prompt": f"{words.document}: {row['text']}\n{words.instruction}:", "summary": row["summary"]} for row in rows
    ]
    return {"test": datasets.Dataset.from_list(made)}


@functools.cache
def _csv() -> list[dict[str, str]]:
    path = importlib.resources.files("emma_jax.evaluation.tasks") / "summaries.csv"
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
