"""The card of a corpus, `README.md` in the form of a Hugging Face dataset: YAML for programs, then text for people.

With it the folder is a dataset as it stands: `datasets` finds each language, pair and collection by the name of its
task. Owns text and YAML; numbers are of `overview`.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from emma_jax import languages
from emma_jax.corpus import overview
from emma_jax.corpus.statistics import plural
from emma_jax.manifest import SPLITS, Entry, Manifest, Split
from emma_jax.reporting import elements

FILE_NAME = "README.md"
LINE_LENGTH = 100

# Licences that the Hub knows by these names; of software those that catalogs of messages come under.
LICENCES = frozenset(
    """apache-2.0 mit afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 mpl-2.0 odc-by odbl
    pddl unlicense unknown""".split()
)

INTRODUCTION = (
    "Cleaned, deduplicated and split text, made with emma_jax.corpus from the sources below. Codes of languages "
    "are ISO 639-3 and ISO 15924. A pair has one folder for both directions. `corpus.html` shows every language and "
    "pair, and examples of what was dropped; `manifest.json` has it all for programs."
)
STAGES = (
    "Codes: each spelling of a language became ISO 639-3 and ISO 15924, with the script told from the text where the "
    "spelling does not say it. What stands for no one language was refused.",
    "Cleaning: text was brought to Unicode NFC, encoding errors were repaired, controls and superfluous space removed; "
    "then the filters below dropped what is no good text, or no good pair.",
    "Deduplication: of records that are equal after that, one was kept.",
    "Split: messages, or texts, were drawn for validation by a hash. A text that is in validation is not in training, "
    "neither alone nor as a side of a pair.",
)
LIMITS = (
    "Only exact duplicates were removed; texts that differ in a letter are both here.",
    "Languages are those that the sources name. Filters by script find text in a wrong script, not text in a wrong "
    "language of the same script.",
    "Tokens, and with them resource classes, are what stands between whitespace: languages that write no spaces have "
    "few for their size.",
    "Nobody has read it all: expect machine translations, misaligned pairs, personal data, and what the web says.",
    "Benchmarks may be in it. Check before you report what a model trained on it scores.",
)


def write(manifest: Manifest) -> None:
    """Writes `README.md` into the manifest's folder."""
    path = epath.Path(manifest.folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(manifest), encoding="utf-8")


def markdown(manifest: Manifest) -> str:
    """The whole card; the same for the same corpus, wherever it is."""
    sections = [
        f"# {overview.title(manifest)}\n\n{_paragraph(INTRODUCTION)}",
        _sizes(manifest),
        _classes(manifest),
        _sources(manifest),
        _making(manifest),
        _fields(manifest),
        _loading(manifest),
        "\n".join(["## Known limits", "", *map(_item, LIMITS)]),
    ]
    return front_matter(manifest) + "\n\n".join(filter(None, sections)) + "\n"


def front_matter(manifest: Manifest) -> str:
    """The head of the card, in YAML. Strings are quoted: `no` is a language, and for YAML a truth value."""
    codes = overview.all_languages(manifest)
    spoken = sorted({overview.tag(code) for code in codes})
    has_code = any(name.startswith("code.") for name in manifest.collections)
    kind = "translation" if manifest.pairs else "multilingual" if len(spoken) > 1 else "monolingual"
    of_text = ["text-generation"] if manifest.languages or manifest.collections else []
    lines = [
        f"pretty_name: {json.dumps(overview.title(manifest))}",
        f"license: {json.dumps(licence(manifest.licences.values()))}",
        *_list("language", spoken + ["code"] * has_code),
        *_list("multilinguality", [kind]),
        *_list("size_categories", [size_category(overview.total(manifest.tasks.values()).rows)]),
        *_list("task_categories", of_text + ["translation"] * bool(manifest.pairs)),
        "configs:",
        *(line for name, entry in manifest.tasks.items() for line in _config(name, entry)),
    ]
    return "\n".join(["---", *lines, "---", ""])


def _list(key: str, values: Sequence[str]) -> list[str]:
    return [f"{key}:", *(f"- {json.dumps(value)}" for value in values)] if values else []


def _config(name: str, entry: Entry) -> Iterator[str]:
    # Of a split without rows `datasets` can make nothing, and then not even its sister can be loaded.
    filled = [split for split in SPLITS if split in entry.splits and entry.splits[split].rows]
    if filled:
        yield from (f"- config_name: {json.dumps(name, ensure_ascii=False)}", "  data_files:")
    for split in filled:
        yield from (f"  - split: {split}", f"    path: {json.dumps(pattern(entry.splits[split]), ensure_ascii=False)}")


def pattern(split: Split) -> str:
    """The glob that finds the shards of a split.

    >>> pattern(Split(("monolingual/swh_Latn/train-00000-of-00001.parquet",), 1, 1, 1))
    'monolingual/swh_Latn/train-*.parquet'
    """
    return re.sub(r"-\d{5}-of-\d{5}\.parquet$", "-*.parquet", split.files[0])


def licence(named: Iterable[str]) -> str:
    """The licence as the Hub knows it where all sources have the same, else "other".

    >>> licence(["CC BY 4.0", "cc-by-4.0"]), licence(["BSD", "MIT"]), licence(["ask the author"])
    ('cc-by-4.0', 'other', 'other')
    """
    found = {re.sub(r"[\s_-]+", "-", name.strip().lower()) for name in named}
    return found.pop() if len(found) == 1 and found <= LICENCES else "other"


