"""Exact deduplication of one bucket, and taking from training what is held out.

Equal records have equal hashes and so are in one bucket, wherever they are from; a bucket is finished without the
others. Which of them is kept does not depend on the order in which files are read.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax.corpus.statistics import KEPT, Report


def deduplicate(table: pa.Table, keys: list[str], hashes: list[str], held_out: np.ndarray, report: Report) -> pa.Table:
    """The distinct records of a bucket, without those for training that have a held-out text.

    `keys` are the columns that make a record, of which `hash` is the hash; `hashes` are the columns with a hash of each
    of its texts, whatever their language; `held_out` has the hashes of all held-out texts, sorted. A record that is
    found for training and for validation is for validation. Of the sources of a record the first by name is kept.

    >>> table = pa.table({"lang": ["deu_Latn"] * 3, "text": ["Ja", "Ja", "Na"], "source": ["web", "books", "web"],
    ...                   "hash": pa.array([1, 1, 2], pa.uint64()), "validation": [False, True, False]})
    >>> deduplicate(table, ["lang", "text"], ["hash"], np.array([1], np.uint64), Report()).to_pylist()
    [{'lang': 'deu_Latn', 'text': 'Ja', 'source': 'books', 'hash': 1, 'validation': True},
     {'lang': 'deu_Latn', 'text': 'Na', 'source': 'web', 'hash': 2, 'validation': False}]
    """
    table = distinct(table, keys, report)
    leaked = np.zeros(len(table), bool)
    for name in hashes:
        leaked |= _is_in(table[name].to_numpy(), held_out)
    leaked &= ~table["validation"].to_numpy()
    report.count(_stage(keys), "held_out_text", leaked.sum())
    report.count(_stage(keys), KEPT, len(table) - leaked.sum())
    return table.filter(pa.array(~leaked)) if leaked.any() else table


def distinct(table: pa.Table, keys: list[str], report: Report) -> pa.Table:
    """One of each record of a table, with the first source of all that are equal, and held out if one of them is.

    Texts are compared only where hashes are equal: grouping all by their texts would cost more than all the rest.
    """
    table = table.combine_chunks()
    rows = _shared(table["hash"].to_numpy())
    if not len(rows):
        return table
    source = table["source"].combine_chunks().dictionary_encode()
    source, names = source.indices.to_numpy(zero_copy_only=False).copy(), source.dictionary
    validation = table["validation"].to_numpy().copy()
    texts = table.select(keys).take(pa.array(rows))
    first = _first_of_equal(texts, rows, names.take(pa.array(source[rows])), validation[rows])
    kept = np.ones(len(table), bool)
    kept[rows] = False
    kept[first["row"]] = True
    source[first["row"]] = pc.index_in(first["source"], names).to_numpy(zero_copy_only=False)
    validation[first["row"]] = first["validation"]
    report.count(_stage(keys), "duplicate", len(kept) - kept.sum())
    for name, column in (("source", names.take(pa.array(source))), ("validation", pa.array(validation))):
        table = table.set_column(table.column_names.index(name), name, column)
    return table.filter(pa.array(kept))


def _stage(keys: list[str]) -> str:
    return "deduplicate_" + ("pairs" if "src_text" in keys else "documents")


def _first_of_equal(texts: pa.Table, rows: np.ndarray, source: pa.Array, validation: np.ndarray) -> dict:
    """For each distinct record of some rows the first row that has it, and source and split of all that do."""
    table = texts.append_column("row", pa.array(rows)).append_column("source", source)
    table = table.append_column("validation", pa.array(validation))
    aggregations = [("row", "min"), ("source", "min"), ("validation", "any")]
    found = table.group_by(texts.column_names, use_threads=False).aggregate(aggregations)
    return dict(
        row=found["row_min"].to_numpy(),
        source=found["source_min"].combine_chunks(),
        validation=found["validation_any"].to_numpy(),
    )


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
