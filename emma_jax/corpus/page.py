"""The page of a corpus, `corpus.html`: one file to look at, which loads nothing from anywhere.

Owns text, order and figures. Numbers are of `overview`, long tables of `listing`, the look is that of a report.
"""

from collections.abc import Iterable, Sequence

from etils import epath

from emma_jax import languages
from emma_jax.corpus import filters, listing, overview
from emma_jax.corpus.overview import Dropped
from emma_jax.corpus.statistics import CLEAN, CODES, DEDUPLICATE, READ
from emma_jax.manifest import SPLITS, Manifest
from emma_jax.reporting import elements
from emma_jax.reporting.markup import Markup, join, tag

FILE_NAME = "corpus.html"
KIND_LABELS = {"languages": "Texts of languages", "pairs": "Sentence pairs", "collections": "Documents of collections"}
STAGE_LABELS = {
    READ: "read",
    CLEAN: "clean",
    DEDUPLICATE: "distinct",
    **dict(zip(SPLITS, ("for training", "for validation"), strict=True)),
}
STAGE_TITLES = {
    READ: "Reading",
    CODES: "Language codes",
    filters.TEXTS: "Cleaning: texts",
    filters.SIDES: "Cleaning: each side of pairs",
    filters.PAIRS: "Cleaning: pairs",
    overview.DEDUPLICATE_TEXTS: "Deduplication: texts",
    overview.DEDUPLICATE_PAIRS: "Deduplication: pairs",
}
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}  # -> their pictures

CSS = """
nav a { margin-right: 16px; white-space: nowrap; }
a { color: var(--s1); }
.figures figure { margin-bottom: 6px; }
.drop { border-bottom: 1px solid var(--rule); padding: 5px 0; }
.drop > span { margin-left: 16px; width: calc(100% - 16px); }
.drop summary { cursor: pointer; }
.drop summary > span { width: calc(100% - 16px); }
.drop summary > span, .drop > span { display: inline-grid; grid-template-columns: 12em 8em 5em 1fr; gap: 0 14px;
  font-variant-numeric: tabular-nums; vertical-align: top; }
.drop em { font-style: normal; text-align: right; }
.drop small { color: var(--soft); font-size: 13px; line-height: 1.7; }
.examples { margin: 6px 0 10px 16px; max-width: 900px; }
.examples table { width: 100%; }
.examples tbody tr:not(:last-child) > * { border-bottom: 0; }
.examples th { font: 12px/1.9 ui-monospace, monospace; width: 9em; }
.examples td.text { min-width: 9em; }
@media (max-width: 700px) {
  .drop summary > span, .drop > span { grid-template-columns: 1fr 7em 5em; }
  .drop small { grid-column: 1 / -1; }
}
"""


def write(manifest: Manifest) -> None:
    """Writes `corpus.html` into the manifest's folder."""
    path = epath.Path(manifest.folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(manifest), encoding="utf-8")


def html(manifest: Manifest) -> str:
    """The whole page; the same for the same corpus, wherever it is."""
    sections = {
        "From reading to training": _stages(manifest),
        "Sizes by resource class": _classes(manifest),
        "Languages by script": _scripts(manifest),
        "What was dropped, and why": _dropped(manifest),
        "Every language": listing.entries(manifest, "languages"),
        "Every pair": listing.entries(manifest, "pairs"),
        "Collections": listing.entries(manifest, "collections"),
        "Language codes that were refused": listing.refused_codes(manifest),
        "Language codes as they were spelt": listing.mapped_codes(manifest),
        "Files that were bad": listing.bad_files(manifest),
        "Sources": listing.sources(manifest),
        "How to read this": _notes(manifest),
    }
    sections = {title: inner for title, inner in sections.items() if inner}
    links = [tag("a", title, href=f"#{_anchor(title)}") for title in sections]
    body = [tag("h1", overview.title(manifest)), _tiles(manifest), tag("nav", *_separated(links))]
    body += [tag("section", tag("h2", title, id=_anchor(title)), inner) for title, inner in sections.items()]
    return elements.html(overview.title(manifest), body, listing.CSS + CSS)


def _tiles(manifest: Manifest) -> Markup:
    text, pairs = (overview.total(getattr(manifest, kind).values()) for kind in ("languages", "pairs"))
    everything = overview.total(manifest.tasks.values())
    tiles = [
        (f"{text.number:,}", "languages with text"),
        (elements.short(text.tokens), "tokens of text"),
        (f"{pairs.number:,}", "language pairs"),
        (elements.short(pairs.rows), "sentence pairs"),
        (elements.short(pairs.tokens), "tokens of pairs, both sides"),
        (elements.short(everything.bytes, elements.BYTES), "of text in all"),
        (f"{len(manifest.sources or manifest.licences):,}", "sources"),
        (f"{len(manifest.bad_files):,}", "bad files"),
    ]
    if manifest.collections:
        tiles.insert(5, (elements.short(overview.total(manifest.collections.values()).tokens), "tokens of collections"))
    return elements.tiles(tiles)


