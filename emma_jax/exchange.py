"""Files through which documents go from tasks to buckets: the shuffle between the two stages of `pack`.

Owns their format and the order of documents. Each task writes one file, sorted by bucket in chunks that fit in memory;
each bucket is read across the files of all tasks. A document's bucket and its place there depend on the seed, the task
and its number in the task alone, so neither the number of workers nor an interruption shows in the rows. A runner's own
shuffle would hold all documents in memory.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from emma_jax import packing

CHUNK_IDS = 16 << 20  # held by a worker while it writes, four bytes each
BUCKET_IDS = 16 << 20  # aimed at; held by a worker while it packs


def write_task(folder: pathlib.Path, task: int, documents: Iterable[np.ndarray], num_buckets: int, seed: int) -> None:
    """Writes the documents of a task, sorted by bucket. The task is not finished before `finish_task`."""
    numbers = np.random.Philox(np.random.SeedSequence([seed, 0, task]))
    offsets = []
    with open(_data_file(folder, task), "wb") as file:
        for chunk in _chunks(documents):
            buckets = numbers.random_raw(len(chunk)) % num_buckets
            order = np.argsort(buckets, kind="stable")
            bounds = np.searchsorted(buckets[order], np.arange(num_buckets + 1)).tolist()
            offsets.append([file.tell()])
            for start, end in zip(bounds, bounds[1:], strict=False):
                if start < end:
                    file.write(packing.encode_row(packing.join((task, chunk[index]) for index in order[start:end])))
                offsets[-1].append(file.tell())
    np.save(_offsets_file(folder, task), np.array(offsets, np.int64).reshape(-1, num_buckets + 1))


def finish_task(folder: pathlib.Path, task: int, counts: Mapping[str, float]) -> None:
    """Marks a task as written; what was counted on the way is kept with the mark."""
    mark = _mark_file(folder, task)
    unfinished = mark.with_suffix(".tmp")
    unfinished.write_text(json.dumps(counts))
    unfinished.replace(mark)


def finished_tasks(folder: pathlib.Path) -> dict[int, dict[str, float]]:
    """What was counted of each task that is written."""
    return {task: json.loads(_mark_file(folder, task).read_text()) for task in _finished(folder)}


def count_finished(folder: pathlib.Path) -> int:
    """How many tasks are written."""
    return len(_finished(folder))


def read_bucket(folder: pathlib.Path, bucket: int, seed: int) -> list[tuple[int, np.ndarray]]:
    """Task and ids of each document of a bucket, from all finished tasks, shuffled."""
    documents = []
    for task in _finished(folder):
        offsets = np.load(_offsets_file(folder, task), mmap_mode="r")[:, bucket : bucket + 2].tolist()
        with open(_data_file(folder, task), "rb") as file:
            for start, end in offsets:
                if start < end:
                    file.seek(start)
                    documents.extend(packing.decode_row(file.read(end - start)).documents())
    numbers = np.random.Philox(np.random.SeedSequence([seed, 1, bucket])).random_raw(len(documents))
    return [documents[index] for index in np.argsort(numbers, kind="stable")]


def _chunks(documents: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    chunk, held = [], 0
    for ids in documents:
        chunk.append(ids)
        held += len(ids)
        if held >= CHUNK_IDS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _finished(folder: pathlib.Path) -> list[int]:
    return sorted(int(mark.stem) for mark in folder.glob("*.json"))


def _data_file(folder: pathlib.Path, task: int) -> pathlib.Path:
    return folder / f"{task:06}.documents"


def _offsets_file(folder: pathlib.Path, task: int) -> pathlib.Path:
    return folder / f"{task:06}.offsets.npy"


def _mark_file(folder: pathlib.Path, task: int) -> pathlib.Path:
    return folder / f"{task:06}.json"
