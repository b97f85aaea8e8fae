"""Shards of one split of a language or pair: Parquet, with what the manifest says of it.

Owns the names and layout of the shards, which are those of a Hugging Face dataset; `emma_jax.manifest` reads them.
"""

import collections
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

ROWS_PER_GROUP = 1 << 16
FOLDERS = {"documents": "monolingual", "pairs": "bilingual"}
TEXT_COLUMNS = {"documents": ["text"], "pairs": ["src_text", "tgt_text"]}
SCHEMAS = {
    "documents": pa.schema([("text", pa.string()), ("lang", pa.string())]),
    "pairs": pa.schema([(name, pa.string()) for name in ("src_text", "tgt_text", "src_lang", "tgt_lang")]),
}


def write_split(
    folder: epath.Path,
    kind: str,
    name: str,
    split: str,
    batches: Iterable[pa.RecordBatch],
    rows: int,
    rows_per_shard: int,
) -> dict[str, object]:
    """Writes `rows` rows, in the order given, as shards of `rows_per_shard`; an empty split has one empty shard.

    `kind` is documents or pairs; the batches also have the column `source`. Returns files, rows, tokens, bytes and
    sources, as the manifest has them. A shard at a time is held in memory.
    """
    num_shards = max(1, -(-rows // rows_per_shard))
    tables = _tables(batches, rows_per_shard, num_shards, SCHEMAS[kind].append(pa.field("source", pa.string())))
    files, tokens, num_bytes, sources = [], 0, 0, collections.Counter()
    for shard, table in enumerate(tables):
        files.append(f"{FOLDERS[kind]}/{name}/{split}-{shard:05}-of-{num_shards:05}.parquet")
        path = folder / files[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            # In one chunk, so that the bytes do not show how many buckets there were.
            table = table.combine_chunks()
            pq.write_table(table.select(SCHEMAS[kind].names), file, compression="zstd", row_group_size=ROWS_PER_GROUP)
        for column in TEXT_COLUMNS[kind]:
            tokens += pc.sum(num_tokens(table[column])).as_py() or 0
            num_bytes += pc.sum(pc.binary_length(table[column])).as_py() or 0
        sources.update({item["values"]: item["counts"] for item in pc.value_counts(table["source"]).to_pylist()})
    return dict(files=files, rows=rows, tokens=tokens, bytes=num_bytes, sources=dict(sorted(sources.items())))


def num_tokens(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """The whitespace tokens of each text without space at its ends.

    >>> num_tokens(pa.chunked_array([["one", "one two\\nthree"]])).to_pylist()
    [1, 3]
    """
    return pc.add(pc.count_substring_regex(text, pattern=r"\s+"), 1)


def _tables(
    batches: Iterable[pa.RecordBatch], rows_per_table: int, num_tables: int, schema: pa.Schema
) -> Iterator[pa.Table]:
    """The rows of the batches in tables of `rows_per_table`, the last one shorter."""
    held = schema.empty_table()
    for batch in batches:
        held = pa.concat_tables([held, pa.Table.from_batches([batch]).select(schema.names)])
        while num_tables > 1 and len(held) >= rows_per_table:
            yield held.slice(0, rows_per_table)
            held, num_tables = held.slice(rows_per_table), num_tables - 1
    yield held
