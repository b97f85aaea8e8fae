"""What was kept and what was dropped, by stage and reason: collected in each worker, added up at the end.

Owns the counting and the text of the summary; the decisions are of the stages.
"""

import collections
import dataclasses
import json
from collections.abc import Iterable, Mapping

from emma_jax import manifest as manifest_lib

KEPT = "kept"


@dataclasses.dataclass
class Report:
    """Counts of one piece of work, and what has to be named: codes that were refused and files that are bad."""

    counts: dict[str, collections.Counter] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    refused_codes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bad_files: dict[str, str] = dataclasses.field(default_factory=dict)

    def count(self, stage: str, reason: str, records: int) -> None:
        """Adds records that a stage kept or dropped for a reason."""
        if records:
            self.counts[stage][reason] += int(records)

    def refuse(self, code: str, source: str, reason: str, records: int) -> None:
        """Adds records whose language code was refused."""
        self.refused_codes[code, source, reason] += records

    def add(self, other: "Report") -> None:
        """Adds another report to this one.

        >>> report = Report()
        >>> report.count("clean", "too_long", 2)
        >>> report.add(report)
        >>> report.counts["clean"]["too_long"]
        4
        """
        for stage, reasons in other.counts.items():
            self.counts[stage].update(reasons)
        self.refused_codes.update(other.refused_codes)
        self.bad_files.update(other.bad_files)

    def to_json(self) -> str:
        """The report as text that `from_json` reads."""
        refused = [[*key, records] for key, records in self.refused_codes.items()]
        return json.dumps({"counts": self.counts, "refused_codes": refused, "bad_files": self.bad_files})

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote."""
        content = json.loads(text)
        report = cls(bad_files=content["bad_files"])
        for stage, reasons in content["counts"].items():
            report.counts[stage].update(reasons)
        for *key, records in content["refused_codes"]:
            report.refused_codes[tuple(key)] += records
        return report

    def for_manifest(self) -> dict[str, object]:
        """The manifest's fields `counts`, `refused_codes` and `bad_files`, in an order of their own."""
        return dict(
            counts={stage: dict(sorted(reasons.items())) for stage, reasons in sorted(self.counts.items())},
            refused_codes=tuple(
                dict(code=code, source=source, reason=reason, records=records)
                for (code, source, reason), records in sorted(self.refused_codes.items())
            ),
            bad_files=tuple(dict(file=file, reason=reason) for file, reason in sorted(self.bad_files.items())),
        )


def summary(manifest: manifest_lib.Manifest) -> Iterable[str]:
    """Lines that say what the corpus holds, what was dropped and why, and which files and codes were no good."""
    for kind, entries in (("languages", manifest.languages), ("pairs", manifest.pairs)):
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
        yield f"bad file {bad['file']}, skipped: {bad['reason']}"
    yield f"{len(manifest.bad_files)} bad files, {len(manifest.refused_codes)} refused codes"


def _total(entries: Mapping[str, manifest_lib.Entry], split: str) -> manifest_lib.Split:
    found = [entry.splits[split] for entry in entries.values() if split in entry.splits]
    return manifest_lib.Split((), sum(s.rows for s in found), sum(s.tokens for s in found), sum(s.bytes for s in found))
