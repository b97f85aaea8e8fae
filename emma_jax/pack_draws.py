"""What is drawn of the corpus's SeqIO tasks: how large they are, and their documents as they are wanted.

Owns how tasks are opened and read. Which of them, and how much of each, is in the plan (`pack_plan`).
"""

import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

import data_tasks
from data_tasks import sizes, tasks
from emma_jax import manifest, pack_plan, tokenizer


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker needs to open tasks and find files; `sections` are those of the config that define tasks."""

    rows: str
    corpus: str
    tokenizer: str
    sections: str

    def folder(self, component: str) -> pathlib.Path:
        """Where the rows of a component are."""
        return pathlib.Path(self.rows) / component

    def exchange(self, component: str) -> pathlib.Path:
        """Where its documents are on their way."""
        return self.folder(component) / "exchange"


class Document(NamedTuple):
    """The ids of a document with BOS and EOS, the size of its text in UTF-8, and the direction if it is of a pair."""

    ids: np.ndarray
    bytes: int
    direction: int

    @property
    def tokens(self) -> int:
        """Predicted targets."""
        return len(self.ids) - 1


class Opened(NamedTuple):
    """What tasks were defined from, and the size of each that the manifest tells."""

    corpus: manifest.Manifest
    tokenizer: tokenizer.Tokenizer
    rendering: ConfigDict
    sizes: Mapping[str, sizes.Size]


@functools.cache
def open_tasks(job: Job) -> Opened:
    """Defines all tasks in this process."""
    sections = ConfigDict(json.loads(job.sections))
    corpus, vocabulary = manifest.load(job.corpus), tokenizer.load(job.tokenizer)
    data_tasks.register(
        corpus, vocabulary, sections.rendering, mixture=sections.mixture, components=sections.components
    )
    return Opened(corpus, vocabulary, sections.rendering, sizes.of_corpus(corpus, sections.rendering))


def validation_draws(opened: Opened, names: Sequence[str], num_documents: int) -> list[pack_plan.Draw]:
    """What is drawn of the tasks that have validation records: of a language once, of a pair in each direction."""
    draws = []
    for name in names:
        kind, _, codes = name.partition(".")
        entry = opened.corpus.tasks[name]
        if "validation" not in entry.splits or not entry.splits["validation"].rows:
            continue
        ways = {codes: -1}
        if kind == "pair":
            source, target = codes.split("-")
            ways = {codes: 0, f"{target}-{source}": 1}
        draws += [
            pack_plan.Draw(f"{kind}.{way}", name, documents=num_documents, direction=direction)
            for way, direction in ways.items()
        ]
    return draws


def read_task(name: str, split: str, seed: int | None = None, part: int = 0, num_parts: int = 1) -> Iterator[Document]:
    """The documents of a task's own pipeline, or of a part of its records; shuffled if there is a seed."""
    for example in tasks.examples(name, split, seed, part, num_parts):
        yield Document(example["targets"], int(example["bytes"]), int(example.get("direction", -1)))


def training_documents(planned: pack_plan.Draw, seed: int) -> Iterator[Document]:
    """Documents of a task, epoch after epoch, that end as near to the planned tokens as whole documents can.

    There is one at least. Of a task of which less than half is wanted, evenly spaced records are tokenised and not the
    others.

    Raises ValueError if the task has no document.
    """
    missing = planned.tokens
    for document in _epochs(planned, seed):
        if missing < planned.tokens and document.tokens > 2 * missing:
            return
        yield document
        missing -= document.tokens
        if missing <= 0:
            return


def _epochs(planned: pack_plan.Draw, seed: int) -> Iterator[Document]:
    """All documents of a task, again and again, from a pipeline for each epoch: none has records of two of them."""
    num_parts = max(1, int(planned.size / planned.tokens))
    for epoch in itertools.count():
        sequence = np.random.SeedSequence([seed, epoch, *planned.task.encode()])
        epoch_seed = int(sequence.generate_state(1)[0]) >> 1  # TensorFlow's are signed
        documents = itertools.chain.from_iterable(
            read_task(planned.task, "train", epoch_seed, part, num_parts) for part in range(num_parts)
        )
        first = next(documents, None)
        if first is None:
            raise ValueError(f"the task {planned.task} has no document to train on")
        yield first
        yield from documents
