"""Records of a Parquet file as tables, in bounded memory however large its row groups are."""

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emma_jax.corpus import streams
from emma_jax.corpus.readers.json_lines import FAULT
from emma_jax.corpus.source import MAX_BATCH_BYTES, MAX_BATCH_ROWS, BadFile, File

SUFFIXES = (".parquet",)
# At a time, from the file: hardly slower than more, and a dictionary may repeat a long text in each of them.
MAX_STEP_ROWS = 256
MAX_GROWTH = 4  # of a step, over the one before
BUFFER_BYTES = 1 << 20


def tables(file: File, share: tuple[int, int], choose: Callable[[Sequence[str]], Sequence[str]]) -> Iterator[pa.Table]:
    """Tables of strings, a row for each record of a share of the file's row groups.

    `choose` is given the names of all columns, and gives those that are wanted. FAULT is null, or "undecodable" where a
    column is no UTF-8.
    """
    number, num_shares = share
    with streams.open_stored(file) as stored:
        try:
            with streams.naming_damage():
                parquet = _open(stored, file.num_bytes)
                columns = choose(parquet.schema_arrow.names)
                _check_types(parquet.schema_arrow, columns)
        except BadFile:
            if number:
                return  # the first share names the file
            raise
        num_groups = parquet.metadata.num_row_groups
        groups = list(range(num_groups * number // num_shares, num_groups * (number + 1) // num_shares))
        steps = _steps(parquet, groups, columns, file.num_bytes)
        collected, num_rows, num_bytes, damage, done = [], 0, 0, None, False
        while not done:
            try:
                with streams.naming_damage():
                    step, num_step_bytes = next(steps, (None, 0))
            except BadFile as error:
                step, damage = None, error
            done = step is None
            if collected and (
                done or num_bytes + num_step_bytes > MAX_BATCH_BYTES // 2 or num_rows + len(step) > MAX_BATCH_ROWS
            ):
                yield _as_text(pa.Table.from_batches(collected).combine_chunks())
                collected, num_rows, num_bytes = [], 0, 0
            if not done:
                collected.append(step)
                num_rows += len(step)
                num_bytes += num_step_bytes
        if damage:
            raise damage


def names(file: File) -> list[str]:
    """Names of the file's columns. Raises BadFile if it is no Parquet file."""
    with streams.open_stored(file) as stored, streams.naming_damage():
        return _open(stored, file.num_bytes).schema_arrow.names


def _open(stored: BinaryIO, num_bytes: int) -> pq.ParquetFile:
    # Unbuffered, a whole column of a row group is held in memory; for what is small, that is faster.
    return pq.ParquetFile(
        pa.PythonFile(stored, mode="r"),
        buffer_size=BUFFER_BYTES if num_bytes > BUFFER_BYTES else 0,
        pre_buffer=False,
        page_checksum_verification=True,
    )


def _steps(
    parquet: pq.ParquetFile, groups: list[int], columns: Sequence[str], num_file_bytes: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Small batches of the columns, each with its bytes."""
    num_bytes = 0
    for group in groups:
        # Each on its own: what stands before a damaged one is then read to its end.
        num_rows = _first_step_rows(parquet.metadata.row_group(group), num_file_bytes)
        for batch in parquet.iter_batches(num_rows, [group], columns, use_threads=False):
            batch = _without_dictionaries(batch, columns)
            num_step_bytes = batch.nbytes
            num_bytes += num_step_bytes
            streams.check_expansion(num_bytes, num_file_bytes)
            yield batch, num_step_bytes
            fitting = MAX_BATCH_BYTES // 4 * len(batch) // max(1, num_step_bytes)
            num_rows = max(1, min(fitting, MAX_GROWTH * num_rows, MAX_STEP_ROWS))
            parquet.reader.set_batch_size(num_rows)  # of the next one


def _first_step_rows(group: pq.RowGroupMetaData, num_file_bytes: int) -> int:
    """How many rows fit in a batch, were each of them the whole row group; at most MAX_STEP_ROWS."""
    # Not more is asked of it: pyarrow ends the process at damage in what it says of columns.
    num_bytes = max(1, group.total_byte_size)
    streams.check_expansion(num_bytes, num_file_bytes)
    return max(1, min(MAX_STEP_ROWS, MAX_BATCH_BYTES // num_bytes))


def _check_types(schema: pa.Schema, columns: Sequence[str]) -> None:
    for name in columns:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_binary(kind) or pa.types.is_null(kind)):
            raise BadFile(f"has {kind} in the column {name!r}, where text should be")


def _is_binary(kind: pa.DataType) -> bool:
    checks = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    return any(getattr(pa.types, f"is_{check}")(kind) for check in checks)


def _without_dictionaries(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    if batch.schema.names == columns and not any(map(pa.types.is_dictionary, batch.schema.types)):
        return batch
    found = [batch.column(name) for name in columns]
    return pa.record_batch(
        [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in found],
        list(columns),
    )


def _as_text(table: pa.Table) -> pa.Table:
    """The columns as strings, and FAULT."""
    columns, undecodable = [], None
    for column in table.columns:
        try:
            text = _checked(column)
        except pa.ArrowInvalid:
            binary = column.cast(pa.binary())
            text = pa.chunked_array([streams.as_text(binary.to_pylist())])
            worse = pc.and_(text.is_null(), binary.is_valid())
            undecodable = worse if undecodable is None else pc.or_(undecodable, worse)
        columns.append(text)
    fault = pa.nulls(len(table), pa.string())
    if undecodable is not None:
        fault = pc.if_else(undecodable, "undecodable", fault)
    return pa.table([*columns, fault], [*table.schema.names, FAULT])


def _checked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as strings. Raises pa.ArrowInvalid if one is no UTF-8."""
    if column.type != pa.string():
        return column.cast(pa.binary()).cast(pa.string())  # the second looks at the encoding
    column.validate(full=True)
    return column
