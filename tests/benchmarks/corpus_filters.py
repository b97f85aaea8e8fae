"""`python tests/benchmarks/corpus_filters.py`: microseconds per pair of normalising and of each filter, on one core.

The pairs are the translations in the catalogs of Django, Sphinx and wagtail, and with `--sib200=FOLDER` all pairs with
English of that corpus. They are true translations: what a filter drops of them is mostly wrong, and is printed, as is
what it drops of the same sides shuffled. Each filter is timed alone, with all that it needs to find; together they find
it once. What counts is processor time, the least of some turns; other work on the machine still shows in it, if less.
"""

import argparse
import importlib.util
import os
import pathlib
import random
import time
from collections.abc import Callable, Mapping

import polib
import pyarrow as pa

from configs import base
from emma_jax import languages
from emma_jax.corpus import clean, codes, filters
from emma_jax.corpus.statistics import KEPT, Report

PACKAGES = ("django", "sphinx", "wagtail")
SIDES = ("src", "tgt")
TURNS = 9


def main() -> None:
    """Prints a table for each set of pairs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sib200", type=pathlib.Path, help="folder of SIB-200, with a folder for each language")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    pa.set_cpu_count(1)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    measure("catalogs", catalogs())
    if arguments.sib200:
        measure("SIB-200", sib200(arguments.sib200))


def catalogs() -> list[tuple[str, str, str]]:
    """English message, translation and its language, each once."""
    found = {}
    for package in PACKAGES:
        root = pathlib.Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(root.glob("**/LC_MESSAGES/*.po")):
            try:
                language = codes.normalise(path.parent.parent.name)
            except codes.RefusedCode:
                continue
            good = (entry for entry in polib.pofile(str(path)).translated_entries() if entry.msgstr)
            found.update(((entry.msgid, entry.msgstr, language), None) for entry in good)
    return [pair for pair in found if pair[2] != languages.ENGLISH and pair[0] != pair[1]]


def sib200(folder: pathlib.Path) -> list[tuple[str, str, str]]:
    """English sentence, translation and its language."""
    texts = {}
    for path in sorted(folder.glob("*_*/*.tsv")):
        lines = (line.split("\t") for line in path.read_text().splitlines()[1:])
        texts.setdefault(codes.normalise(path.parent.name), {}).update((index, text) for index, _, text in lines)
    english = texts.pop(languages.ENGLISH)
    return [(english[i], text, code) for code, of in texts.items() for i, text in of.items() if i in english]


def measure(name: str, pairs: list[tuple[str, str, str]]) -> None:
    """Prints the table of one set of pairs."""
    random.Random(0).shuffle(pairs)
    num_characters = sum(len(src) + len(tgt) for src, tgt, _ in pairs) / len(pairs)
    print(f"\n{name}: {len(pairs):,} pairs of {num_characters:.0f} characters")
    table, shuffled = as_table(pairs), as_table(pairs, shuffled=True)
    for form in ("sentence", "document", "verbatim"):
        show(f"normalise as {form}", len(pairs), lambda form=form: normalise(table, form))
    table, shuffled = normalise(table, "sentence"), normalise(shuffled, "sentence")
    sections = base.get_config().corpus.filters
    for kept, section in ((texts_kept, sections.sentences.to_dict()), (filters.pairs_kept, sections.pairs.to_dict())):
        dropped = {true: drops(kept, of, section) for true, of in ((True, table), (False, shuffled))}
        for threshold in ({key: value} for key, value in section.items()):
            rates = ", ".join(f"{dropped[true][next(iter(threshold))]:.4%}" for true in (True, False))
            show(*threshold, len(pairs), lambda t=threshold, k=kept: k(table, t, Report()), f"drops {rates}")
        show("all together", len(pairs), lambda k=kept, s=section: k(table, s, Report()))


def show(name: str, num_pairs: int, call: Callable[[], object], rest: str = "") -> None:
    """Prints the least processor time of a call over some turns."""
    best = float("inf")
    for _ in range(TURNS):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    print(f"{name:24s}{best / num_pairs * 1e6:8.2f} us per pair  {rest}", flush=True)


def drops(kept: Callable, table: pa.Table, section: Mapping[str, float]) -> dict[str, float]:
    """The share of pairs that each filter would drop by itself."""
    result = {}
    for name, threshold in section.items():
        report = Report()
        kept(table, {name: threshold}, report)
        result[name] = sum(n for counts in report.counts.values() for key, n in counts.items() if key != KEPT) / len(
            table
        )
    return result


def texts_kept(table: pa.Table, thresholds: Mapping[str, float], report: Report) -> None:
    """Both sides of pairs through the filters of texts."""
    for side in SIDES:
        texts = pa.table(dict(text=table[f"{side}_text"], lang=table[f"{side}_lang"], message=table["src_text"]))
        filters.texts_kept(texts, thresholds, report)


def normalise(table: pa.Table, form: str) -> pa.Table:
    """The table with both sides normalised."""
    for name in ("src_text", "tgt_text"):
        table = table.set_column(table.column_names.index(name), name, clean.normalise(table[name], form))
    return table


def as_table(pairs: list[tuple[str, str, str]], shuffled: bool = False) -> pa.Table:
    """The pairs as a table; shuffled, with the translation of another message of the same language."""
    src, tgt, lang = map(list, zip(*pairs, strict=True))
    if shuffled:
        of_language = {}
        for row, code in enumerate(lang):
            of_language.setdefault(code, []).append(row)
        others = {
            row: other for rows in of_language.values() for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
        }
        tgt = [tgt[others[row]] for row in range(len(tgt))]
    return pa.table(dict(src_text=src, tgt_text=tgt, src_lang=[languages.ENGLISH] * len(src), tgt_lang=lang))


if __name__ == "__main__":
    main()
