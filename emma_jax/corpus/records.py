"""From what a reader yields to clean records: the order of normalising, aligning and filtering for each schema.

Documents have `text, lang, message`, pairs `src_text, tgt_text, src_lang, tgt_lang, message` in canonical order.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from emma_jax.corpus import align, clean, source
from emma_jax.corpus.statistics import Report


def from_batches(
    batches: Iterable[pa.RecordBatch], pairs: Iterable[tuple[str, str]], thresholds: clean.Thresholds, report: Report
) -> Iterator[tuple[str, pa.Table]]:
    """Kind ("documents" or "pairs") and table of the records in the batches of one part.

    Sentences are aligned when all of them are there; pairs and documents pass batch by batch.
    """
    sentences = [source.SENTENCES.empty_table()]
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if batch.schema.equals(source.SENTENCES):
            sentences.append(table)
        elif batch.schema.equals(source.PAIRS):
            yield "pairs", _pairs(table, thresholds, report)
        else:
            assert batch.schema.equals(source.DOCUMENTS), batch.schema
            yield "documents", _documents(table, thresholds, report)
    table = pa.concat_tables(sentences)
    if len(table):
        yield from _sentences(table, pairs, thresholds, report)


def _sentences(
    table: pa.Table, pairs: Iterable[tuple[str, str]], thresholds: clean.Thresholds, report: Report
) -> Iterator[tuple[str, pa.Table]]:
    table = _normalise(table, "text")
    # Before anything is dropped: a message must not move to the other split when a filter changes.
    table = align.with_messages(table)
    table = _where(table, clean.texts_kept(table, thresholds, report))
    yield "documents", table.drop_columns("message_id")
    aligned = align.pairs_of_sentences(table, pairs)
    yield "pairs", _where(aligned, clean.pairs_kept(aligned, thresholds, report))


def _pairs(table: pa.Table, thresholds: clean.Thresholds, report: Report) -> pa.Table:
    for side in ("src", "tgt"):
        table = _normalise(table, f"{side}_text")
        texts = pa.table(dict(text=table[f"{side}_text"], lang=table[f"{side}_lang"]))
        table = _where(table, clean.texts_kept(texts, thresholds, report))
    table = align.canonical(_where(table, clean.pairs_kept(table, thresholds, report)))
    return table.append_column("message", align.pair_messages(table))


def _documents(table: pa.Table, thresholds: clean.Thresholds, report: Report) -> pa.Table:
    table = _normalise(table, "text", keep_lines=True)
    table = _where(table, clean.texts_kept(table, thresholds, report))
    return table.append_column("message", table["text"])


def _normalise(table: pa.Table, name: str, keep_lines: bool = False) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, clean.normalise(table[name], keep_lines))


def _where(table: pa.Table, rows) -> pa.Table:
    return table.filter(pa.array(rows))
