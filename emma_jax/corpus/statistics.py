"""What was kept and what was dropped, by stage and reason: collected in each worker, added up at the end.

Owns the counting, the examples, and the text of the summary; the decisions are of the stages.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import manifest as manifest_lib

READ, CODES, CLEAN, DEDUPLICATE = "read", "codes", "clean", "deduplicate"
KEPT = "kept"
NUM_EXAMPLES = 10  # of what each filter dropped
MAX_EXAMPLE_CHARACTERS = 200
MAX_REFUSED_CODES = 1000  # named of one source, by one piece of work and in the manifest
MANY_CODES = ("others", "one of many refused codes")  # what all others go by, and their reason


EXAMPLE_COLUMNS = ("text", "lang", "src_text", "tgt_text", "src_lang", "tgt_lang")
COUNTED, CODE_LISTS = ("counts", "names", "source_records"), ("mapped_codes", "refused_codes")  # fields of a report


def _counters() -> dict[str, collections.Counter]:
    return collections.defaultdict(collections.Counter)


class SourceRecords(NamedTuple):
    """Records of a source: those that were read or aligned, dropped by codes or cleaning, and left in the corpus.

    Of equal records one is left, and counted for the first of its sources by name.
    """

    read: int
    dropped: int
    left: int

    @property
    def elsewhere(self) -> int:
        """Those that are the same as others, or have a text that is held out."""
        return self.read - self.dropped - self.left


@dataclasses.dataclass
class Report:
    """Counts of one piece of work, and what has to be named: codes that were mapped or refused, files that are bad.

    `counts` is stage -> reason -> records, `names` stage -> language, pair or collection -> records that were kept,
    `mapped_codes` (source, spelling, code, doubts) -> records, `refused_codes` (spelling, source, reason) -> records,
    `examples` "stage/reason" -> some of the records that were dropped, each a list of texts and codes, `source_records`
    source -> "read" or "kept" -> records, with the pairs that were aligned.
    """

    counts: dict[str, collections.Counter] = dataclasses.field(default_factory=_counters)
    names: dict[str, collections.Counter] = dataclasses.field(default_factory=_counters)
    mapped_codes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    refused_codes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bad_files: dict[str, str] = dataclasses.field(default_factory=dict)
    examples: dict[str, list[list[str]]] = dataclasses.field(default_factory=dict)
    source_records: dict[str, collections.Counter] = dataclasses.field(default_factory=_counters)

    def count(self, stage: str, reason: str, records: int) -> None:
        """Adds records that a stage kept or dropped for a reason."""
        if records:
            self.counts[stage][reason] += int(records)

    def drop(self, stage: str, reason: str, table: pa.Table, rows: np.ndarray) -> None:
        """Adds the records of a table that a stage drops, given as a mask or as numbers of rows, with examples.

        >>> report = Report()
        >>> report.drop("clean_pairs", "identical_sides", pa.table({"src_text": ["a"], "tgt_text": ["a"]}), [True])
        >>> report.counts["clean_pairs"]["identical_sides"], report.examples
        (1, {'clean_pairs/identical_sides': [['a', 'a']]})
        """
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        self.count(stage, reason, len(rows))
        # A fixed number is looked at: which of all are shown then depends on the records alone, not on their order,
        # as long as each part of a source is read in one order, in the same batches.
        shown = table.select([name for name in EXAMPLE_COLUMNS if name in table.column_names]).take(rows[:NUM_EXAMPLES])
        columns = [pc.utf8_slice_codeunits(column, 0, MAX_EXAMPLE_CHARACTERS).to_pylist() for column in shown.columns]
        self._show(f"{stage}/{reason}", [list(example) for example in zip(*columns, strict=True)])

    def keep(self, stage: str, names: pa.ChunkedArray) -> None:
        """Adds one record for each name of a language, pair or collection that a stage lets pass."""
        for item in pc.value_counts(names).to_pylist():
            self.names[stage][item["values"]] += item["counts"]

    def count_source(self, source: str, stage: str, records: int) -> None:
        """Adds records of a source that were READ or KEPT; of a source that has none, zero is to be added."""
        self.source_records[source][stage] += records

    def map(self, source: str, spelling: str, code: str, doubts: str, records: int) -> None:
        """Adds records whose language a source spells so, and which is this code; `doubts` says why it may not be."""
        self.mapped_codes[source, spelling, code, doubts] += records

    def refuse(self, code: str, source: str, reason: str, records: int) -> None:
        """Adds records whose language code was refused; where text stands for codes, not every one of them is named."""
        key = (code, source, reason)
        if key not in self.refused_codes and len(self.refused_codes) >= MAX_REFUSED_CODES:
            key = (MANY_CODES[0], source, MANY_CODES[1])
        self.refused_codes[key] += records

    def _show(self, key: str, examples: Iterable[list[str]]) -> None:
        found = {tuple(example): None for example in (*self.examples.get(key, ()), *examples)}
        self.examples[key] = [list(example) for example in sorted(found, key=_order)[:NUM_EXAMPLES]]
        if not self.examples[key]:
            del self.examples[key]

    def add(self, other: "Report") -> None:
        """Adds another report to this one.

        >>> report = Report()
        >>> report.count("clean", "too_long", 2)
        >>> report.add(report)
        >>> report.counts["clean"]["too_long"]
        4
        """
        for name in COUNTED:
            for key, counts in getattr(other, name).items():
                getattr(self, name)[key].update(counts)
        self.mapped_codes.update(other.mapped_codes)
        self.refused_codes.update(other.refused_codes)
        self.bad_files.update(other.bad_files)
        for key, examples in other.examples.items():
            self._show(key, examples)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON has it, which `of_json` reads.

        >>> report = Report()
        >>> report.refuse("qq", "web", "not a language code", 2)
        >>> Report.of_json(report.as_json()) == report
        True
        """
        counted = {name: {key: dict(counts) for key, counts in getattr(self, name).items()} for name in COUNTED}
        codes = {name: [[*key, records] for key, records in getattr(self, name).items()] for name in CODE_LISTS}
        return counted | codes | dict(bad_files=dict(self.bad_files), examples=dict(self.examples))

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Report":
        """The report that `as_json` gave."""
        report = cls(bad_files=dict(content["bad_files"]), examples=dict(content["examples"]))
        for name in COUNTED:
            for key, counts in content[name].items():
                getattr(report, name)[key].update(counts)
        for name in CODE_LISTS:
            for *key, records in content[name]:
                getattr(report, name)[tuple(key)] += records
        return report

    def for_manifest(self) -> dict[str, object]:
        """The manifest's fields of what was counted, in an order of their own.

        Of each source only the refused codes of the most records are named, whatever pieces of work they are from.
        """
        counts = {stage: dict(sorted(reasons.items())) for stage, reasons in sorted(self.counts.items())}
        if self.bad_files:
            counts[READ] = dict(sorted((counts.get(READ, {}) | dict(bad_file=len(self.bad_files))).items()))
        return dict(
            counts=counts,
            records={stage: dict(sorted(names.items())) for stage, names in sorted(self.names.items())},
            mapped_codes=tuple(
                dict(source=source, spelling=spelling, code=code, doubts=doubts, records=records)
                for (source, spelling, code, doubts), records in sorted(self.mapped_codes.items())
            ),
            refused_codes=tuple(
                dict(code=code, source=source, reason=reason, records=records)
                for (code, source, reason), records in sorted(_most(self.refused_codes).items())
            ),
            bad_files=tuple(dict(file=file, reason=reason) for file, reason in sorted(self.bad_files.items())),
            examples={key: self.examples[key] for key in sorted(self.examples)},
            source_records={
                source: dict(sorted(stages.items())) for source, stages in sorted(self.source_records.items())
            },
        )


