"""Doing pieces of work on Beam, stage after stage: each piece leaves its result in a file, so that any runner will do.

Owns distribution, what need not be done again, and how a worker's failure reaches the user; knows nothing of what a
piece is. The elements of Beam are pieces (a part, a bucket, a shard) or record batches, never records. All stages are
one pipeline, for starting workers takes seconds.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import apache_beam as beam
import pyarrow as pa
from absl import logging
from etils import epath

from emma_jax import beam_runner, progress
from emma_jax.corpus import exchange as exchange_lib
from emma_jax.corpus import source as source_lib

Piece = tuple[int, tuple]  # its number in the stage, and what the stage's `work` is given
NUM_PIECES = "num_pieces"  # file beside the results


class Exchange(Protocol):
    """Where the record batches of pieces are; see `corpus.exchange`."""

    def gather(self, *piece) -> Iterator[pa.RecordBatch]:
        """The batches of a piece."""

    def files(self) -> Iterable[tuple]:
        """What `scatter` takes, for each file."""

    def scatter(self, *file) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Each batch of a file, with the number of its piece."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """Work of one kind: `work(*piece)`, or with an exchange `work(*piece, batches=batches)`, gives a result in JSON.

    `pieces` is called when the stage before is done. Results are kept in `folder`; what has one is not done again.
    """

    name: str
    folder: str
    pieces: Callable[[], Iterable[Piece]]
    work: Callable[..., Any]
    exchange: Exchange | None = None

    def path(self, name: str | int) -> epath.Path:
        """A file beside the results, or the result of the piece of this number."""
        return epath.Path(self.folder) / (f"{name:06}.json" if isinstance(name, int) else name)

    def done(self) -> set[str]:
        """Names of the results that are there."""
        return {path.name for path in exchange_lib.list_files(epath.Path(self.folder), ".json")}

    def num_pieces(self) -> int:
        """How many there are; 0 as long as that is not known, and where the records are past the stage."""
        path = self.path(NUM_PIECES)
        return int(path.read_text()) if path.exists() else 0

    def results(self) -> Iterator[Any]:
        """The results of all pieces, in the order of their numbers."""
        yield from map(json.loads, exchange_lib.read_texts(exchange_lib.list_files(epath.Path(self.folder), ".json")))


def run(stages: Sequence[Stage], shuffle: bool = False, num_workers: int = 1, beam_options: Sequence[str] = ()) -> None:
    """Does what is not done of the stages, one after the other.

    With `shuffle` batches go through the runner's GroupByKey, else each worker reads its own.

    Raises OSError with one sentence if a worker met a full disk or the like; whatever else fails is a defect.
    """
    for stage in stages:
        epath.Path(stage.folder).mkdir(parents=True, exist_ok=True)
        if number := len(stage.done()):
            logging.info("%s: %d pieces were done by a run before", stage.name, number)
    try:
        with contextlib.ExitStack() as stack:
            for stage in stages:
                count = lambda stage=stage: len(stage.done())  # noqa: E731
                stack.enter_context(progress.follow(stage.name, stage.num_pieces, count))
            finished = stack.enter_context(beam_runner.pipeline(num_workers, beam_options)) | beam.Create([0])
            for stage in stages:
                finished |= stage.name >> Do(stage, shuffle)
    except beam_runner.WorkerMistake as error:
        raise OSError(str(error)) from error
    for stage in stages:
        if not stage.path(NUM_PIECES).exists() or len(stage.done()) < stage.num_pieces():
            raise RuntimeError(f"the pipeline has ended, and {stage.name} has not: {len(stage.done())} pieces are done")


class Do(beam.PTransform):
    """A stage: what it waits for, one element, to one element when all of its pieces are done."""

    def __init__(self, stage: Stage, shuffle: bool):
        super().__init__()
        self._stage = stage
        self._shuffle = shuffle and stage.exchange is not None

    def expand(self, begin):
        """The transform."""
        pieces = begin | "pieces" >> beam.FlatMap(_left, self._stage)
        stage = dataclasses.replace(self._stage, pieces=tuple)  # a runner ships it with each transform
        if not self._shuffle:
            finished = pieces | beam.Reshuffle() | beam.Map(_gathered, stage)
        else:
            listed = pieces | "listed" >> _count()
            batches = listed | beam.FlatMap(_files, stage) | beam.Reshuffle() | beam.FlatMap(_scattered, stage)
            # Brought together: (number, {"pieces": [piece], "batches": [bytes]}).
            finished = dict(pieces=pieces, batches=batches) | beam.CoGroupByKey() | beam.Map(_shuffled, stage)
        return finished | "finished" >> _count()


def _count() -> beam.PTransform:
    """How many elements there are, once all are."""
    return beam.combiners.Count.Globally()


def _left(_: int, stage: Stage) -> list[Piece]:
    with _mistakes(stage):
        done, pieces = stage.done(), [*stage.pieces()]
        with exchange_lib.replacing(stage.path(NUM_PIECES)) as file:
            file.write(str(len(pieces)).encode())
        return [(number, piece) for number, piece in pieces if stage.path(number).name not in done]


def _files(_: int, stage: Stage) -> Iterable[tuple]:
    with _mistakes(stage):
        return stage.exchange.files()


def _scattered(file: tuple, stage: Stage) -> Iterator[tuple[int, bytes]]:
    with _mistakes(stage):
        done = stage.done()
        for number, batch in stage.exchange.scatter(*file):
            if len(batch) and stage.path(number).name not in done:
                yield number, exchange_lib.to_bytes(batch)


def _shuffled(grouped: tuple[int, dict[str, Any]], stage: Stage) -> int:
    number, found = grouped
    (piece,) = found["pieces"]
    return _work((number, piece), stage, batches=exchange_lib.from_bytes(found["batches"]))


def _gathered(numbered: Piece, stage: Stage) -> int:
    batches = dict(batches=stage.exchange.gather(*numbered[1])) if stage.exchange else {}
    return _work(numbered, stage, **batches)


def _work(numbered: Piece, stage: Stage, **batches) -> int:
    number, piece = numbered
    with _mistakes(stage):
        result = stage.path(number)
        if not result.exists():  # a runner may do again what it did
            content = json.dumps(stage.work(*piece, **batches))
            with exchange_lib.replacing(result) as file:
                file.write(content.encode())
            pa.default_memory_pool().release_unused()  # of one large piece, before another
    return number


def _mistakes(stage: Stage):
    return beam_runner.mistakes(OSError, source_lib.BadFile, doing=stage.name)
