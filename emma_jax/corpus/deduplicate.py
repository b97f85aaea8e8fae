"""Exact deduplication of one bucket, and taking from training what is held out.

Equal records are in one bucket, wherever they are from, so a bucket is finished without the others. Which of them is
kept does not depend on the order in which files are read.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax.corpus.statistics import KEPT, Report


def deduplicate(table: pa.Table, keys: list[str], hashes: list[str], held_out: np.ndarray, report: Report) -> pa.Table:
    """The distinct records of a bucket, without those for training that have a held-out text.

    `keys` are the columns that make a record, `hashes` those with a hash of each of its texts (`split.text_hashes`);
    `held_out` has the hashes of all held-out texts, sorted. A record that is found for training and for validation
    is for validation. Of the sources of a record the first by name is kept.

    >>> table = pa.table({"lang": ["deu_Latn"] * 3, "text": ["Ja", "Ja", "Na"], "source": ["web", "books", "web"],
    ...                   "hash": pa.array([1, 1, 2], pa.uint64()), "validation": [False, True, False]})
    >>> deduplicate(table, ["lang", "text"], ["hash"], np.array([1], np.uint64), Report()).sort_by("text").to_pylist()
    [{'lang': 'deu_Latn', 'text': 'Ja', 'hash': 1, 'source': 'books', 'validation': True},
     {'lang': 'deu_Latn', 'text': 'Na', 'hash': 2, 'source': 'web', 'validation': False}]
    """
    stage = "deduplicate_" + ("pairs" if "src_text" in keys else "documents")
    aggregations = [*((name, "min") for name in hashes), ("source", "min"), ("validation", "any")]
    distinct = table.group_by(keys).aggregate(aggregations)
    distinct = distinct.rename_columns([*keys, *hashes, "source", "validation"])
    report.count(stage, "duplicate", len(table) - len(distinct))

    leaked = np.zeros(len(distinct), bool)
    for name in hashes:
        leaked |= _is_in(distinct[name].to_numpy(), held_out)
    kept = distinct.filter(pc.or_(distinct["validation"], pa.chunked_array([~leaked])))
    report.count(stage, "held_out_text", len(distinct) - len(kept))
    report.count(stage, KEPT, len(kept))
    return kept


def _is_in(values: np.ndarray, sorted_values: np.ndarray) -> np.ndarray:
    if not len(sorted_values):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(sorted_values, values), len(sorted_values) - 1)
    return sorted_values[places] == values
