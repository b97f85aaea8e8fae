"""Doing pieces of work on Beam: each piece leaves its result in a file, so that any runner in any place will do.

Owns distribution and how a worker's failure reaches the user; knows nothing of what a piece is. The elements
of Beam are pieces (a part, a bucket, a split), never records: record batches stay within the worker that reads them.
"""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from etils import epath

from emma_jax import beam_runner, progress


def run(
    name: str,
    stage: Callable[..., Any],
    pieces: Sequence[tuple],
    folder: epath.Path,
    num_workers: int = 1,
    beam_options: Sequence[str] = (),
) -> list[Any]:
    """`stage(*piece)` for each piece, in order; the results must be JSON, and are kept in `folder`.

    Raises OSError with one sentence if a worker met a full disk or the like; whatever else fails is a defect.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = functools.partial(_work, folder=str(folder), stage=stage)
    try:
        with (
            progress.follow(name, len(pieces), lambda: sum(1 for _ in folder.iterdir())),
            beam_runner.pipeline(num_workers, beam_options) as pipeline,
        ):
            _ = pipeline | beam.Create([*enumerate(pieces)]) | beam.Reshuffle() | beam.Map(work)
    except beam_runner.WorkerMistake as error:
        raise OSError(f"{name} failed: {error}") from error
    return [json.loads((folder / f"{index:06}.json").read_text()) for index in range(len(pieces))]


def _work(piece: tuple[int, tuple], folder: str, stage: Callable[..., Any]) -> None:
    index, arguments = piece
    with beam_runner.mistakes():
        result = json.dumps(stage(*arguments))
        (epath.Path(folder) / f"{index:06}.json").write_text(result)
