"""Files through which documents go from tasks to buckets: the shuffle between the two stages of `pack`.

Owns their format and the order of documents. What is drawn of a task is one part: a file that is sorted by bucket, in
chunks that fit in memory. A bucket is read across the files of all parts. A document's bucket and its place there
depend on the seed, the part and its number in the part alone, so neither the number of workers nor an interruption
shows in the rows. A runner's own shuffle would hold all documents in memory.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from emma_jax import packing

CHUNK_IDS = 16 << 20  # held by a worker while it writes, four bytes each
BUCKET_IDS = 16 << 20  # aimed at; held by a worker while it packs


def write(
    folder: pathlib.Path, part: int, documents: Iterable[tuple[int, np.ndarray]], num_buckets: int, seed: int
) -> None:
    """Writes a part: documents, each with its task id, sorted by bucket. The part is not finished before `finish`."""
    numbers = np.random.Philox(np.random.SeedSequence([seed, 0, part]))
    offsets = []
    with open(_data_file(folder, part), "wb") as file:
        for chunk in _chunks(documents):
            buckets = numbers.random_raw(len(chunk)) % num_buckets
            order = np.argsort(buckets, kind="stable")
            bounds = np.searchsorted(buckets[order], np.arange(num_buckets + 1)).tolist()
            offsets.append([file.tell()])
            for start, end in zip(bounds, bounds[1:], strict=False):
                if start < end:
                    file.write(packing.encode_row(packing.join(chunk[index] for index in order[start:end])))
                offsets[-1].append(file.tell())
    np.save(_offsets_file(folder, part), np.array(offsets, np.int64).reshape(-1, num_buckets + 1))


def finish(folder: pathlib.Path, part: int, counts: Mapping[int, Mapping[str, int]]) -> None:
    """Marks a part as written; what was counted of each of its task ids is kept with the mark."""
    unfinished = _mark_file(folder, part).with_suffix(".tmp")
    unfinished.write_text(json.dumps(counts))
    unfinished.replace(_mark_file(folder, part))


def is_finished(folder: pathlib.Path, part: int) -> bool:
    """Whether a part is written."""
    return _mark_file(folder, part).exists()


def count_finished(folder: pathlib.Path) -> int:
    """How many parts are written."""
    return len(_finished(folder))


def counts(folder: pathlib.Path) -> dict[int, dict[str, int]]:
    """What was counted of each task id, from all finished parts."""
    found = (json.loads(_mark_file(folder, part).read_text()) for part in _finished(folder))
    return {int(task): counted for of_part in found for task, counted in of_part.items()}


def read_bucket(folder: pathlib.Path, bucket: int, seed: int) -> list[tuple[int, np.ndarray]]:
    """Task and ids of each document of a bucket, from all finished parts, shuffled."""
    documents = []
    for part in _finished(folder):
        offsets = np.load(_offsets_file(folder, part), mmap_mode="r")[:, bucket : bucket + 2].tolist()
        with open(_data_file(folder, part), "rb") as file:
            for start, end in offsets:
                if start < end:
                    file.seek(start)
                    documents.extend(packing.decode_row(file.read(end - start)).documents())
    numbers = np.random.Philox(np.random.SeedSequence([seed, 1, bucket])).random_raw(len(documents))
    return [documents[index] for index in np.argsort(numbers, kind="stable")]


def _chunks(documents: Iterable[tuple[int, np.ndarray]]) -> Iterator[list[tuple[int, np.ndarray]]]:
    chunk, held = [], 0
    for task, ids in documents:
        chunk.append((task, ids))
        held += len(ids)
        if held >= CHUNK_IDS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _finished(folder: pathlib.Path) -> list[int]:
    return sorted(int(mark.stem) for mark in folder.glob("*.json"))


def _data_file(folder: pathlib.Path, part: int) -> pathlib.Path:
    return folder / f"{part:06}.documents"


def _offsets_file(folder: pathlib.Path, part: int) -> pathlib.Path:
    return folder / f"{part:06}.offsets.npy"


def _mark_file(folder: pathlib.Path, part: int) -> pathlib.Path:
    return folder / f"{part:06}.json"
