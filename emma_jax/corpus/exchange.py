"""Where record batches go from one stage to the next: which of them belong to which piece of the next stage's work.

A worker writes one Arrow file for each piece of its work, so that finished work need not be done again. Of these files
a piece of the next stage takes what is its own, in one of two ways: `gather` reads it from all files, which is best on
one machine; `scatter` gives all batches of one file with the pieces they are for, which a runner's own shuffle brings
together on many machines. What is written is compact: a slice would drag along the batch that it is from.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import fsspec
import numpy as np
import pyarrow as pa
from etils import epath

from emma_jax.corpus import hashing

# What epath reads buckets with remembers each listing, and so would miss what other workers have written since.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False

SHIPPED = pa.ipc.IpcWriteOptions(compression="lz4")  # files are not: it would cost more time than the disk does
ROWS_PER_BATCH = 4096  # of a sorted file: what is read in vain at each end of a range


@dataclasses.dataclass(frozen=True)
class ByBucket:
    """From the files of parts, which hold rounds of one batch per bucket, to buckets: pieces (kind, bucket)."""

    folder: str
    num_buckets: int

    def path(self, kind: str, part: int) -> epath.Path:
        """The file with a part's records of a kind."""
        return epath.Path(self.folder) / kind / f"{part:06}.arrow"

    def files(self, pieces: Sequence[tuple]) -> list[tuple[str, str]]:
        """Kind and path of each file that the pieces are in."""
        kinds = sorted({kind for kind, _ in pieces})
        return [(kind, str(path)) for kind in kinds for path in list_files(self.path(kind, 0).parent, ".arrow")]

    def gather(self, kind: str, bucket: int) -> Iterator[pa.RecordBatch]:
        """The batches of a bucket."""
        for _, path in self.files([(kind, bucket)]):
            with open_reader(epath.Path(path)) as reader:
                yield from map(reader.get_batch, range(bucket, reader.num_record_batches, self.num_buckets))

    def scatter(self, file: tuple[str, str]) -> Iterator[tuple[tuple, pa.RecordBatch]]:
        """Each batch of a file, with its piece."""
        kind, path = file
        with open_reader(epath.Path(path)) as reader:
            for number in range(reader.num_record_batches):
                yield (kind, number % self.num_buckets), reader.get_batch(number)


@dataclasses.dataclass(frozen=True)
class Shards:
    """What one shard, or some small groups together, are made of: the pieces of the stage that writes shards.

    `groups` are (name, split) in order; shard `shard` of `num_shards` has the records whose hashes are in that range.
    `places` are (file, first row, end) in the sorted files that have some, in the order of hashes.
    """

    kind: str
    groups: tuple[tuple[str, str], ...]
    shard: int
    num_shards: int
    places: tuple[tuple[str, int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class BySize:
    """From the files of buckets, each sorted by group and hash, to shards: pieces (number,)."""

    pieces: Mapping[int, Shards]

    def files(self, pieces: Sequence[tuple]) -> list[tuple]:
        """Each file that the pieces are in, with the numbers and places of these pieces."""
        found = {}
        for (number,) in pieces:
            for path, start, end in self.pieces[number].places:
                found.setdefault(path, []).append((number, start, end))
        return sorted(found.items())

    def gather(self, number: int) -> Iterator[pa.RecordBatch]:
        """The batches of a piece; rows of other shards of its group may be among them."""
        for path, start, end in self.pieces[number].places:
            with open_reader(epath.Path(path)) as reader:
                yield from read_rows(reader, start, end)

    def scatter(self, file: tuple) -> Iterator[tuple[tuple, pa.RecordBatch]]:
        """Each batch of a file, with its piece."""
        path, places = file
        with open_reader(epath.Path(path)) as reader:
            for number, start, end in places:
                for batch in read_rows(reader, start, end):
                    piece = self.pieces[number]
                    shards = hashing.ranges(batch["hash"].to_numpy(), piece.num_shards)
                    yield (number,), batch.filter(pa.array(shards == piece.shard))


def list_files(folder: epath.Path, suffix: str) -> list[epath.Path]:
    """The files in a folder whose name ends in a suffix, sorted; none if it is not there, as an empty one of a bucket.

    No `glob`: the folder's own name may have brackets.
    """
    return sorted(path for path in folder.iterdir() if path.name.endswith(suffix)) if folder.exists() else []


@contextlib.contextmanager
def open_writer(path: epath.Path, schema: pa.Schema) -> Iterator[pa.RecordBatchFileWriter]:
    """A writer of the file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
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
