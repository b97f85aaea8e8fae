"""Where record batches go from one stage to the next: which of them belong to which piece of the next stage's work.

A worker writes one Arrow file for each piece of its work, so that finished work need not be done again. Of these files
a piece of the next stage takes what is its own, in one of two ways: `gather` reads it from all files, which is best on
one machine; `scatter` gives all batches of one file with the pieces they are for, which a runner's own shuffle brings
together on many machines. What is written is compact: a slice would drag along the batch that it is from.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from typing import BinaryIO

import fsspec
import numpy as np
import pyarrow as pa
from etils import epath

from emma_jax.corpus import groups, hashing

# What epath reads buckets with remembers each listing, and so would miss what other workers have written since.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False

KINDS = ("documents", "pairs")
END = np.dtype("<u4")  # of rows of a group in a sorted file
SHIPPED_BYTES = 32 << 20  # of a batch, about
NUM_READ_AT_ONCE = 32
SHIPPED = pa.ipc.IpcWriteOptions(compression="lz4")  # files are not: it would cost more time than the disk does
ROWS_PER_BATCH = 4096  # of a sorted file: what is read in vain at each end of a range


@dataclasses.dataclass(frozen=True)
class ByBucket:
    """From the files of parts, which hold rounds of one batch per bucket, to buckets: pieces (kind, bucket, files)."""

    folder: str
    num_buckets: int

    def path(self, kind: str, part: int) -> epath.Path:
        """The file with a part's records of a kind."""
        return epath.Path(self.folder) / kind / f"{part:06}.arrow"

    def pieces(self) -> list[tuple[int, tuple[str, int, int]]]:
        """The number of each piece, its kind, bucket, and how many files it is in; none of a kind with no record."""
        num_files = {kind: len(self._list(kind)) for kind in KINDS}
        return [
            (self._number(kind, bucket), (kind, bucket, num_files[kind]))
            for kind in KINDS
            if num_files[kind]
            for bucket in range(self.num_buckets)
        ]

    def kind_of(self, number: int) -> str:
        """The kind of the piece with this number."""
        return KINDS[number // self.num_buckets]

    def gather(self, kind: str, bucket: int, num_files: int) -> Iterator[pa.RecordBatch]:
        """The batches of a bucket.

        Raises OSError if files are gone: the bucket was done by another worker, and this one is a late second attempt.
        """
        found = self._list(kind)
        if len(found) != num_files:
            raise OSError(f"bucket {bucket} of {kind} is in {len(found)} files, not in {num_files}")
        for path in found:
            with open_reader(path) as reader:
                yield from map(reader.get_batch, range(bucket, reader.num_record_batches, self.num_buckets))

    def files(self) -> list[tuple[str, str]]:
        """Kind and path of each file."""
        return [(kind, str(path)) for kind in KINDS for path in self._list(kind)]

    def scatter(self, kind: str, path: str) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The batches of a file, several of one bucket together, with the number of their piece."""
        with open_reader(epath.Path(path)) as reader:
            for bucket in range(self.num_buckets):
                held = []
                for batch in map(reader.get_batch, range(bucket, reader.num_record_batches, self.num_buckets)):
                    held.append(batch)
                    if sum(each.nbytes for each in held) >= SHIPPED_BYTES:
                        yield self._number(kind, bucket), one_batch(pa.Table.from_batches(held))
                        held = []
                if held:
                    yield self._number(kind, bucket), one_batch(pa.Table.from_batches(held))

    def _list(self, kind: str) -> list[epath.Path]:
        return list_files(self.path(kind, 0).parent, ".arrow")

    def _number(self, kind: str, bucket: int) -> int:
        return KINDS.index(kind) * self.num_buckets + bucket


@dataclasses.dataclass(frozen=True)
class Shards:
    """A piece of the stage that writes: one shard of a group, or all of some small groups.

    `groups` are (name, split) in order, of which `first` is the place of the first in that order. Shard `shard` of
    `num_shards` has the records whose hashes are in that range.
    """

    kind: str
    first: int
    groups: tuple[tuple[str, str], ...]
    shard: int = 0
    num_shards: int = 1


@dataclasses.dataclass(frozen=True)
class BySize:
    """From the files of buckets, each sorted by group and hash, to shards: pieces (Shards,)."""

    folder: str
    num_buckets: int

    def path(self, kind: str, bucket: int) -> epath.Path:
        """The file of a deduplicated bucket."""
        return epath.Path(self.folder) / f"distinct_{kind}" / f"{bucket:06}.arrow"

    def write_ends(self, kind: str, rows: np.ndarray) -> None:
        """Keeps what `gather` finds its rows by: how many of each group each file has, [groups, buckets]."""
        with replacing(self._path(f"ends_{kind}")) as file:
            file.write(np.zeros(self.num_buckets, END).tobytes())
            file.write(np.cumsum(rows, axis=0, dtype=END).tobytes())

    def write_pieces(self, pieces: Sequence[tuple[int, tuple[Shards]]]) -> None:
        """Keeps what `scatter` finds its pieces by."""
        numbers = {}
        for number, (piece,) in pieces:
            for name, split in piece.groups:
                numbers.setdefault(f"{piece.kind} {name} {split}", (number, piece.num_shards))
        with replacing(self._path("pieces")) as file:
            file.write(json.dumps(numbers).encode())

    def gather(self, piece: Shards) -> Iterator[pa.RecordBatch]:
        """The batches of a piece; rows of other shards of its group may be among them."""
        with self._path(f"ends_{piece.kind}").open("rb") as file:
            starts, ends = (self._ends(file, group) for group in (piece.first, piece.first + len(piece.groups)))
        first, last = (shard * self.num_buckets / piece.num_shards for shard in (piece.shard, piece.shard + 1))
        for bucket in range(math.floor(first), math.ceil(last)):
            if starts[bucket] < ends[bucket]:
                with open_reader(self.path(piece.kind, bucket)) as reader:
                    yield from read_rows(reader, starts[bucket], ends[bucket])

    def files(self) -> list[tuple[str, str]]:
        """Kind and path of each file."""
        return [(kind, str(path)) for kind in KINDS for path in list_files(self.path(kind, 0).parent, ".arrow")]

    def scatter(self, kind: str, path: str) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The batches of a file, with the number of the piece that each belongs to."""
        numbers = json.loads(self._path("pieces").read_text())
        with open_reader(epath.Path(path)) as reader:
            for batch in map(reader.get_batch, range(reader.num_record_batches)):
                found, group = groups.of_rows(kind, pa.Table.from_batches([batch]))
                first, num_shards = np.array([numbers[f"{kind} {name} {split}"] for name, split in found]).T
                piece = first[group] + hashing.ranges(batch["hash"].to_numpy(), num_shards[group])
                bounds = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(piece)]
                for start, end in zip(bounds, bounds[1:], strict=False):
                    yield int(piece[start]), batch.slice(start, end - start)

    def _ends(self, file: BinaryIO, group: int) -> list[int]:
        row_bytes = self.num_buckets * END.itemsize
        file.seek(group * row_bytes)
        content = file.read(row_bytes)
        assert len(content) == row_bytes, f"{file} is cut short"
        return np.frombuffer(content, END).tolist()

    def _path(self, name: str) -> epath.Path:
        return epath.Path(self.folder) / name


