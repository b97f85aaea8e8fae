"""The work of `pack`, done by Beam workers: documents out of SeqIO tasks, and rows out of documents.

Stage one draws each task into exchange files; stage two makes a shard of the documents of its buckets. A stage leaves
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
from emma_jax import beam_runner, exchange, manifest, pack_plan, packing, store, tokenizer


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
    """The ids of a document with BOS and EOS, and the size of its text in UTF-8."""

    ids: np.ndarray
    bytes: int


@functools.cache
def open_tasks(job: Job) -> data_tasks.Registered:
    """Defines the tasks in this process."""
    sections = ConfigDict(json.loads(job.sections))
    return data_tasks.register(
        manifest.load(job.corpus),
        tokenizer.load(job.tokenizer),
        sections.rendering,
        mixture=sections.mixture,
        components=sections.components,
    )


def read_task(name: str, split: str, seed: int | None = None) -> Iterator[dict[str, np.ndarray]]:
    """The examples of a task's own pipeline, shuffled if there is a seed."""
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length=None, split=split, shuffle=seed is not None, seed=seed, try_in_mem_cache=False
    )
    options = tf.data.Options()
    # Hundreds of pipelines are opened one after another, and the processors are taken by the other workers.
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    return dataset.with_options(options).as_numpy_iterator()


def draw(planned: pack_plan.Draw, seed: int) -> Iterator[Document]:
    """Documents of a task: for validation the first ones in order, for training whole epochs and a part of another.

    Each epoch is shuffled and grouped by another seed. Training ends as near to the planned tokens as whole documents
    can, after one at least.

    Raises ValueError if the task has none.
    """
    if planned.documents:
        examples = read_task(planned.task, "validation")
        chosen = (example for example in examples if planned.direction in (-1, example.get("direction")))
        for example in itertools.islice(chosen, planned.documents):
            yield Document(example["targets"], int(example["bytes"]))
        return
    missing = planned.tokens
    for epoch in itertools.count():
        empty = True
        for example in read_task(planned.task, "train", _epoch_seed(seed, planned.task, epoch)):
            size = len(example["targets"]) - 1
            if missing < planned.tokens and size > 2 * missing:
                return
            yield Document(example["targets"], int(example["bytes"]))
            missing -= size
            if missing <= 0:
                return
            empty = False
        if empty:
            raise ValueError(f"the task {planned.task} has no documents to train on")


def exchange_draw(job: Job, plan: pack_plan.Plan, number: int) -> None:
    """Stage one for one draw of the plan: its documents, cut to the row length, into the exchange."""
    planned = plan.draws[number]
    counts = collections.Counter()

    def pieces() -> Iterator[tuple[int, np.ndarray]]:
        for document in draw(planned, plan.seed):
            counts.update(documents=1, tokens=len(document.ids) - 1, bytes=document.bytes)
            for piece in packing.cut(document.ids, plan.row_length):
                yield number, piece

    folder = job.exchange(plan.component)
    exchange.write_task(folder, number, pieces(), plan.num_buckets, plan.seed)
    exchange.finish_task(folder, number, dict(documents=0, tokens=0, bytes=0) | counts)


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
    """`pack_shard` on elements (component, number of the shard); the side input is there to be waited for."""

    def __init__(self, job: Job, plans: Mapping[str, pack_plan.Plan]):
        self.job, self.plans = job, plans

    def process(self, element, drawn):
        """Yields the element when its shard is written."""
        component, number = element
        pack_shard(self.job, self.plans[component], number)
        yield element


def run(job: Job, plans: Sequence[pack_plan.Plan], num_workers: int, beam_options: Sequence[str]) -> None:
    """Both stages for all plans: what is not finished of them."""
    by_component = {plan.component: plan for plan in plans}
    draws = [
        (plan.component, number)
        for plan in plans
        for number in sorted(set(range(len(plan.draws))) - set(exchange.finished_tasks(job.exchange(plan.component))))
    ]
    shards = [
        (plan.component, number)
        for plan in plans
        for number in range(plan.num_shards)
        if not (job.folder(plan.component) / plan.shard_file(number)).exists()
    ]
    with beam_runner.pipeline(num_workers, beam_options) as pipeline:
        drawn = (
            pipeline
            | "draws" >> beam.Create(draws)
            | "spread draws" >> beam.Reshuffle()
            | beam.ParDo(Draws(job, by_component))
        )
        (
            pipeline
            | "shards" >> beam.Create(shards)
            | "spread shards" >> beam.Reshuffle()
            | beam.ParDo(Shards(job, by_component), drawn=beam.pvalue.AsList(drawn))
        )


def _epoch_seed(seed: int, task: str, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, *task.encode()]).generate_state(1)[0] >> 1)
