"""Doing pieces of work on Beam: each piece leaves its result in a file, so that any runner in any place will do.

Owns distribution, what need not be done again, and how a worker's failure reaches the user; knows nothing of what a
piece is. The elements of Beam are pieces (a part, a bucket, a shard) or record batches, never records.
"""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import apache_beam as beam
import pyarrow as pa
from absl import logging
from etils import epath

from emma_jax import beam_runner, progress
from emma_jax.corpus import exchange as exchange_lib

Stage = Callable[..., Any]


class Exchange(Protocol):
    """Where the record batches of pieces are; see `corpus.exchange`."""

    def files(self, pieces: Sequence[tuple]) -> list[tuple]:
        """What `scatter` takes, for all files that the pieces are in."""

    def gather(self, *piece) -> Iterator[pa.RecordBatch]:
        """The batches of a piece."""

    def scatter(self, file: tuple) -> Iterator[tuple[tuple, pa.RecordBatch]]:
        """Each batch of a file, with its piece."""


def run(
    name: str,
    stage: Stage,
    pieces: Sequence[tuple],
    folder: epath.Path,
    exchange: Exchange | None = None,
    shuffle: bool = False,
    num_workers: int = 1,
    beam_options: Sequence[str] = (),
) -> list[Any]:
    """The results of all pieces, in order: `stage(*piece)`, or with an exchange `stage(*piece, batches=batches)`.

    Results must be JSON. They are kept in `folder`, and what has one is not done again. With `shuffle` the batches go
    through the runner's GroupByKey, else each worker reads its own.

    Raises OSError with one sentence if a worker met a full disk or the like; whatever else fails is a defect.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {path.name for path in exchange_lib.list_files(folder, ".json")}
    left = [(number, piece) for number, piece in enumerate(pieces) if _file_name(number) not in done]
    if len(left) < len(pieces):
        logging.info("%s: %d of %d were done by a run before", name, len(pieces) - len(left), len(pieces))
    if left:
        try:
            with (
                progress.follow(name, len(pieces), lambda: _num_results(folder)),
                beam_runner.pipeline(num_workers, beam_options) as pipeline,
            ):
                work = functools.partial(_work, folder=str(folder), stage=stage)
                if exchange is None:
                    _ = pipeline | beam.Create(left) | beam.Reshuffle() | beam.Map(work)
                elif shuffle:
                    _ = pipeline | Shuffle(exchange, left) | beam.MapTuple(functools.partial(_shuffled, work=work))
                else:
                    work = functools.partial(_gathered, work=work, exchange=exchange)
                    _ = pipeline | beam.Create(left) | beam.Reshuffle() | beam.Map(work)
        except beam_runner.WorkerMistake as error:
            raise OSError(f"{name} failed: {error}") from error
    return [json.loads((folder / _file_name(number)).read_text()) for number in range(len(pieces))]


class Shuffle(beam.PTransform):
    """Pieces with their batches, brought together by GroupByKey: (number, {"pieces": [piece], "batches": [bytes]})."""

    def __init__(self, exchange: Exchange, pieces: Sequence[tuple[int, tuple]]):
        super().__init__()
        self._exchange = exchange
        self._pieces = pieces

    def expand(self, begin):
        """The transform."""
        numbers = {piece: number for number, piece in self._pieces}
        files = self._exchange.files(list(numbers))
        scatter = functools.partial(_scatter, exchange=self._exchange, numbers=numbers)
        batches = begin | "files" >> beam.Create(files) | beam.Reshuffle() | beam.FlatMap(scatter)
        return dict(pieces=begin | "pieces" >> beam.Create(self._pieces), batches=batches) | beam.CoGroupByKey()


def _scatter(file: tuple, exchange: Exchange, numbers: dict[tuple, int]) -> Iterator[tuple[int, bytes]]:
    with beam_runner.mistakes():
        for piece, batch in exchange.scatter(file):
            if len(batch) and piece in numbers:
                yield numbers[piece], exchange_lib.to_bytes(batch)


def _shuffled(number: int, found: dict[str, Any], work: Callable) -> None:
    (piece,) = found["pieces"]
    work((number, piece), batches=exchange_lib.from_bytes(found["batches"]))


def _gathered(numbered: tuple[int, tuple], work: Callable, exchange: Exchange) -> None:
    work(numbered, batches=exchange.gather(*numbered[1]))


def _work(numbered: tuple[int, tuple], folder: str, stage: Stage, **batches) -> None:
    number, piece = numbered
    with beam_runner.mistakes():
        result = epath.Path(folder) / _file_name(number)
        unfinished = result.with_name(result.name + ".tmp")
        unfinished.write_text(json.dumps(stage(*piece, **batches)))
        unfinished.replace(result)


def _file_name(number: int) -> str:
    return f"{number:06}.json"


def _num_results(folder: epath.Path) -> int:
    return len(exchange_lib.list_files(folder, ".json"))
