"""The two stages of `pack`, run by Beam: documents into exchange files, and those of its buckets into each shard.

A stage leaves finished files behind and skips those that it finds, so that a second run does what is left. How tasks
are read is the business of `pack_draws`, the format of the exchange that of `exchange`.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
import numpy as np

from emma_jax import beam_runner, exchange, pack_plan, packing, store
from emma_jax.pack_draws import Document, Job, open_tasks, read_task, training_documents


def exchange_task(job: Job, plan: pack_plan.Plan, numbers: Sequence[int]) -> None:
    """Stage one for the draws of one task: their documents, as rows can hold them, into the exchange."""
    counts = {number: dict(documents=0, tokens=0, bytes=0) for number in numbers}

    def drawn() -> Iterator[tuple[int, Document]]:
        if plan.component != store.VALIDATION:
            (number,) = numbers
            yield from ((number, document) for document in training_documents(plan.draws[number], plan.seed))
            return
        by_direction = {plan.draws[number].direction: number for number in numbers}
        for document in read_task(plan.draws[numbers[0]].task, "validation"):
            number = by_direction[document.direction]
            if counts[number]["documents"] < plan.draws[number].documents:
                yield number, document
            elif all(counts[n]["documents"] == plan.draws[n].documents for n in numbers):
                return

    def pieces() -> Iterator[tuple[int, np.ndarray]]:
        for number, document in drawn():
            counted = counts[number]
            counted["documents"] += 1
            counted["tokens"] += document.tokens
            counted["bytes"] += document.bytes
            if plan.packing == packing.CONCATENATE:
                yield number, document.ids  # cut later, where rows end
            else:
                yield from ((number, piece) for piece in packing.cut(document.ids, plan.row_length))

    folder = job.exchange(plan.component)
    exchange.write(folder, numbers[0], pieces(), plan.num_buckets, plan.seed)
    exchange.finish(folder, numbers[0], counts)


def pack_shard(job: Job, plan: pack_plan.Plan, number: int) -> None:
    """Stage two for one shard: the documents of its buckets, shuffled, into rows."""
    first = number * plan.buckets_per_shard
    documents = itertools.chain.from_iterable(
        exchange.read_bucket(job.exchange(plan.component), bucket, plan.seed)
        for bucket in range(first, first + plan.buckets_per_shard)
    )
    if plan.packing == packing.CONCATENATE:
        rows = packing.concatenate(documents, plan.row_length)
    else:
        rows = packing.best_fit(documents, plan.row_length, plan.window)
    store.write_shard(os.fspath(job.folder(plan.component) / plan.shard_file(number)), rows)


class Exchange(beam.DoFn):
    """`exchange_task` on elements (component, numbers of draws)."""

    def __init__(self, job: Job, plans: Mapping[str, pack_plan.Plan]):
        self.job, self.plans = job, plans

    def setup(self):
        """Defines the tasks once per worker."""
        open_tasks(self.job)

    def process(self, element):
        """Yields the element when its files are written."""
        component, numbers = element
        with beam_runner.mistakes():
            exchange_task(self.job, self.plans[component], numbers)
        yield element


class Pack(beam.DoFn):
    """`pack_shard` on elements (component, number of the shard); `exchanged` is there to be waited for."""

    def __init__(self, job: Job, plans: Mapping[str, pack_plan.Plan]):
        self.job, self.plans = job, plans

    def process(self, element, exchanged):
        """Yields the element when its shard is written."""
        component, number = element
        with beam_runner.mistakes():
            pack_shard(self.job, self.plans[component], number)
        yield element


def run(job: Job, plans: Sequence[pack_plan.Plan], num_workers: int, beam_options: Sequence[str]) -> None:
    """Both stages of all plans: what is not finished of them."""
    by_component = {plan.component: plan for plan in plans}
    draws = [
        (plan.component, numbers)
        for plan in plans
        for numbers in plan.draws_by_task()
        if not exchange.is_finished(job.exchange(plan.component), numbers[0])
    ]
    shards = [
        (plan.component, number)
        for plan in plans
        for number in range(plan.num_shards)
        if not (job.folder(plan.component) / plan.shard_file(number)).exists()
    ]
    with beam_runner.pipeline(num_workers, beam_options) as pipeline:
        exchanged = (
            pipeline
            | "draws" >> beam.Create(draws)
            | "spread draws" >> beam.Reshuffle()
            | beam.ParDo(Exchange(job, by_component))
        )
        _ = (
            pipeline
            | "shards" >> beam.Create(shards)
            | "spread shards" >> beam.Reshuffle()
            | beam.ParDo(Pack(job, by_component), exchanged=beam.pvalue.AsList(exchanged))
        )
