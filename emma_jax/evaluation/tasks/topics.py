"""Topics of sentences: SIB-200 and Taxi-1500, three shots, by the rule as published and by a robust one.

Rule `paper`: after the prompt and the end of its line, the label whose last sub-token has the largest logit. It reads
" science/technology" by its "technology", takes labels with the same last sub-token for one (of which the last in the
alphabet counts), and asks for a label where a new line begins, although shots have it on the line itself. The harness
asks for text, so a sub-token is asked for by the text that is just it after an end of line (`last_pieces`); that the
harness also counts the end of line itself is the same for all labels.
Rule `robust`: the same shots; the label with the largest log-likelihood per character as the line goes on.

The shots are those of the published scripts: seed 42 gives a seed for each test row, which draws its shots as pandas
does. Rows are drawn for each test row, so prompts share no shots. Not taken over: those of Taxi-1500 cut a prompt after
2,048 tokens, and join rows after an unclosed quotation mark.
"""

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from etils import epath

from emma_jax import tokenizer as tokenizers
from emma_jax.evaluation.tasks import files

SEED, SHOTS = 42, 3


class Form(NamedTuple):
    """What a benchmark's prompts are made of; `labels` in the order of the heading."""

    name: str
    labels: tuple[str, ...]
    shot: str
    query: str

    @property
    def heading(self) -> str:
        """The first line of each prompt."""
        return f"Topic Classification: {', '.join(self.labels)}."

    def prompt(self, shots: Sequence[dict[str, str]], text: str) -> str:
        """The prompt up to the word before the label."""
        shown = [self.shot.format(**shot) for shot in shots]
        return "\n".join([self.heading, "", *shown, self.query.format(text=text)])


SIB200 = Form(
    "sib200",
    ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography"),
    'The topic of the news "{text}" is {category}',
    'The topic of the news "{text}" is',
)
TAXI1500 = Form(
    "taxi1500",
    ("Recommendation", "Faith", "Description", "Sin", "Grace", "Violence"),
    'The topic of the verse "{text}" is {category}',
    'The label of "{text}" is',
)


def sib200(language: str, rule: str, data: str = "", **metadata) -> dict[str, datasets.Dataset]:
    """The test rows of SIB-200 with prompts, from `data`/sib200/LANGUAGE/{train,test}.tsv or the Hub."""
    fields = {"category": files.one_of(SIB200.labels), "text": files.text}
    if data:
        folder = Path(data) / "sib200" / language
        train, test = (files.table(folder / f"{s}.tsv", fields, header=True, quoted=True) for s in ("train", "test"))
    else:
        train, test = (
            _named(files.from_hub("Davlan/sib200", language, split), "category") for split in ("train", "test")
        )
    return _dataset(SIB200, rule, train, test, metadata)


def taxi1500(language: str, rule: str, data: str, **metadata) -> dict[str, datasets.Dataset]:
    """The test rows of Taxi-1500 with prompts, from `data`/taxi1500/LANGUAGE/LANGUAGE_{train,test}.tsv."""
    fields = {"id": str, "category": files.one_of(TAXI1500.labels), "text": files.text}
    paths = [Path(data) / "taxi1500" / language / f"{language}_{split}.tsv" for split in ("train", "test")]
    train, test = (files.table(path, fields, header=False, quoted=False) for path in paths)
    return _dataset(TAXI1500, rule, train, test, metadata)


def draw(num_test: int, num_train: int) -> list[list[int]]:
    """For each test row the numbers of its shots among the rows to train on.

    >>> draw(2, 10)
    [[3, 9, 4], [5, 8, 1]]
    """
    generator = random.Random(SEED)
    seeds = [generator.randint(0, 1000) for _ in range(num_test)]
    return [np.random.RandomState(seed).choice(num_train, SHOTS, replace=False).tolist() for seed in seeds]


def last_pieces(labels: Sequence[str], encode: Callable[[str], list[int]]) -> list[str]:
    """The text of the last token of each label after a space: what must follow an end of line to be just that token.

    Raises ValueError where no text is, as with a tokenizer that joins letters to the end of a line.

    >>> last_pieces(["sin", "grace"], lambda text: [ord(letter) for letter in text])
    ['n', 'e']
    """
    before = encode("is\n")
    pieces = []
    for label in labels:
        spaced = f" {label}"
        last = encode(spaced)[-1:]
        ends = (spaced[start:] for start in range(len(spaced) - 1, -1, -1))
        piece = next((end for end in ends if encode(f"is\n{end}") == before + last), None)
        if piece is None:
            raise ValueError(
                f"the last token of the label {label!r} cannot follow an end of line with this tokenizer, "
                "so rule paper cannot be asked; choose rule robust"
            )
        pieces.append(piece)
    return pieces


def _dataset(form: Form, rule: str, train, test, metadata: dict[str, Any]) -> dict[str, datasets.Dataset]:
    if len(train) < SHOTS:
        raise ValueError(f"{form.name} has {len(train)} rows to draw {SHOTS} shots from; expected {SHOTS} or more")
    if rule == "paper":
        # argmax takes the first of equals, the published scripts the last in the alphabet.
        labels = sorted(form.labels, reverse=True)
        folder = metadata.get("tokenizer") or metadata.get("pretrained")
        if not folder:
            raise ValueError(
                f"rule paper of {form.name} compares single tokens: name the model's folder as pretrained=DIR"
            )
        choices, end = list(_pieces(tuple(labels), str(folder))), "\n"
    else:
        labels, choices, end = list(form.labels), list(form.labels), ""
    shots = draw(len(test), len(train))
    rows = [
        {
            "prompt": form.prompt([train[number] for number in numbers], row["text"]) + end,
            "choices": choices,
            "label": labels.index(row["category"]),
            "category": row["category"],
        }
        for row, numbers in zip(test, shots, strict=True)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


@functools.lru_cache(maxsize=16)
def _pieces(labels: tuple[str, ...], folder: str) -> tuple[str, ...]:
    root = epath.Path(folder)
    root = root if root.exists() else epath.Path(folder.rpartition("@")[0])  # WORKDIR@STEP
    in_workdir = root / "tokenizer"
    return tuple(last_pieces(labels, tokenizers.load(str(in_workdir if in_workdir.is_dir() else root)).encode))


def _named(dataset: datasets.Dataset, column: str) -> list[dict[str, Any]]:
    """The rows, with the names of classes where a column has their numbers."""
    feature = dataset.features[column]
    if not isinstance(feature, datasets.ClassLabel):
        return list(dataset)
    return [{**row, column: feature.int2str(row[column])} for row in dataset]
