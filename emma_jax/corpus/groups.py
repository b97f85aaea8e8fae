"""The order of records in a corpus: by language, pair or collection, then split, then hash.

A group is a split of a name. The order is total, so that records lie in the shards in one order, however they came.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import manifest as manifest_lib

NAMES = {"documents": ("name",), "pairs": ("src_lang", "tgt_lang")}
TEXTS = {"documents": ("text",), "pairs": ("src_text", "tgt_text")}


class Group(NamedTuple):
    """A group in a sorted table: its rows, and the bytes of their texts in UTF-8."""

    name: str
    split: str
    rows: int
    num_bytes: int


def sort(kind: str, table: pa.Table) -> tuple[pa.Table, list[Group]]:
    """The table of documents or pairs in order and in one chunk, and the groups in it, in order.

    >>> table = pa.table({"name": ["deu_Latn", "ces_Latn"], "text": ["Ja", "Ano"], "validation": [False, True],
    ...                   "hash": pa.array([1, 2], pa.uint64())})
    >>> ordered, groups = sort("documents", table)
    >>> ordered["text"].to_pylist(), [tuple(group) for group in groups]
    (['Ano', 'Ja'], [('ces_Latn', 'validation', 1, 3), ('deu_Latn', 'train', 1, 2)])
    """
    table = table.combine_chunks()
    names, group = _ranked(kind, table)
    hashes = table["hash"].to_numpy()
    order = np.argsort(hashes)
    small = group.astype(np.uint16) if group.max(initial=0) < 1 << 16 else group  # which NumPy sorts by radix
    order = order[np.argsort(small[order], kind="stable")]
    _settle_ties(order, group, hashes, table.select(list(TEXTS[kind])))

    num_bytes = sum(pc.binary_length(table[name]).to_numpy().astype(np.int64) for name in TEXTS[kind])
    found, rows = np.unique(group, return_counts=True)
    sizes = np.bincount(group, weights=num_bytes, minlength=found.max(initial=-1) + 1)[found].astype(np.int64)
    groups = [
        Group(*_named(names, number), count, size)
        for number, count, size in zip(found.tolist(), rows.tolist(), sizes.tolist(), strict=True)
    ]
    if np.array_equal(order, np.arange(len(order))):
        return table, groups
    return table.take(pa.array(order)), groups


def of_rows(kind: str, table: pa.Table) -> tuple[list[tuple[str, str]], np.ndarray]:
    """The groups in a table, each a name and a split, in order, and for each row the number of its group.

    >>> of_rows("documents", pa.table({"name": ["deu_Latn", "ces_Latn"], "validation": [False, True]}))
    ([('ces_Latn', 'validation'), ('deu_Latn', 'train')], array([1, 0]))
    """
    names, group = _ranked(kind, table)
    found, number = np.unique(group, return_inverse=True)
    return [_named(names, each) for each in found.tolist()], number


def _named(names: list[str], group: int) -> tuple[str, str]:
    return names[group // 2], manifest_lib.SPLITS[group % 2]


def _ranked(kind: str, table: pa.Table) -> tuple[list[str], np.ndarray]:
    """The distinct names, sorted, and for each row twice the number of its name, and one more for validation.

    The name of a pair joins two columns. The order of SPLITS is that of the two truths.
    """
    encoded = [table[column].combine_chunks().dictionary_encode() for column in NAMES[kind]]
    sizes = [max(1, len(column.dictionary)) for column in encoded]
    indices = [column.indices.to_numpy(zero_copy_only=False) for column in encoded]
    present, codes = np.unique(np.ravel_multi_index(indices, sizes), return_inverse=True)
    values = [
        column.dictionary.take(pa.array(index)).to_pylist()
        for column, index in zip(encoded, np.unravel_index(present, sizes), strict=True)
    ]
    names = ["-".join(name) for name in zip(*values, strict=True)]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return [names[number] for number in order], 2 * rank[codes] + table["validation"].to_numpy().astype(np.int64)


def _settle_ties(order: np.ndarray, group: np.ndarray, hashes: np.ndarray, texts: pa.Table) -> None:
    """Puts different records of one group and one hash, which are rare, in the order of their texts."""
    same = (np.diff(hashes[order]) == 0) & (np.diff(group[order]) == 0)
    tied = np.zeros(len(order), bool)
    tied[1:] |= same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    if len(places):
        rows = order[places]
        found = texts.take(pa.array(rows)).append_column("group", pa.array(group[rows]))
        keys = [(name, "ascending") for name in ("group", "hash", *texts.column_names)]
        found = found.append_column("hash", pa.array(hashes[rows]))
        order[places] = rows[pc.sort_indices(found, keys).to_numpy()]