def _most(refused: Mapping[tuple[str, str, str], int]) -> collections.Counter:
    """The refused codes of the most records of each source, by name where these are equal; the others as one.

    >>> found = {(f"q{n % 7}{n}", "web", "not a language code"): 1 + n % 7 for n in range(MAX_REFUSED_CODES + 3)}
    >>> most = _most(found)
    >>> len(most), most["others", "web", "one of many refused codes"], sum(most.values()) == sum(found.values())
    (1001, 3, True)
    """
    result: collections.Counter = collections.Counter()
    named: collections.Counter = collections.Counter()
    for (code, source, reason), records in sorted(refused.items(), key=lambda item: (-item[1], item[0])):
        is_named = (code, reason) != MANY_CODES and named[source] < MAX_REFUSED_CODES
        named[source] += is_named
        result[(code, source, reason) if is_named else (MANY_CODES[0], source, MANY_CODES[1])] += records
    return result


def _order(example: tuple[str, ...]) -> bytes:
    """What examples are chosen by: as good as random, and the same on every machine."""
    return hashlib.blake2b("\0".join(example).encode(), digest_size=8).digest()


def summary(manifest: manifest_lib.Manifest) -> Iterable[str]:
    """Lines that say what the corpus holds, what was dropped and why, and which files and codes were no good."""
    kinds = dict(language=manifest.languages, pair=manifest.pairs, collection=manifest.collections)
    for kind, entries in kinds.items():
        if entries:
            totals = ((split, _total(entries, split)) for split in manifest_lib.SPLITS)
            sizes = (f"{plural(s.rows, 'row')} and {plural(s.tokens, 'token')} for {split}" for split, s in totals)
            yield f"{plural(len(entries), kind)}: {', '.join(sizes)}"
    for stage, reasons in manifest.counts.items():
        kept_first = sorted(reasons.items(), key=lambda item: item[0] != KEPT)
        yield f"{stage}: " + ", ".join(f"{records:,} {reason}" for reason, records in kept_first)
    for reason in sorted({refused["reason"] for refused in manifest.refused_codes}):
        refused = (code for code in manifest.refused_codes if code["reason"] == reason)
        codes = (f"{code['code']} of {code['source']} ({plural(code['records'], 'record')})" for code in refused)
        yield f"refused as {reason}: {', '.join(codes)}"
    for bad in manifest.bad_files:
        yield f"bad file {bad['file']}: {bad['reason']}"
    yield f"{plural(len(manifest.bad_files), 'bad file')}, {plural(len(manifest.refused_codes), 'refused code')}"
    for source, records in of_sources(manifest).items():
        if not records.left:
            yield f"warning: {_nothing_left(source, records)}"


