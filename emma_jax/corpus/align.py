"""Records from what readers yield: documents of a language and pairs of two, each with the message it belongs to.

Documents: `text, lang, message`. Pairs: `src_text, tgt_text, src_lang, tgt_lang, message` in canonical order, src_lang
before tgt_lang. Directions are a matter of rendering, not of storage.
"""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import languages
from emma_jax.corpus import source as source_lib


def with_messages(sentences: pa.Table) -> pa.Table:
    """SENTENCES with the column `message`: the English text of the same message id, else that of the first language.

    The column `english` has the English text only, "" where there is none. Where a language has a message more than
    once, its first row counts, as it does for pairs.

    >>> sentences = pa.table({"message_id": ["1", "1", "1", "2", "2"], "text": ["Sichern", "Save", "Store", "b", "a"],
    ...                       "lang": ["deu_Latn", "eng_Latn", "eng_Latn", "fra_Latn", "deu_Latn"]})
    >>> with_messages(sentences).select(["message", "english"]).to_pydict()
    {'message': ['Save', 'Save', 'Save', 'a', 'a'], 'english': ['Save', 'Save', 'Save', '', '']}
    """
    lang, ids = sentences["lang"].to_pylist(), _encode(sentences["message_id"])
    order = sorted(range(len(lang)), key=lambda row: (lang[row] != languages.ENGLISH, lang[row], row))
    messages = sentences.take(pa.array(_rows_by_id(ids, np.array(order, np.int64))[ids]))
    english = pc.if_else(pc.equal(messages["lang"], languages.ENGLISH), messages["text"], "")
    return sentences.append_column("message", messages["text"]).append_column("english", english)


def pairs_of_sentences(
    sentences: pa.Table, pairs: Iterable[tuple[str, str]], max_rows: int = source_lib.MAX_BATCH_ROWS
) -> Iterator[pa.Table]:
    """Every sentence with its English message, and the given pairs of other languages, aligned by message id.

    They come in tables of at most `max_rows`: all pairs of many languages can be a hundred times their sentences.

    >>> sentences = pa.table({"message_id": ["1", "1", "1"], "lang": ["eng_Latn", "deu_Latn", "fra_Latn"],
    ...                       "text": ["Save", "Sichern", "Enregistrer"], "message": ["Save"] * 3})
    >>> for table in pairs_of_sentences(sentences, [("deu_Latn", "fra_Latn")], max_rows=2):
    ...     print(table.select(["src_text", "tgt_text"]).to_pylist())
    [{'src_text': 'Sichern', 'tgt_text': 'Save'}, {'src_text': 'Save', 'tgt_text': 'Enregistrer'}]
    [{'src_text': 'Sichern', 'tgt_text': 'Enregistrer'}]
    """
    taken = sentences.select(["text", "lang", "message"]).combine_chunks()  # else each piece would do it anew
    for piece in _pieces(_aligned_rows(sentences, pairs), max_rows):
        src, tgt = (taken.take(pa.array(rows)) for rows in piece)
        columns = dict(src_text=src["text"], tgt_text=tgt["text"], src_lang=src["lang"], tgt_lang=tgt["lang"])
        yield canonical(pa.table(columns | dict(message=src["message"])))


def canonical(pairs: pa.Table) -> pa.Table:
    """Pairs with their sides swapped where src_lang comes after tgt_lang.

    >>> canonical(pa.table({"src_text": ["b"], "tgt_text": ["a"], "src_lang": ["deu_Latn"], "tgt_lang": ["ces_Latn"]}))[
    ...     "src_text"].to_pylist()
    ['a']
    """
    swapped = pc.greater(pairs["src_lang"], pairs["tgt_lang"])
    number = pc.sum(swapped).as_py() or 0
    if number in (0, len(pairs)):  # as in a folder of one pair
        other = dict(src="tgt", tgt="src") if number else {}
        return pairs.rename_columns(
            [name.replace(name[:3], other.get(name[:3], name[:3]), 1) for name in pairs.column_names]
        ).select(pairs.column_names)
    sides = {
        f"{side}_{name}": pc.if_else(swapped, pairs[f"{other}_{name}"], pairs[f"{side}_{name}"])
        for side, other in (("src", "tgt"), ("tgt", "src"))
        for name in ("text", "lang")
    }
    return pa.table({name: sides.get(name, pairs[name]) for name in pairs.column_names})


def _encode(column: pa.ChunkedArray) -> np.ndarray:
    """Each distinct value as a number from 0."""
    return column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)


def _aligned_rows(sentences: pa.Table, pairs: Iterable[tuple[str, str]]) -> Iterator[np.ndarray]:
    """For English, then for each pair: the rows of both sides, as an array of two rows."""
    lang, ids = sentences["lang"].to_numpy(), _encode(sentences["message_id"])
    rows_of = {code: np.flatnonzero(lang == code) for code in pc.unique(sentences["lang"]).to_pylist()}
    by_id = functools.cache(lambda code: _rows_by_id(ids, rows_of.get(code, np.empty(0, np.int64))))
    other = np.flatnonzero((lang != languages.ENGLISH) & (by_id(languages.ENGLISH)[ids] >= 0))
    yield np.stack([by_id(languages.ENGLISH)[ids[other]], other])
    for src, tgt in pairs:
        if src in rows_of and tgt in rows_of:
            rows = rows_of[tgt]
            rows = rows[(by_id(tgt)[ids[rows]] == rows) & (by_id(src)[ids[rows]] >= 0)]
            yield np.stack([by_id(src)[ids[rows]], rows])


def _pieces(arrays: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The columns of the arrays, of which each has two rows, in arrays of `length` columns; the last may have fewer.

    >>> [piece.tolist() for piece in _pieces([np.zeros((2, 1), int), np.ones((2, 4), int)], 3)]
    [[[0, 1, 1], [0, 1, 1]], [[1, 1], [1, 1]]]
    """
    held, num_held = [], 0
    for array in arrays:
        held.append(array)
        num_held += array.shape[1]
        if num_held >= length:
            joined = np.concatenate(held, axis=1)
            num_whole = num_held - num_held % length
            yield from np.split(joined[:, :num_whole], range(length, num_whole, length), axis=1)
            held, num_held = [joined[:, num_whole:]], num_held % length
    if num_held:
        yield np.concatenate(held, axis=1)


def _rows_by_id(ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each id the first of the rows that has it, or -1."""
    result = np.full(ids.max(initial=-1) + 1, -1)
    result[ids[rows[::-1]]] = rows[::-1]  # of equal ids the last one written stays
    return result
