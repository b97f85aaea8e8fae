"""Shards of one split of a language, pair or collection: Parquet, with what the manifest says of it.

Owns the names and layout of the shards, which are those of a Hugging Face dataset; `emma_jax.manifest` reads them.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

from emma_jax.corpus import groups

# Of a row group, which is what a reader holds at least.
GROUP_ROWS = 1 << 16
GROUP_BYTES = 32 << 20
COUNTED_BYTES = 1 << 20  # at a time
SCHEMAS = {
    "documents": pa.schema([("text", pa.string()), ("lang", pa.string())]),
    "pairs": pa.schema([(name, pa.string()) for name in ("src_text", "tgt_text", "src_lang", "tgt_lang")]),
}
FOLDERS = ("monolingual", "bilingual", "code", "paper", "instruction", "book")


def file_name(kind: str, name: str, split: str, shard: int, num_shards: int) -> str:
    """The name of a shard in the corpus.

    >>> file_name("pairs", "deu_Latn-eng_Latn", "train", 0, 2)
    'bilingual/deu_Latn-eng_Latn/train-00000-of-00002.parquet'
    >>> file_name("documents", "code.stack", "train", 0, 1)
    'code/stack/train-00000-of-00001.parquet'
    """
    collection, _, own = name.partition(".")
    folder = f"{collection}/{own}" if own else f"{'monolingual' if kind == 'documents' else 'bilingual'}/{name}"
    return f"{folder}/{split}-{shard:05}-of-{num_shards:05}.parquet"


def write_shard(folder: epath.Path, file: str, kind: str, name: str, table: pa.Table) -> dict[str, object]:
    """Writes a table of documents or pairs, with their `source`, as a shard of the corpus.

    Returns file, rows, tokens, bytes and sources, as the manifest has them.
    """
    texts = [table[column] for column in groups.TEXTS[kind]]
    num_bytes = sum(pc.sum(pc.binary_length(text)).as_py() or 0 for text in texts)
    rows = max(1, min(GROUP_ROWS, len(table) * GROUP_BYTES // max(num_bytes, 1)))
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        # In one chunk, so that the bytes do not show how the rows arrived.
        shard = table.select(SCHEMAS[kind].names).combine_chunks()
        with pq.ParquetWriter(stream, shard.schema, compression="zstd") as writer:
            if len(shard):  # `datasets` cannot read a row group of no rows
                writer.write_table(shard, row_group_size=rows)
    counts = pc.value_counts(table["source"]).to_pylist()
    sources = {item["values"]: item["counts"] for item in sorted(counts, key=lambda item: item["values"])}
    tokens = sum(num_tokens(text, plain="." not in name) for text in texts)
    return dict(file=file, rows=len(table), tokens=tokens, bytes=num_bytes, sources=sources)


def num_tokens(text: pa.ChunkedArray, plain: bool = True) -> int:
    r"""The whitespace tokens of all texts together, which have no space at their ends.

    Plain texts, which are all but those of collections, have single spaces and at most two line breaks: their bytes are
    counted, which is a hundred times as fast.

    >>> num_tokens(pa.chunked_array([["one", "one two\n\nthree"]]))
    4
    """
    if not plain:
        return len(text) + (pc.sum(pc.count_substring_regex(text, pattern=r"\s+")).as_py() or 0)
    count = len(text)
    for chunk in text.chunks:
        _, offsets, data = chunk.buffers()
        start, end = np.frombuffer(offsets, np.int32)[[chunk.offset, chunk.offset + len(chunk)]].tolist()
        content = np.frombuffer(data, np.uint8)[start:end] if data else np.empty(0, np.uint8)
        for first in range(0, len(content), COUNTED_BYTES):
            piece = content[first : first + COUNTED_BYTES + 1]  # with the first byte of the next
            line_end = piece == ord("\n")
            count += np.count_nonzero(piece[:COUNTED_BYTES] == ord(" ")) + np.count_nonzero(line_end[:COUNTED_BYTES])
            count -= np.count_nonzero(line_end[1:] & line_end[:-1])
    return int(count)