def of_sources(manifest: manifest_lib.Manifest) -> dict[str, SourceRecords]:
    """Source -> its records, for each source whose records the manifest counts."""
    rows: collections.Counter = collections.Counter()
    for entry in manifest.tasks.values():
        rows.update(entry.sources)
    return {
        source: SourceRecords(records[READ], records[READ] - records[KEPT], rows[source])
        for source, records in sorted(manifest.source_records.items())
    }


def _nothing_left(source: str, records: SourceRecords) -> str:
    """What became of a source of which nothing is left.

    >>> _nothing_left("web", SourceRecords(12, 12, 0))
    "nothing is left of the source 'web': 12 read, 12 dropped"
    >>> _nothing_left("web", SourceRecords(12, 2, 0))
    "nothing is left of the source 'web': 12 read, 2 dropped, 10 found in other sources or held out of training"
    """
    if not records.read:
        return f"nothing was read of the source {source!r}"
    clean = records.read - records.dropped
    found = f", {clean:,} found in other sources or held out of training" if clean else ""
    return f"nothing is left of the source {source!r}: {records.read:,} read, {records.dropped:,} dropped{found}"


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "language"), plural(2507, "language pair")
    ('1 language', '2,507 language pairs')
    """
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def _total(entries: Mapping[str, manifest_lib.Entry], split: str) -> manifest_lib.Split:
    found = [entry.splits[split] for entry in entries.values() if split in entry.splits]
    return manifest_lib.Split((), sum(s.rows for s in found), sum(s.tokens for s in found), sum(s.bytes for s in found))
