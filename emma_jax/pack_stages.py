"""The work of `pack`, done by Beam workers: documents out of SeqIO tasks, and rows out of documents.

Stage one draws each task into exchange files; stage two makes each shard of the documents of its buckets. A stage leaves
finished files behind and skips those that it finds, so that a second run does what is left. Owns how tasks are read;
which, and how much of each, is in the plan.
"""

import collections
import dataclasses
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import seqio
import tensorflow as tf
from ml_collections import ConfigDict

import data_tasks
from data_tasks import mixtures, tasks
from emma_jax import beam_runner, exchange, manifest, pack_plan, packing, store, tokenizer

SAMPLE_DOCUMENTS = 64  # that a task's tokens per byte are measured on


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


@functools.cache
def open_tasks(job: Job) -> dict[str, mixtures.Size]:
    """Defines all tasks in this process; returns the size of each that the manifest tells."""
    sections = ConfigDict(json.loads(job.sections))
    corpus = manifest.load(job.corpus)
    data_tasks.register(
        corpus,
        tokenizer.load(job.tokenizer),
        sections.rendering,
        mixture=sections.mixture,
        components=sections.components,
    )
    return tasks.sizes(corpus, sections.rendering)


def read_task(name: str, split: str, seed: int | None = None, part: int = 0, num_parts: int = 1) -> Iterator[Document]:
    """The documents of a task's own pipeline, or of a part of its records; shuffled if there is a seed."""
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length=None,
        split=split,
        shuffle=seed is not None,
        seed=seed,
        shard_info=seqio.ShardInfo(part, num_parts) if num_parts > 1 else None,
        try_in_mem_cache=False,
    )
    options = tf.data.Options()
    # Hundreds of pipelines are opened one after another, and other workers have the other processors.
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    for example in dataset.with_options(options).as_numpy_iterator():
        yield Document(example["targets"], int(example["bytes"]), int(example.get("direction", -1)))


@functools.cache
def measure(name: str, size: mixtures.Size, seed: int) -> float:
    """Tokens in one epoch of a task: counted if the documents are few, else those of a sample in proportion to bytes."""
    if not size.documents:
        return 0.0
    sample = [*itertools.islice(read_task(name, "train", seed), SAMPLE_DOCUMENTS)]
    tokens = sum(document.tokens for document in sample)
    if len(sample) < SAMPLE_DOCUMENTS:
        return float(tokens)
    # A document has one token, EOS, that is not of its text.
    return (tokens - len(sample)) / sum(document.bytes for document in sample) * size.bytes + size.documents


def validation_draws(names: Sequence[str], num_documents: int) -> list[pack_plan.Draw]:
    """What is drawn of the tasks that have a validation split: of a language once, of a pair in each direction."""
    draws = []
    for name in names:
        task = seqio.get_mixture_or_task(name)
        if "validation" not in task.splits or not task.num_input_examples("validation"):
            continue
        kind, _, codes = name.partition(".")
        if kind == "pair":
            source, target = codes.split("-")
            ways = {f"{source}-{target}": 0, f"{target}-{source}": 1}
        else:
            ways = {codes: -1}
        draws += [
            pack_plan.Draw(f"{kind}.{way}", name, documents=num_documents, direction=direction)
            for way, direction in ways.items()
        ]
    return draws


def draw(planned: pack_plan.Draw, seed: int) -> Iterator[Document]:
    """The planned documents of a task.

    For validation these are the first ones. For training they are epoch after epoch, each shuffled and grouped by
    another seed, and end as near to the planned tokens as whole documents can, after one at least. Of a task of which
    less than half is wanted, evenly spaced records are tokenised and not the others.

    Raises ValueError if there is no document to train on.
    """
    if planned.documents:
        documents = (d for d in read_task(planned.task, "validation") if d.direction == planned.direction)
        yield from itertools.islice(documents, planned.documents)
        return
    missing = planned.tokens
    for document in _epochs(planned, seed):
        if missing < planned.tokens and document.tokens > 2 * missing:
            return
        yield document
        missing -= document.tokens
        if missing <= 0:
            return


