"""Arrow files through which records go from parts to buckets, and from buckets to shards.

A worker writes one file for each piece of its work: record batches that are found by their number. Between parts and
buckets a file holds rounds of one batch per bucket; so a bucket is read from the files of all parts, and neither we nor
a runner ever hold the whole. What is written is compact: a slice does not drag the batch along that it is from.
"""

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from etils import epath

OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@contextlib.contextmanager
def open_writer(path: epath.Path, schema: pa.Schema) -> Iterator[pa.RecordBatchFileWriter]:
    """A writer of the file at `path`."""
    with path.open("wb") as file, pa.ipc.new_file(file, schema, options=OPTIONS) as writer:
        yield writer


def append(writer: pa.RecordBatchFileWriter, table: pa.Table) -> None:
    """Writes the table as one record batch, also if it is empty."""
    batches = table.combine_chunks().to_batches()
    writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema))


def append_by_bucket(writer: pa.RecordBatchFileWriter, table: pa.Table, buckets: np.ndarray, num_buckets: int) -> None:
    """Writes a round: a batch for each bucket, from the bucket of each row."""
    order = np.argsort(buckets, kind="stable")
    bounds = np.searchsorted(buckets[order], np.arange(num_buckets + 1)).tolist()
    table = table.take(pa.array(order))
    for start, end in zip(bounds, bounds[1:], strict=False):
        append(writer, table.slice(start, end - start))


def read_bucket(paths: Iterable[epath.Path], bucket: int, num_buckets: int, schema: pa.Schema) -> pa.Table:
    """All rows of a bucket, from files that hold rounds of `num_buckets` batches."""
    batches = []
    for path in paths:
        with path.open("rb") as file:
            reader = pa.ipc.open_file(file)
            batches.extend(map(reader.get_batch, range(bucket, reader.num_record_batches, num_buckets)))
    return pa.Table.from_batches(batches, schema)


def read(path: epath.Path, numbers: Iterable[int]) -> list[pa.RecordBatch]:
    """The record batches of a file with the given numbers."""
    with path.open("rb") as file:
        return [*map(pa.ipc.open_file(file).get_batch, numbers)]