def _stages(manifest: Manifest) -> Markup:
    figures = []
    for kind, label in KIND_LABELS.items():
        records = overview.stages(manifest, kind)
        most = max(records.values())
        if most:
            rows = [
                (STAGE_LABELS[stage], "", [(count, most, f"{elements.short(count)} ({elements.share(count / most)})")])
                for stage, count in records.items()
            ]
            figures.append(elements.figure(label, elements.bars(["", "records"], rows)))
    note = (
        "Records that were left after each stage, and their share of those read, without those whose language code was "
        "refused. Pairs that are aligned by message were made from sentences that were clean."
    )
    return join([tag("p", note, class_="note"), tag("div", *figures, class_="figures")]) if figures else Markup()


def _classes(manifest: Manifest) -> Markup:
    figures = []
    for kind, label, classes in (
        ("pairs", "Language pairs, by tokens of both sides", languages.PAIR_CLASSES),
        ("languages", "Languages, by tokens of their text", languages.LANGUAGE_CLASSES),
    ):
        groups = overview.by_class(getattr(manifest, kind).values(), classes)
        number, tokens = (max(getattr(group, key) for group in groups.values()) for key in ("number", "tokens"))
        if number:
            least = {name: f"from {elements.short(limit)}" if limit else "fewer" for name, limit in classes}
            rows = [
                (
                    name,
                    least[name],
                    [elements.counted(group.number, number), (group.tokens, tokens, elements.short(group.tokens))],
                )
                for name, group in groups.items()
            ]  # fmt: skip
            figures.append(elements.figure(label, elements.bars(["class", "number", "tokens"], rows)))
    return tag("div", *figures, class_="figures") if figures else Markup()


def _scripts(manifest: Manifest) -> Markup:
    scripts = overview.by_script(manifest)
    if not scripts:
        return Markup()
    most = [max(getattr(script, key) for script in scripts) for key in ("languages", "tokens", "pairs")]
    rows = [
        (script.name, script.code, [
            elements.counted(script.languages, most[0]),
            (script.tokens, most[1], elements.short(script.tokens)),
            elements.counted(script.pairs, most[2]),
        ])
        for script in scripts
    ]  # fmt: skip
    return elements.bars(["script", "languages", "tokens of text", "pairs with one of them"], rows)


def _dropped(manifest: Manifest) -> Markup:
    found = overview.dropped(manifest)
    stages = dict.fromkeys(dropped.stage for dropped in found)
    parts = []
    for stage in stages:
        title = STAGE_TITLES.get(stage, stage.replace("_", " "))
        parts += [tag("h3", title), *(_reason(dropped) for dropped in found if dropped.stage == stage)]
    note = (
        "Shares are of what a stage looked at. A record is counted at the first filter that drops it. Open a line for "
        "examples: up to ten, as good as random, cut after some letters."
    )
    looked_at, repaired, tidied = overview.normalised(manifest)
    if looked_at:
        changed = (
            f"Of {looked_at:,} texts the encoding of {repaired:,} was repaired, and {tidied:,} more had space, "
            "controls or composed letters written otherwise."
        )
        parts += [tag("h3", "Changed, not dropped"), tag("p", changed)]
    return join([tag("p", note, class_="note"), *parts]) if parts else Markup()


def _reason(dropped: Dropped) -> Markup:
    line = tag(
        "span",
        tag("b", dropped.reason.replace("_", " ")),
        tag("em", f"{dropped.records:,}"),
        tag("em", elements.share(dropped.share)),
        tag("small", overview.meaning(dropped.reason, dropped.stage)),
    )
    if not dropped.examples:
        return tag("div", line, class_="drop")
    table = tag("table", *map(_example, dropped.examples), class_="sample")
    return tag("details", tag("summary", line), tag("div", table, class_="examples"), class_="drop")


def _example(example: Sequence[str]) -> Markup:
    """The texts of a record below each other, each with its language."""
    half = len(example) // 2  # text, lang, or src_text, tgt_text, src_lang, tgt_lang
    rows = []
    for text, code in zip(example[:half], example[half:], strict=True) if half else [(example[0], "")]:
        known = code[3:4] == "_" and code[4:] in languages.SCRIPTS
        shown = text.translate(CONTROLS) or tag("em", "(empty)")
        lang = f"{overview.tag(code)}-{code[4:]}" if known else None
        rows.append(tag("tr", tag("th", code), tag("td", shown, dir="auto", lang=lang, class_="text")))
    return tag("tbody", *rows)


def _notes(manifest: Manifest) -> Markup:
    items = [
        "Codes are ISO 639-3 and ISO 15924. A pair is one folder for both directions; its sides are in the order of "
        "their codes.",
        "Tokens are what stands between whitespace. Languages that write no spaces have few for their size: compare "
        "bytes. Resource classes are by tokens nonetheless, as those of the MaLA corpora are.",
        "A text that was held out for validation is nowhere in training, neither alone nor as a side of a pair.",
        "Of equal records one is kept, and counted for the first of its sources by name. What was read of a source "
        "includes the pairs that were aligned of its messages; what was dropped of it, codes and cleaning dropped. "
        "Collections pass no codes.",
        f"Made with seed {manifest.seed}; config {manifest.config_hash[:12] or 'unknown'}, manifest "
        f"{manifest.fingerprint[:12]}. manifest.json has all of this for programs.",
    ]
    return tag("ul", *(tag("li", item) for item in items))


def _anchor(title: str) -> str:
    return title.lower().replace(",", "").replace(" ", "-")


def _separated(links: Iterable[Markup]) -> Iterable[Markup | str]:
    """The links with spaces between them, at which a line may break."""
    for link in links:
        yield from (link, " ")