def _epochs(planned: pack_plan.Draw, seed: int) -> Iterator[Document]:
    """Documents without end."""
    num_parts = max(1, int(planned.size / planned.tokens))
    for epoch in itertools.count():
        sequence = np.random.SeedSequence([seed, epoch, *planned.task.encode()])
        epoch_seed = int(sequence.generate_state(1)[0]) >> 1  # TensorFlow takes signed ones
        documents = itertools.chain.from_iterable(
            read_task(planned.task, "train", epoch_seed, part, num_parts) for part in range(num_parts)
        )
        first = next(documents, None)
        if first is None:
            raise ValueError(f"the task {planned.task} has no document to train on")
        yield first
        yield from documents


def exchange_draw(job: Job, plan: pack_plan.Plan, number: int) -> None:
    """Stage one for one draw of the plan: its documents, cut to the row length, into the exchange."""
    counts = collections.Counter(documents=0, tokens=0, bytes=0)

    def pieces() -> Iterator[tuple[int, np.ndarray]]:
        for document in draw(plan.draws[number], plan.seed):
            counts.update(documents=1, tokens=document.tokens, bytes=document.bytes)
            yield from packing.cut(document.ids, plan.row_length)

    folder = job.exchange(plan.component)
    exchange.write_task(folder, number, pieces(), plan.num_buckets, plan.seed)
    exchange.finish_task(folder, number, counts)


def pack_shard(job: Job, plan: pack_plan.Plan, number: int) -> None:
    """Stage two for one shard: the documents of its buckets, shuffled, into rows."""
    first = number * plan.buckets_per_shard
    documents = itertools.chain.from_iterable(
        exchange.read_bucket(job.exchange(plan.component), bucket, plan.seed)
        for bucket in range(first, first + plan.buckets_per_shard)
    )
    path = job.folder(plan.component) / plan.shard_file(number)
    store.write_shard(os.fspath(path), packing.pack(documents, plan.row_length, plan.window))


class Draws(beam.DoFn):
    """`exchange_draw` on elements (component, number of the draw)."""

    def __init__(self, job: Job, plans: Mapping[str, pack_plan.Plan]):
        self.job, self.plans = job, plans

    def setup(self):
        """Defines the tasks once per worker."""
        open_tasks(self.job)

    def process(self, element):
        """Yields the element when its files are written."""
        component, number = element
        exchange_draw(self.job, self.plans[component], number)
        yield element


class Shards(beam.DoFn):
    """`pack_shard` on elements (component, number of the shard); `drawn` is there to be waited for."""

    def __init__(self, job: Job, plans: Mapping[str, pack_plan.Plan]):
        self.job, self.plans = job, plans

    def process(self, element, drawn):
        """Yields the element when its shard is written."""
        component, number = element
        pack_shard(self.job, self.plans[component], number)
        yield element


def run(job: Job, plans: Sequence[pack_plan.Plan], num_workers: int, beam_options: Sequence[str]) -> None:
    """Both stages of all plans: what is not finished of them."""
    by_component = {plan.component: plan for plan in plans}
    draws, shards = [], []
    for plan in plans:
        finished = exchange.finished_tasks(job.exchange(plan.component))
        draws += [(plan.component, number) for number in range(len(plan.draws)) if number not in finished]
        folder = job.folder(plan.component)
        shards += [
            (plan.component, number)
            for number in range(plan.num_shards)
            if not (folder / plan.shard_file(number)).exists()
        ]
    with beam_runner.pipeline(num_workers, beam_options) as pipeline:
        drawn = (
            pipeline
            | "draws" >> beam.Create(draws)
            | "spread draws" >> beam.Reshuffle()
            | beam.ParDo(Draws(job, by_component))
        )
        _ = (
            pipeline
            | "shards" >> beam.Create(shards)
            | "spread shards" >> beam.Reshuffle()
            | beam.ParDo(Shards(job, by_component), drawn=beam.pvalue.AsList(drawn))
        )
