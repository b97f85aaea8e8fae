"""The long tables of a corpus's page: every language, pair, collection, code, source, and file that was bad.

Owns their columns and order. All rows are in the page; it scrolls, sorts and filters them.
"""

from collections.abc import Iterable, Mapping, Sequence

from emma_jax import languages
from emma_jax.corpus import overview, statistics
from emma_jax.manifest import SPLITS, Entry, Manifest
from emma_jax.reporting import elements
from emma_jax.reporting.markup import Markup, join, tag

MAX_LISTED = 10_000  # of what sources can have without end: codes that are no codes, and bad files
MAX_SOURCES = 3  # in a row
NOTHING = "–"

CSS = """
.tall thead th { z-index: 2; }
.entries th:nth-child(n+4):nth-child(-n+10), .entries td:nth-child(n+4):nth-child(-n+10),
.numbered th:last-child, .numbered td:last-child,
.sources th:nth-child(n+5), .sources td:nth-child(n+5) { text-align: right; }
.entries { font-size: 13px; }
.entries th, .entries td { padding: 4px 6px; }
.entries td:first-child, .entries thead th:first-child { position: sticky; left: 0; background: var(--page); }
.entries td:first-child { z-index: 1; }
.entries thead th:first-child { z-index: 3; }
.entries td:first-child, td.code { font-family: ui-monospace, monospace; font-size: 12px; }
.entries td:nth-child(2) { max-width: 14em; overflow: hidden; text-overflow: ellipsis; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 12em; }
"""


def entries(manifest: Manifest, kind: str) -> Markup:
    """The table of all languages, pairs or collections that were read, the largest first; nothing if there are none."""
    found = getattr(manifest, kind)
    sizes = {
        name: overview.total([found[name]]).tokens if name in found else -1 for name in overview.names(manifest, kind)
    }
    rows = [_entry(manifest, kind, name) for name in sorted(sizes, key=lambda name: (-sizes[name], name))]
    first = dict(languages=("code", "language"), pairs=("pair", "languages"), collections=("collection", "kind"))[kind]
    head = [*first, "class", "read", "clean", "distinct", *SPLITS, "tokens", "size", "rows by source"]
    return elements.table(head, rows, "entries", "Filter by code, name, class or source")


def _entry(manifest: Manifest, kind: str, name: str) -> list[str | Markup]:
    entry = getattr(manifest, kind).get(name, Entry({}, "nothing left", {}))
    label = {
        "languages": lambda: languages.name(name),
        "pairs": lambda: " – ".join(languages.name(code) for code in name.split("-")),
        "collections": lambda: name.partition(".")[0],
    }[kind]()
    records = [manifest.records[stage].get(name, 0) if stage in manifest.records else None for stage in overview.STAGES]
    rows = [entry.splits[split].rows if split in entry.splits else 0 for split in SPLITS]
    total = overview.total([entry])
    size = tag("td", elements.short(total.bytes, elements.BYTES), data_value=total.bytes)
    return [name, label, entry.resource_class, *map(number, (*records, *rows, total.tokens)), size, _sources(entry)]


def _sources(entry: Entry) -> str:
    most = sorted(entry.sources.items(), key=lambda item: (-item[1], item[0]))
    rest = [f"{len(most) - MAX_SOURCES:,} more"] if len(most) > MAX_SOURCES else []
    return ", ".join([*(f"{source} {elements.short(rows)}" for source, rows in most[:MAX_SOURCES]), *rest])


def refused_codes(manifest: Manifest) -> Markup:
    """The table of spellings that were refused, with the reason."""
    found = _joined(manifest.refused_codes, ("code", "reason"))
    return _limited(["spelling", "reason", "sources", "records"], found, "numbered", code=1)


def mapped_codes(manifest: Manifest) -> Markup:
    """The table of spellings and the codes that they became, the doubtful ones first."""
    found = _joined(manifest.mapped_codes, ("spelling", "code", "doubts"))
    doubtful_first = sorted(found, key=lambda row: not row[2])
    rows = [[spelling, code, languages.name(code), *rest] for spelling, code, *rest in doubtful_first]
    return _limited(["spelling", "code", "language", "doubts", "sources", "records"], rows, "numbered", code=2)


def _joined(codes: Iterable[Mapping], keys: Sequence[str]) -> list[list[str]]:
    """Rows of the keys, sources and records: those of all sources in one row, the most records first."""
    found: dict[tuple, dict[str, int]] = {}
    for code in codes:
        of_sources = found.setdefault(tuple(code[key] for key in keys), {})
        of_sources[code["source"]] = of_sources.get(code["source"], 0) + code["records"]
    most = sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return [[*key, ", ".join(sorted(sources)), number(sum(sources.values()))] for key, sources in most]


def bad_files(manifest: Manifest) -> Markup:
    """The table of files that could not be read, or not to their end."""
    return _limited(["file", "reason"], [[bad["file"], bad["reason"]] for bad in manifest.bad_files], "", code=1)


def sources(manifest: Manifest) -> Markup:
    """The table of sources: what they are, their licence, and what of them is in the corpus."""
    rows_of = [overview.rows_of_sources(manifest, kind) for kind in overview.KINDS]
    records = statistics.of_sources(manifest)
    head = ["source", "reader", "licence", "asked for as", "read", "dropped", "duplicate or held out", "left"]
    head += ["texts", "pairs", "in collections", "bad files"]
    rows = []
    for source in sorted({*manifest.sources, *manifest.licences}):
        described = manifest.sources.get(source, {})
        asked = ", ".join(f"{key} {described[key]}" for key in ("kind", "languages", "columns") if described.get(key))
        bad = sum(bad["file"].startswith(f"{source}/") for bad in manifest.bad_files)
        left = [of_kind.get(source, 0) for of_kind in rows_of]
        found = records.get(source)
        counted = (found.read, found.dropped, found.elsewhere, found.left) if found else (None, None, None, sum(left))
        counts = [number(count) for count in (*counted, *left, bad)]
        long = tag("td", manifest.licences.get(source, NOTHING), class_="long")
        rows.append([source, described.get("reader", NOTHING), long, asked or NOTHING, *counts])
    return elements.table(head, rows, "sources")


def number(value: int | None) -> str:
    """A count as a cell has it."""
    return NOTHING if value is None else f"{value:,}"


def _limited(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str, code: int) -> Markup:
    """A table of at most MAX_LISTED rows whose first `code` columns are verbatim, with a note on the others."""
    cells = [
        [tag("td", cell, class_="code" if column < code else "long" if column == code else None)
         for column, cell in enumerate(row)]
        for row in rows[:MAX_LISTED]
    ]  # fmt: skip
    rest = len(rows) - MAX_LISTED
    note = tag("p", f"{rest:,} more are in manifest.json.", class_="note") if rest > 0 else Markup()
    return join([elements.table(head, cells, kind, "Filter"), note])
