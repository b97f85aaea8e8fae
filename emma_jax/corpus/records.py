"""From what a reader yields to clean records: the order of mapping codes, normalising, aligning and filtering.

Documents have `name, lang, text` and maybe `message`, where the name is the language's code or the collection; pairs
have `src_text, tgt_text, src_lang, tgt_lang` in canonical order and maybe `message`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax.corpus import align, clean, codes, filters, scripts
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import CLEAN, CODES, KEPT, READ, Report


@dataclasses.dataclass
class Cleaning:
    """Cleans what is read of one part; what is dropped is counted in the report."""

    part: source_lib.Part
    pairs: Iterable[tuple[str, str]]  # without English, to be aligned through the message id
    macrolanguages: str
    filters: Mapping[str, Mapping[str, float]]
    report: Report

    def tables(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
        """Kind ("documents" or "pairs") and table of the records in the batches.

        Sentences are aligned when all of them are there; pairs and documents pass batch by batch.
        """
        for kind, table in self._tables(batches):
            self.report.count_source(self.part.source.name, KEPT, len(table))
            yield kind, table

    def _tables(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
        for stage in (READ, KEPT):  # a source of which nothing is left is counted too
            self.report.count_source(self.part.source.name, stage, 0)
        sentences = [source_lib.SENTENCES.empty_table()]
        for batch in batches:
            table = pa.Table.from_batches([batch])
            self.report.count_source(self.part.source.name, READ, len(table))
            if batch.schema.equals(source_lib.SENTENCES):
                sentences.append(table)
            elif batch.schema.equals(source_lib.PAIRS):
                yield "pairs", self._pairs(table)
            else:
                assert batch.schema.equals(source_lib.DOCUMENTS), batch.schema
                yield "documents", self._collection(table) if self.part.collection else self._documents(table)
        table = pa.concat_tables(sentences)
        if len(table):
            yield from self._sentences(table)

    def _sentences(self, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        table = self._with_codes(self._normalised(table, "text", "sentence"), ("",))
        self._count_read(table["lang"])
        # Before anything is dropped: a message must not move to the other split when a filter changes.
        table = align.with_messages(table)
        texts = pa.table(dict(text=table["text"], lang=table["lang"], message=table["english"]))
        table = _where(table, filters.texts_kept(texts, self.filters["sentences"], self.report))
        self.report.keep(CLEAN, table["lang"])
        yield "documents", table.append_column("name", table["lang"]).drop_columns("message_id")
        for aligned in align.pairs_of_sentences(table, self.pairs):
            self.report.count_source(self.part.source.name, READ, len(aligned))
            self.report.keep(READ, _pair_names(aligned))
            yield "pairs", self._clean_pairs(aligned)

    def _pairs(self, table: pa.Table) -> pa.Table:
        for side in ("src", "tgt"):
            table = self._normalised(table, f"{side}_text", "sentence")
        table = self._with_codes(table, ("src_", "tgt_"))
        one_language = pc.equal(table["src_lang"], table["tgt_lang"]).to_numpy()
        self.report.drop(CODES, "one_language", table, one_language)
        table = align.canonical(_where(table, ~one_language))
        self._count_read(_pair_names(table))
        kept = np.ones(len(table), bool)
        for side in ("src", "tgt"):
            texts = _where(pa.table(dict(text=table[f"{side}_text"], lang=table[f"{side}_lang"])), kept)
            side_kept = filters.texts_kept(texts, self.filters["sentences"], self.report, filters.SIDES)
            kept[np.flatnonzero(kept)[~side_kept]] = False
        return self._clean_pairs(_where(table, kept))

    def _clean_pairs(self, table: pa.Table) -> pa.Table:
        table = _where(table, filters.pairs_kept(table, self.filters["pairs"], self.report))
        self.report.keep(CLEAN, _pair_names(table))
        return table

    def _documents(self, table: pa.Table) -> pa.Table:
        table = self._with_codes(self._normalised(table, "text", "document"), ("",))
        self._count_read(table["lang"])
        table = _where(table, filters.texts_kept(table, self.filters["documents"], self.report))
        self.report.keep(CLEAN, table["lang"])
        return table.append_column("name", table["lang"])

    def _collection(self, table: pa.Table) -> pa.Table:
        """Documents of a collection: as they are, but for what no text needs. Their language is only noted."""
        table = self._normalised(table, "text", "verbatim")
        lang = [self._code_or_nothing(spelling) for spelling in table["lang"].to_pylist()]
        table = table.set_column(table.column_names.index("lang"), "lang", pa.array(lang, pa.string()))
        table = table.append_column("name", pa.array([self.part.collection] * len(table), pa.string()))
        self.report.keep(READ, table["name"])
        table = _where(table, filters.texts_kept(table, self.filters["collections"], self.report))
        self.report.keep(CLEAN, table["name"])
        return table

    def _normalised(self, table: pa.Table, name: str, form: str) -> pa.Table:
        text = clean.normalise(table[name], form, self.report)
        return table.set_column(table.column_names.index(name), name, text)

    def _with_codes(self, table: pa.Table, sides: tuple[str, ...]) -> pa.Table:
        """The table with codes for the spellings of `lang`, without the records whose spelling is refused."""
        kept = np.ones(len(table), bool)
        mapped = {side: self._map_codes(table[f"{side}lang"]) for side in sides}
        for known, _ in mapped.values():
            kept &= known.is_valid().to_numpy(zero_copy_only=False)
        self.report.count(CODES, "refused_code", len(table) - kept.sum())
        table = _where(table, kept)
        for side, (known, given) in mapped.items():
            resolved = scripts.resolve(known.filter(pa.array(kept)), given[kept], table[f"{side}text"])
            table = table.set_column(table.column_names.index(f"{side}lang"), f"{side}lang", resolved)
        return table

    def _count_read(self, names: pa.ChunkedArray) -> None:
        self.report.count(CODES, KEPT, len(names))
        self.report.keep(READ, names)

    def _map_codes(self, spellings: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
        """The code of each spelling, null where it is refused, and whether the spelling names its script."""
        encoded = spellings.combine_chunks().dictionary_encode()
        indices = encoded.indices.to_numpy(zero_copy_only=False)
        counts = np.bincount(indices, minlength=len(encoded.dictionary)).tolist()
        known, given = [], []
        for spelling, records in zip(encoded.dictionary.to_pylist(), counts, strict=True):
            try:
                reading = codes.read(spelling, self.macrolanguages)
            except codes.RefusedCode as error:
                known.append(None)
                given.append(False)
                self.report.refuse(spelling[: codes.MAX_CHARACTERS], self.part.source.name, str(error), records)
                continue
            known.append(reading.code)
            given.append(reading.is_script_given)
            self.report.map(self.part.source.name, spelling, reading.code, reading.doubts, records)
        return pa.array(known, pa.string()).take(encoded.indices), np.array(given, bool)[indices]

    def _code_or_nothing(self, spelling: str) -> str:
        try:
            return codes.normalise(spelling, self.macrolanguages)
        except codes.RefusedCode:
            return ""


def _pair_names(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["src_lang"], table["tgt_lang"], "-")


def _where(table: pa.Table, rows: np.ndarray) -> pa.Table:
    return table if rows.all() else table.filter(pa.array(rows))
