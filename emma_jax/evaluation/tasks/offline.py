"""Rows of the benchmarks that the harness has tasks for, from a folder instead of the Hub, in the form its tasks read.

Each function gives the split that its task evaluates. `language` is as the benchmark itself spells it.
"""

import functools
from pathlib import Path

import datasets

from emma_jax.evaluation.tasks import files

RELATIONS = ("entailment", "neutral", "contradiction")
ENDINGS = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")

Splits = dict[str, datasets.Dataset]


def xcopa(language: str, data: str, **_) -> Splits:
    """XCOPA: `data`/xcopa/test.LANGUAGE.jsonl."""
    texts = dict.fromkeys(("premise", "choice1", "choice2"), files.text)
    fields = {**texts, "question": files.one_of(("cause", "effect")), "label": files.one_of((0, 1))}
    return _splits("test", files.json_lines(Path(data) / "xcopa" / f"test.{language}.jsonl", fields))


def xstorycloze(language: str, data: str, **_) -> Splits:
    """XStoryCloze: `data`/xstorycloze/spring2016.val.LANGUAGE.tsv.split_20_80_eval.tsv."""
    columns = {f"InputSentence{number}": f"input_sentence_{number}" for number in range(1, 5)}
    columns |= {ending: f"sentence_quiz{number}" for number, ending in enumerate(ENDINGS, 1)}
    fields = {**dict.fromkeys(columns, files.text), "AnswerRightEnding": files.one_of(("1", "2"))}
    path = Path(data) / "xstorycloze" / f"spring2016.val.{language}.tsv.split_20_80_eval.tsv"
    rows = files.table(path, fields, header=True, quoted=True)
    return _splits(
        "eval",
        [
            {name: row[column] for column, name in columns.items()}
            | {"answer_right_ending": int(row["AnswerRightEnding"])}
            for row in rows
        ],
    )


def xnli(language: str, data: str, **_) -> Splits:
    """XNLI: the rows of LANGUAGE in `data`/xnli/xnli.dev.tsv, as harness and paper take the validation set."""
    rows = [row for row in _xnli(Path(data) / "xnli" / "xnli.dev.tsv") if row["language"] == language]
    return _splits(
        "validation",
        [
            {"premise": row["sentence1"], "hypothesis": row["sentence2"], "label": RELATIONS.index(row["gold_label"])}
            for row in rows
        ],
    )


def belebele(language: str, data: str, **_) -> Splits:
    """BELEBELE: `data`/belebele/LANGUAGE.jsonl."""
    texts = ("flores_passage", "question", *(f"mc_answer{number}" for number in range(1, 5)))
    fields = {**dict.fromkeys(texts, files.text), "correct_answer_num": _answer_number}
    return _splits("test", files.json_lines(Path(data) / "belebele" / f"{language}.jsonl", fields))


def arc_multilingual(language: str, data: str, **_) -> Splits:
    """ARC multilingual: `data`/arc_multilingual/LANGUAGE/test.jsonl; an option may be missing or null."""
    options = [f"option_{letter}" for letter in "abcde"]
    path = Path(data) / "arc_multilingual" / language / "test.jsonl"
    fields = {"id": str, "instruction": files.text, "answer": files.one_of("ABCDE")}
    rows = files.json_lines(path, {**fields, **dict.fromkeys(options, lambda value: value or "")}, optional=options)
    return _splits("test", rows)


def mgsm(language: str, data: str, **_) -> Splits:
    """MGSM: question and answer in `data`/mgsm/mgsm_LANGUAGE.tsv."""
    fields = {"question": files.text, "answer_number": files.integer}
    rows = files.table(Path(data) / "mgsm" / f"mgsm_{language}.tsv", fields, header=False, quoted=False)
    return _splits("test", [{**row, "answer": None} for row in rows])


def xnli_languages(path: Path) -> set[str]:
    """The languages that a file of XNLI has rows of."""
    return {row["language"] for row in _xnli(path)} if path.exists() else set()


@functools.lru_cache(maxsize=2)
def _xnli(path: Path) -> list[dict[str, str]]:
    fields = {"language": str, "gold_label": files.one_of(RELATIONS), "sentence1": files.text, "sentence2": files.text}
    return files.table(path, fields, header=True, quoted=False)


def _answer_number(value) -> str:
    return files.one_of("1234")(str(value))


def _splits(split: str, rows: list[dict]) -> Splits:
    return {split: datasets.Dataset.from_list(rows)}
