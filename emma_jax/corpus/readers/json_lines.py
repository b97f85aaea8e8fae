"""Records of JSON lines as tables, a block of lines at a time.

A block is parsed at once, by Arrow. If a line of it is not as it should be, the lines around it are parsed one by one,
which says what is wrong with which record; for every good line both ways give the same.
"""

import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.json

from emma_jax.corpus import streams

SUFFIXES = tuple(f".{kind}{suffix}" for kind in ("jsonl", "ndjson", "json") for suffix in ("", *streams.COMPRESSED))
FAULT = "what is wrong"  # name of a column; `source.columns` cannot name one with a space
BLANK = b" \t\r"
SMALL_BYTES = 1 << 16


def tables(stream: streams.Stream, choose: Callable[[Sequence[str]], Sequence[str]]) -> Iterator[pa.Table]:
    r"""Tables of strings with a row for each record, null where a record lacks a column.

    `choose` is given the names of the first record that has any, and gives those of the columns that are wanted. FAULT
    is null, or says why a record cannot be read: bad_json, undecodable, wrong_columns or too_large.

    >>> import io
    >>> stream = io.BytesIO(b'{"text": "one", "id": 1}\n\n{"text": 2}\n{"te')
    >>> pa.concat_tables(tables(stream, lambda names: ["text"])).to_pylist()
    [{'text': 'one', 'what is wrong': None},
     {'text': None, 'what is wrong': 'wrong_columns'},
     {'text': None, 'what is wrong': 'bad_json'}]
    """
    columns = []
    for block, num_left_out in streams.line_blocks(stream):
        if not columns and (names := _names(block)):
            columns = choose(names)
        schema = pa.schema([(name, pa.string()) for name in columns])
        if num_left_out:
            yield _table([("too_large", ())] * num_left_out, schema)
        if block:
            yield from _parse_halves(block, schema)


def first_names(stream: streams.Stream) -> list[str]:
    """Names of the columns of a record near the stream's start; empty if there is none."""
    block, _ = next(streams.line_blocks(stream), (b"", 0))
    return _names(block)


def _names(block: bytes) -> list[str]:
    for line in block.split(b"\n"):
        record = _load(line)
        if isinstance(record, dict) and record:
            return list(record)
    return []


def _load(line: bytes) -> object:
    """What a line holds; None if that is no JSON."""
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return None


def _parse_halves(block: bytes, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of a block of lines; a small part of it is parsed line by line where one is not as it should be."""
    table = _parse(block, schema)
    if table is not None:
        yield table
        return
    middle = block.find(b"\n", len(block) // 2) + 1
    if len(block) < SMALL_BYTES or not 0 < middle < len(block):
        yield _parse_lines(block, schema)
    else:
        yield from _parse_halves(block[:middle], schema)
        yield from _parse_halves(block[middle:], schema)


def _parse(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """The table of a block of lines; None if one is not an object, in UTF-8, whose columns are strings or null."""
    # Arrow crashes where a block begins with null (apache/arrow#47409), and lines are nothing to it. Where each begins
    # with { and the one before ends with }, a line end is in no object: then as many objects as lines are one on each.
    block = block.removesuffix(b"\n")
    num_records = block.count(b"\n") + 1
    if not _is_object(block) or block.count(b"}\n{") + 1 != num_records:
        found = _records(block)
        if not found or not all(map(_is_object, found)):
            return None
        block, num_records = b"\n".join(found), len(found)
    ends = pa.py_buffer(np.array([0, len(block)], np.int32))
    try:
        # Arrow does not look at the encoding of what it skips; a line is good or bad as a whole.
        pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(block)]).validate(full=True)
        table = pa.json.read_json(
            pa.BufferReader(block),
            pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    return table.append_column(FAULT, pa.nulls(num_records, pa.string())) if len(table) == num_records else None


def _records(block: bytes) -> list[bytes]:
    return [line for line in (line.strip(BLANK) for line in block.split(b"\n")) if line]


def _is_object(line: bytes) -> bool:
    return line.startswith(b"{") and line.endswith(b"}")


def _parse_lines(block: bytes, schema: pa.Schema) -> pa.Table:
    return _table([_parse_line(line, schema) for line in _records(block)], schema)


def _parse_line(line: bytes, schema: pa.Schema) -> tuple[str | None, Sequence[str | None]]:
    """Fault of a record, and its values if there is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "undecodable", ()
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        # Where Arrow takes more than Python does, such as what is nested a thousand times, that is no fault.
        table = _parse(line, schema)
        return ("bad_json", ()) if table is None else (None, list(table.drop([FAULT]).to_pylist()[0].values()))
    if not isinstance(record, dict):
        return "bad_json", ()
    values = [record.get(name) for name in schema.names]
    if not all(value is None or isinstance(value, str) for value in values):
        return "wrong_columns", ()
    try:
        "".join(value for value in values if value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as an escape
        return "undecodable", ()
    return None, values


def _table(rows: Sequence[tuple[str | None, Sequence[str | None]]], schema: pa.Schema) -> pa.Table:
    values = [found or [None] * len(schema) for _, found in rows]
    columns = [pa.array([found[number] for found in values], pa.string()) for number in range(len(schema))]
    return pa.table([*columns, pa.array([fault for fault, _ in rows], pa.string())], [*schema.names, FAULT])