def list_files(folder: epath.Path, suffix: str) -> list[epath.Path]:
    """The files in a folder whose name ends in a suffix, sorted; none if it is not there, as an empty one of a bucket.

    No `glob`: the folder's own name may have brackets.
    """
    return sorted(path for path in folder.iterdir() if path.name.endswith(suffix)) if folder.exists() else []


def read_texts(paths: Iterable[epath.Path]) -> Iterator[str]:
    """The content of many small files, in order; several are read at once, for a bucket's each take a while."""
    with futures.ThreadPoolExecutor(NUM_READ_AT_ONCE) as pool:
        paths = iter(paths)
        while some := [*itertools.islice(paths, NUM_READ_AT_ONCE)]:
            yield from pool.map(epath.Path.read_text, some)


@contextlib.contextmanager
def replacing(path: epath.Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is whole; attempts of several workers do not meet in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "://" in str(path):  # an object of a bucket is there when it is whole
        with path.open("wb") as file:
            yield file
        return
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with unfinished.open("wb") as file:
        yield file
    unfinished.replace(path)


@contextlib.contextmanager
def open_writer(path: epath.Path, schema: pa.Schema) -> Iterator[pa.RecordBatchFileWriter]:
    """A writer of the file at `path`."""
    with replacing(path) as file, pa.ipc.new_file(file, schema) as writer:
        yield writer


@contextlib.contextmanager
def open_reader(path: epath.Path) -> Iterator[pa.RecordBatchFileReader]:
    """A reader of the file at `path`."""
    with path.open("rb") as file:
        yield pa.ipc.open_file(file)


def write_round(writer: pa.RecordBatchFileWriter, table: pa.Table, buckets: np.ndarray, num_buckets: int) -> None:
    """Writes a batch for each bucket, from the bucket of each row."""
    small = buckets.astype(np.uint16) if num_buckets <= 1 << 16 else buckets  # which NumPy sorts by radix
    order = np.argsort(small, kind="stable")
    bounds = np.searchsorted(buckets[order], np.arange(num_buckets + 1)).tolist()
    table = table.take(pa.array(order))
    for start, end in zip(bounds, bounds[1:], strict=False):
        writer.write_batch(one_batch(table.slice(start, end - start)))


def write_sorted(writer: pa.RecordBatchFileWriter, table: pa.Table) -> None:
    """Writes the table in batches of ROWS_PER_BATCH."""
    for start in range(0, len(table), ROWS_PER_BATCH):
        writer.write_batch(one_batch(table.slice(start, ROWS_PER_BATCH)))


def read_rows(reader: pa.RecordBatchFileReader, start: int, end: int) -> Iterator[pa.RecordBatch]:
    """Rows of a file that `write_sorted` wrote."""
    for number in range(start // ROWS_PER_BATCH, -(-end // ROWS_PER_BATCH)):
        first = number * ROWS_PER_BATCH
        batch = reader.get_batch(number)
        yield batch.slice(max(start - first, 0), min(end, first + len(batch)) - max(start, first))


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """The table as one record batch, also if it is empty."""
    batches = table.combine_chunks().to_batches()
    assert len(batches) <= 1, f"{table.nbytes} bytes, and a column of strings holds 2 GiB at most"
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def to_bytes(batch: pa.RecordBatch) -> bytes:
    """A record batch as a runner can ship it: with the bytes of its rows, not of what it is a slice of."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=SHIPPED) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def from_bytes(shipped: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
    """The record batches that `to_bytes` made."""
    for content in shipped:
        yield from pa.ipc.open_stream(content)
