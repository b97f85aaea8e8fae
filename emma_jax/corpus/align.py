"""Records from what readers yield: documents of a language and pairs of two, each with the message it belongs to.

Documents: `text, lang, message`. Pairs: `src_text, tgt_text, src_lang, tgt_lang, message` in canonical order, src_lang
before tgt_lang. Directions are a matter of rendering, not of storage.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import languages


def with_messages(sentences: pa.Table) -> pa.Table:
    """SENTENCES with the column `message`: the English text of the same message id, else that of the first language.

    The column `english` has the English text only, "" where there is none.

    >>> sentences = pa.table({"message_id": ["1", "1", "2"], "lang": ["deu_Latn", "eng_Latn", "deu_Latn"],
    ...                       "text": ["Sichern", "Save", "Laden"]})
    >>> with_messages(sentences)["message"].to_pylist()
    ['Save', 'Save', 'Laden']
    """
    lang, ids = sentences["lang"].to_pylist(), _encode(sentences["message_id"])
    order = sorted(range(len(lang)), key=lambda row: (lang[row] != languages.ENGLISH, lang[row]), reverse=True)
    anchors = np.empty(len(lang), np.int64)
    anchors[ids[order]] = order  # of rows with one id, the last one written stays: English, else the first language
    messages = sentences.take(pa.array(anchors[ids]))
    english = pc.if_else(pc.equal(messages["lang"], languages.ENGLISH), messages["text"], "")
    return sentences.append_column("message", messages["text"]).append_column("english", english)


def pairs_of_sentences(sentences: pa.Table, pairs: Iterable[tuple[str, str]]) -> pa.Table:
    """Every sentence with its English message, and the given pairs of other languages, aligned by message id.

    >>> sentences = pa.table({"message_id": ["1", "1", "1"], "lang": ["eng_Latn", "deu_Latn", "fra_Latn"],
    ...                       "text": ["Save", "Sichern", "Enregistrer"], "message": ["Save"] * 3})
    >>> pairs_of_sentences(sentences, [("deu_Latn", "fra_Latn")]).select(["src_text", "tgt_text"]).to_pylist()
    [{'src_text': 'Sichern', 'tgt_text': 'Save'}, {'src_text': 'Save', 'tgt_text': 'Enregistrer'},
     {'src_text': 'Sichern', 'tgt_text': 'Enregistrer'}]
    """
    lang, ids = sentences["lang"].to_numpy(), _encode(sentences["message_id"])
    rows_of = {code: np.flatnonzero(lang == code) for code in pc.unique(sentences["lang"]).to_pylist()}
    english = _rows_by_id(ids, rows_of.get(languages.ENGLISH, np.empty(0, np.int64)))
    other = np.flatnonzero((lang != languages.ENGLISH) & (english[ids] >= 0))
    joined = [(english[ids[other]], other)]
    for src, tgt in pairs:
        if src in rows_of and tgt in rows_of:
            by_id = _rows_by_id(ids, rows_of[src])
            rows = np.unique(_rows_by_id(ids, rows_of[tgt]))
            rows = rows[(rows >= 0) & (by_id[ids[rows]] >= 0)]
            joined.append((by_id[ids[rows]], rows))
    src, tgt = (sentences.take(pa.array(np.concatenate(side))) for side in zip(*joined, strict=True))
    return canonical(
        pa.table(
            dict(src_text=src["text"], tgt_text=tgt["text"], src_lang=src["lang"], tgt_lang=tgt["lang"])
            | dict(message=src["message"])
        )
    )


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


def _rows_by_id(ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each id the first of the rows that has it, or -1."""
    result = np.full(ids.max(initial=-1) + 1, -1)
    result[ids[rows[::-1]]] = rows[::-1]  # of equal ids the last one written stays
    return result
