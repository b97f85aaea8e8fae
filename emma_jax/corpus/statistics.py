"""What was kept and what was dropped, by stage and reason: collected in each worker, added up at the end.

Owns the counting, the examples, and the text of the summary; the decisions are of the stages.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import manifest as manifest_lib

READ, CODES, CLEAN, DEDUPLICATE = "read", "codes", "clean", "deduplicate"
KEPT = "kept"
NUM_EXAMPLES = 10  # of what each filter dropped
MAX_EXAMPLE_CHARACTERS = 200
MAX_REFUSED_CODES = 1000  # named by one piece of work


def _counters() -> dict[str, collections.Counter]:
    return collections.defaultdict(collections.Counter)


EXAMPLE_COLUMNS = ("text", "lang", "src_text", "tgt_text", "src_lang", "tgt_lang")


@dataclasses.dataclass
class Report:
    """Counts of one piece of work, and what has to be named: codes that were mapped or refused, files that are bad.

    `counts` is stage -> reason -> records, `names` stage -> language, pair or collection -> records that were kept,
    `mapped_codes` (source, spelling, code, doubts) -> records, `refused_codes` (spelling, source, reason) -> records,
    `examples` "stage/reason" -> some of the records that were dropped, each a list of texts and codes.
    """

    counts: dict[str, collections.Counter] = dataclasses.field(default_factory=_counters)
    names: dict[str, collections.Counter] = dataclasses.field(default_factory=_counters)
    mapped_codes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    refused_codes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bad_files: dict[str, str] = dataclasses.field(default_factory=dict)
    examples: dict[str, list[list[str]]] = dataclasses.field(default_factory=dict)

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
        # as long as each part of a source is read in one order.
        shown = table.select([name for name in EXAMPLE_COLUMNS if name in table.column_names]).take(rows[:NUM_EXAMPLES])
        columns = [pc.utf8_slice_codeunits(column, 0, MAX_EXAMPLE_CHARACTERS).to_pylist() for column in shown.columns]
        self._show(f"{stage}/{reason}", [list(example) for example in zip(*columns, strict=True)])

    def keep(self, stage: str, names: pa.ChunkedArray | Iterable[str]) -> None:
        """Adds one record for each name of a language, pair or collection that a stage lets pass."""
        if isinstance(names, pa.Array | pa.ChunkedArray):
            for item in pc.value_counts(names).to_pylist():
                self.names[stage][item["values"]] += item["counts"]
        else:
            self.names[stage].update(names)

    def map(self, source: str, spelling: str, code: str, doubts: str, records: int) -> None:
        """Adds records whose language a source spells so, and which is this code; `doubts` says why it may not be."""
        self.mapped_codes[source, spelling, code, doubts] += records

    def refuse(self, code: str, source: str, reason: str, records: int) -> None:
        """Adds records whose language code was refused; where text stands for codes, not every one of them is named."""
        key = (code, source, reason)
        if key not in self.refused_codes and len(self.refused_codes) >= MAX_REFUSED_CODES:
            key = ("others", source, "one of many refused codes")
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
        for own, others in ((self.counts, other.counts), (self.names, other.names)):
            for stage, reasons in others.items():
                own[stage].update(reasons)
        self.mapped_codes.update(other.mapped_codes)
        self.refused_codes.update(other.refused_codes)
        self.bad_files.update(other.bad_files)
        for key, examples in other.examples.items():
            self._show(key, examples)

    def to_json(self) -> str:
        """The report as text that `from_json` reads."""
        codes = {
            name: [[*key, records] for key, records in getattr(self, name).items()]
            for name in ("mapped_codes", "refused_codes")
        }
        plain = {name: getattr(self, name) for name in ("counts", "names", "bad_files", "examples")}
        return json.dumps(plain | codes)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote."""
        content = json.loads(text)
        report = cls(bad_files=content["bad_files"], examples=content["examples"])
        for name in ("counts", "names"):
            for stage, reasons in content[name].items():
                getattr(report, name)[stage].update(reasons)
        for name in ("mapped_codes", "refused_codes"):
            for *key, records in content[name]:
                getattr(report, name)[tuple(key)] += records
        return report

    def for_manifest(self) -> dict[str, object]:
        """The manifest's fields of what was counted, in an order of their own."""
        return dict(
            counts={stage: dict(sorted(reasons.items())) for stage, reasons in sorted(self.counts.items())},
            records={stage: dict(sorted(names.items())) for stage, names in sorted(self.names.items())},
            mapped_codes=tuple(
                dict(source=source, spelling=spelling, code=code, doubts=doubts, records=records)
                for (source, spelling, code, doubts), records in sorted(self.mapped_codes.items())
            ),
            refused_codes=tuple(
                dict(code=code, source=source, reason=reason, records=records)
                for (code, source, reason), records in sorted(self.refused_codes.items())
            ),
            bad_files=tuple(dict(file=file, reason=reason) for file, reason in sorted(self.bad_files.items())),
            examples={key: self.examples[key] for key in sorted(self.examples)},
        )


def _order(example: tuple[str, ...]) -> bytes:
    """What examples are chosen by: as good as random, and the same on every machine."""
    return hashlib.blake2b("\0".join(example).encode(), digest_size=8).digest()


def summary(manifest: manifest_lib.Manifest) -> Iterable[str]:
    """Lines that say what the corpus holds, what was dropped and why, and which files and codes were no good."""
    kinds = dict(languages=manifest.languages, pairs=manifest.pairs, collections=manifest.collections)
    for kind, entries in kinds.items():
        if not entries:
            continue
        splits = [_total(entries, split) for split in manifest_lib.SPLITS]
        parts = (
            f"{s.rows:,} rows and {s.tokens:,} tokens for {n}" for n, s in zip(manifest_lib.SPLITS, splits, strict=True)
        )
        yield f"{len(entries)} {kind}: {', '.join(parts)}"
    for stage, reasons in manifest.counts.items():
        kept_first = sorted(reasons.items(), key=lambda item: item[0] != KEPT)
        yield f"{stage}: " + ", ".join(f"{records:,} {reason}" for reason, records in kept_first)
    for reason in sorted({refused["reason"] for refused in manifest.refused_codes}):
        refused = (code for code in manifest.refused_codes if code["reason"] == reason)
        codes = (f"{code['code']} of {code['source']} ({code['records']:,} records)" for code in refused)
        yield f"refused as {reason}: {', '.join(codes)}"
    for bad in manifest.bad_files:
        yield f"bad file {bad['file']}: {bad['reason']}"
    yield f"{len(manifest.bad_files)} bad files, {len(manifest.refused_codes)} refused codes"


def _total(entries: Mapping[str, manifest_lib.Entry], split: str) -> manifest_lib.Split:
    found = [entry.splits[split] for entry in entries.values() if split in entry.splits]
    return manifest_lib.Split((), sum(s.rows for s in found), sum(s.tokens for s in found), sum(s.bytes for s in found))
