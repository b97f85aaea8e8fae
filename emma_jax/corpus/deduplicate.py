"""Exact deduplication of one bucket, and taking from training what is held out.

Equal records have equal hashes and so are in one bucket, wherever they are from; a bucket is finished without the
others. Which of them is kept does not depend on the order in which files are read.
"""

import numpy as np
import pyarrow as pa

from emma_jax.corpus.statistics import KEPT, Report

FIRSTS = ("source", "lang")  # of equal records that differ in these, the first by name stays


def deduplicate(table: pa.Table, keys: list[str], hashes: list[str], held_out: np.ndarray, report: Report) -> pa.Table:
    """The distinct records of a bucket, without those for training that have a held-out text.

    `keys` are the columns that make a record, of which `hash` is the hash; `hashes` are the columns with a hash of each
    of its texts, whatever their language; `held_out` has the hashes of all held-out texts, sorted. A record that is
    found for training and for validation is for validation. Of the sources of a record the first by name is kept, and
    of the languages of a document of a collection.

    >>> table = pa.table({"lang": ["deu_Latn"] * 3, "text": ["Ja", "Ja", "Na"], "source": ["web", "books", "web"],
    ...                   "hash": pa.array([1, 1, 2], pa.uint64()), "validation": [False, True, False]})
    >>> deduplicate(table, ["lang", "text"], ["hash"], np.array([1], np.uint64), Report()).to_pylist()
    [{'lang': 'deu_Latn', 'text': 'Ja', 'source': 'books', 'hash': 1, 'validation': True},
     {'lang': 'deu_Latn', 'text': 'Na', 'source': 'web', 'hash': 2, 'validation': False}]
    """
    table = table.combine_chunks()
    table = distinct(table, keys, report)
    leaked = np.zeros(len(table), bool)
    for name in hashes:
        leaked |= _is_in(table[name].to_numpy(), held_out)
    leaked &= ~table["validation"].to_numpy()
    report.count(_stage(keys), "held_out_text", leaked.sum())
    report.count(_stage(keys), KEPT, len(table) - leaked.sum())
    return table.filter(pa.array(~leaked)) if leaked.any() else table


def distinct(table: pa.Table, keys: list[str], report: Report) -> pa.Table:
    """One of each record of a table, with the first source and language of all that are equal; held out if one is.

    Texts are compared only where hashes are equal: grouping all by their texts would cost more than all the rest.
    """
    table = table.combine_chunks()
    rows = _shared(table["hash"].to_numpy())
    if not len(rows):
        return table
    firsts = [name for name in FIRSTS if name in table.column_names and name not in keys]
    first = _first_of_equal(table.select([*keys, *firsts, "validation"]).take(pa.array(rows)), keys, firsts)
    first_rows = rows[first["row_min"].to_numpy()]
    kept = np.ones(len(table), bool)
    kept[rows] = False
    kept[first_rows] = True
    report.count(_stage(keys), "duplicate", len(kept) - kept.sum())
    for name, aggregate in (*((name, "min") for name in firsts), ("validation", "any")):
        column = _replaced(table[name].combine_chunks(), first_rows, first[f"{name}_{aggregate}"].combine_chunks())
        table = table.set_column(table.column_names.index(name), name, column)
    return table.filter(pa.array(kept))


def _stage(keys: list[str]) -> str:
    return "deduplicate_" + ("pairs" if "src_text" in keys else "documents")


def _first_of_equal(table: pa.Table, keys: list[str], firsts: list[str]) -> pa.Table:
    """For each distinct record the first row that has it, the first of each of `firsts`, and the split of all."""
    table = table.append_column("row", pa.array(np.arange(len(table))))
    aggregations = [("row", "min"), *((name, "min") for name in firsts), ("validation", "any")]
    return table.group_by(keys, use_threads=False).aggregate(aggregations)


def _replaced(column: pa.Array, rows: np.ndarray, values: pa.Array) -> pa.Array:
    """The column with other values in some rows."""
    places = np.arange(len(column))
    places[rows] = len(column) + np.arange(len(rows))
    if not pa.types.is_string(column.type):
        return pa.concat_arrays([column, values]).take(pa.array(places))
    encoded = pa.chunked_array([column, values]).dictionary_encode().combine_chunks()  # few names, many rows
    return encoded.dictionary.take(encoded.indices.take(pa.array(places)))


def _shared(hashes: np.ndarray) -> np.ndarray:
    """The rows whose hash another row has too."""
    order = np.argsort(hashes)
    equal = np.diff(hashes[order]) == 0
    shared = np.zeros(len(hashes), bool)
    shared[1:] |= equal
    shared[:-1] |= equal
    return np.sort(order[shared])


def _is_in(values: np.ndarray, sorted_values: np.ndarray) -> np.ndarray:
    if not len(sorted_values):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(sorted_values, values), len(sorted_values) - 1)
    return sorted_values[places] == values