def size_category(rows: int) -> str:
    """The range of a number of rows, as the Hub writes it.

    >>> size_category(999), size_category(1000), size_category(16_290_000_000), size_category(10**12)
    ('n<1K', '1K<n<10K', '10B<n<100B', 'n>1T')
    """
    units = ("", "K", "M", "B", "T")
    if rows < 1000:
        return "n<1K"
    least = len(str(rows)) - 1  # power of ten
    bounds = (f"{10 ** (power % 3)}{units[power // 3]}" for power in (least, least + 1))
    return "<n<".join(bounds) if least < 12 else "n>1T"


def _sizes(manifest: Manifest) -> str:
    rows = []
    for kind, label in (("languages", "languages"), ("pairs", "language pairs"), ("collections", "collections")):
        found = getattr(manifest, kind)
        total = overview.total(found.values())
        if found:
            splits = [f"{overview.total(found.values(), [split]).rows:,}" for split in SPLITS]
            size = elements.short(total.bytes, elements.BYTES)
            rows.append([label, f"{total.number:,}", *splits, f"{total.tokens:,}", size])
    head = ["", "number", "rows for training", "rows for validation", "tokens", "size of text"]
    return "\n".join(["## How much", "", *_table(head, rows, numbers=5)])


def _classes(manifest: Manifest) -> str:
    parts = []
    for kind, label, classes in (
        ("pairs", "pairs", languages.PAIR_CLASSES),
        ("languages", "languages", languages.LANGUAGE_CLASSES),
    ):
        least = {name: f"{limit:,} or more" if limit else "fewer" for name, limit in classes}
        groups = overview.by_class(getattr(manifest, kind).values(), classes)
        rows = [[name, least[name], f"{group.number:,}", f"{group.tokens:,}"] for name, group in groups.items()]
        if getattr(manifest, kind):
            parts += ["", *_table([f"class of {label}", "tokens of one", label, "tokens in all"], rows, numbers=3)]
    return "\n".join(["## Resource classes", *parts]) if parts else ""


def _sources(manifest: Manifest) -> str:
    kept = [overview.rows_of_sources(manifest, kind) for kind in overview.KINDS]
    rows = [
        [source, manifest.sources.get(source, {}).get("reader", ""), manifest.licences.get(source, "")]
        + [f"{of_kind.get(source, 0):,}" for of_kind in kept]
        for source in sorted({*manifest.sources, *manifest.licences})
    ]
    head = ["source", "reader", "licence", "texts", "pairs", "in collections"]
    note = (
        "Each text is under the licence of its source. A record that several sources have counts for the first of them "
        "by name."
    )
    return (
        "\n".join(["## Sources and licences", "", *_table(head, rows, numbers=3), "", _paragraph(note)]) if rows else ""
    )


def _making(manifest: Manifest) -> str:
    rows = [
        [
            each.stage.replace("_", ": "),
            each.reason.replace("_", " "),
            overview.meaning(each.reason, each.stage),
            f"{each.records:,}",
        ]
        for each in overview.dropped(manifest)
    ]
    stages = [_paragraph(f"{number}. {stage}", indent="   ") for number, stage in enumerate(STAGES, 1)]
    counts = ["", "What was dropped:", "", *_table(["stage", "reason", "", "records"], rows, numbers=1)] if rows else []
    spellings = len({refused["code"] for refused in manifest.refused_codes})
    bad = [f"{plural(spellings, 'spelling')} of languages refused"] if spellings else []
    bad += [f"{plural(len(manifest.bad_files), 'file')} not read to the end"] if manifest.bad_files else []
    note = ["", f"{', '.join(bad)}: `corpus.html` names them."] if bad else []
    return "\n".join(["## How it was made", "", *stages, *counts, *note])


def _fields(manifest: Manifest) -> str:
    lines = []
    if manifest.languages or manifest.collections:
        lines.append("Of languages and collections: `text` and `lang`, the code of its language (empty if unknown).")
    if manifest.pairs:
        lines.append("Of pairs: `src_text`, `tgt_text`, `src_lang` and `tgt_lang`; src is the first of the two codes.")
    return "\n".join(["## Fields", "", *map(_item, lines), "", "All are strings."])


def _loading(manifest: Manifest) -> str:
    filled = {
        name: split for name, entry in manifest.tasks.items() if (split := entry.splits.get("train")) and split.rows
    }
    if not filled:
        return ""
    largest = max(filled, key=lambda name: (name.startswith("pair."), filled[name].tokens))
    folder, _, files = pattern(filled[largest]).rpartition("/")
    return f"""\
## How to load

One language, pair or collection, by the name of its config, which has the splits that are not empty:

```python
from datasets import load_dataset

data = load_dataset("path/to/this/folder", {json.dumps(largest, ensure_ascii=False)}, split="train")
```

With DuckDB, any of them or all at once:

```sql
SELECT count(*) FROM 'path/to/this/folder/{folder.partition("/")[0]}/*/{files}';
```"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> Iterator[str]:
    """Lines of a table whose last columns are numbers."""
    align = [":--"] * (len(head) - numbers) + ["--:"] * numbers
    for row in (head, align, *rows):
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    r"""Text as a table of Markdown can hold it.

    >>> _cell("a | b\n<i>")
    'a \\| b &lt;i>'
    """
    return " ".join(text.split()).replace("<", "&lt;").replace("|", r"\|")


def _paragraph(text: str, indent: str = "") -> str:
    return textwrap.fill(text, LINE_LENGTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _item(text: str) -> str:
    return _paragraph(f"- {text}", indent="  ")
