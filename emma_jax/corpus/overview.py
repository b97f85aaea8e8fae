"""What the page and the card tell of a corpus, as numbers: totals, classes, scripts, stages, and what was dropped.

Owns the arithmetic over a manifest and how large numbers are written; text and looks are of `page` and `card`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from emma_jax import languages
from emma_jax.corpus import clean, filters
from emma_jax.corpus.statistics import CLEAN, CODES, DEDUPLICATE, KEPT, READ, plural
from emma_jax.manifest import SPLITS, Entry, Manifest

KINDS = ("languages", "pairs", "collections")  # fields of a manifest that have entries
STAGES = (READ, CLEAN, DEDUPLICATE)  # those that a manifest has records of each name of
DEDUPLICATE_TEXTS, DEDUPLICATE_PAIRS = f"{DEDUPLICATE}_documents", f"{DEDUPLICATE}_pairs"
# Stages, in order.
DROPPING = (READ, CODES, filters.TEXTS, filters.SIDES, filters.PAIRS, DEDUPLICATE_TEXTS, DEDUPLICATE_PAIRS)
BAD_FILE = "bad_file"  # counted at the stage READ, but no record
MEANINGS = {
    "refused_code": "The spelling of the language was refused, as the list of codes says.",
    "one_language": "Both sides are in one language.",
    "duplicate": "Equal to another record.",
    "held_out_text": "Would be for training, and has a text that is held out for validation.",
}


class Total(NamedTuple):
    """The size of some languages, pairs or collections together."""

    number: int
    rows: int
    tokens: int
    bytes: int


class Script(NamedTuple):
    """The languages of a script: how many, the tokens of their text, and the pairs that have one of them."""

    code: str
    name: str
    languages: int
    tokens: int
    pairs: int


class Dropped(NamedTuple):
    """Records that a stage dropped for a reason, and their share of those that it looked at."""

    stage: str
    reason: str
    records: int
    share: float
    examples: Sequence[Sequence[str]]


def total(entries: Iterable[Entry], splits: Sequence[str] = SPLITS) -> Total:
    """The size of the entries, in the given splits."""
    entries = [*entries]
    found = [entry.splits[split] for entry in entries for split in splits if split in entry.splits]
    return Total(len(entries), *(sum(getattr(split, key) for split in found) for key in ("rows", "tokens", "bytes")))


def by_class(entries: Iterable[Entry], classes: Iterable[tuple[str, int]]) -> dict[str, Total]:
    """Class -> size of the entries in it, for each of `classes`, which are (label, least tokens), in their order."""
    entries = [*entries]
    return {label: total(entry for entry in entries if entry.resource_class == label) for label, _ in classes}


def all_languages(manifest: Manifest) -> list[str]:
    """The codes of all languages that have text or are in a pair, sorted."""
    return sorted({*manifest.languages, *(code for pair in manifest.pairs for code in pair.split("-"))})


def by_script(manifest: Manifest) -> list[Script]:
    """The scripts of all languages, those of the most languages first."""
    codes = all_languages(manifest)
    pairs = [{code[4:] for code in pair.split("-")} for pair in manifest.pairs]
    result = []
    for script in sorted({code[4:] for code in codes}):
        entries = [entry for code, entry in manifest.languages.items() if code[4:] == script]
        number = sum(code[4:] == script for code in codes)
        name = languages.SCRIPTS.get(script, script).replace(" ", " + ").replace("_", " ")
        result.append(Script(script, name, number, total(entries).tokens, sum(script in pair for pair in pairs)))
    return sorted(result, key=lambda script: (-script.languages, -script.tokens, script.code))


def names(manifest: Manifest, kind: str) -> list[str]:
    """All names of a kind that were read, also those of which nothing is left, sorted."""
    read = {name for records in manifest.records.values() for name in records if kind_of(name) == kind}
    return sorted({*getattr(manifest, kind), *read})


def kind_of(name: str) -> str:
    """Whether a name is one of the languages, pairs or collections.

    >>> kind_of("swh_Latn"), kind_of("deu_Latn-eng_Latn"), kind_of("code.the-stack")
    ('languages', 'pairs', 'collections')
    """
    return "collections" if "." in name else "pairs" if "-" in name else "languages"


def stages(manifest: Manifest, kind: str) -> dict[str, int]:
    """Stage -> records of a kind that it let pass, and after them split -> rows."""
    result = {
        stage: sum(records for name, records in manifest.records[stage].items() if kind_of(name) == kind)
        for stage in STAGES
        if stage in manifest.records
    }
    return result | {split: total(getattr(manifest, kind).values(), [split]).rows for split in SPLITS}


def dropped(manifest: Manifest) -> list[Dropped]:
    """What each stage dropped, in the order of stages; of one stage the most frequent reason first."""
    result = []
    for stage in sorted(manifest.counts.keys() - {clean.NORMALISE}, key=_position):
        records = {reason: count for reason, count in manifest.counts[stage].items() if reason != BAD_FILE}
        for reason, count in sorted(records.items(), key=lambda item: (-item[1], item[0])):
            if reason != KEPT and count:
                examples = manifest.examples.get(f"{stage}/{reason}", ())
                result.append(Dropped(stage, reason, count, count / sum(records.values()), examples))
    return result


def _position(stage: str) -> tuple[int, str]:
    return (DROPPING.index(stage) if stage in DROPPING else len(DROPPING)), stage


def meaning(reason: str, stage: str = "") -> str:
    """What a reason says of the records that a stage dropped for it, or "" if that is not known.

    >>> meaning("identical_sides"), meaning("duplicate"), meaning("bad_json"), meaning("undecodable", READ)
    ('Both sides are the same text.', 'Equal to another record.', '', 'Is not in UTF-8.')
    """
    if (stage, reason) == (READ, "undecodable"):
        return "Is not in UTF-8."
    documented = {each.__name__: each.__doc__ or "" for each in (*filters.TEXT_FILTERS, *filters.PAIR_FILTERS)}
    first_clause = re.split("[.;\n]", documented.get(reason, ""))[0]
    return MEANINGS.get(reason) or (f"{first_clause}." if first_clause else "")


def normalised(manifest: Manifest) -> tuple[int, int, int]:
    """Texts that were looked at, those whose encoding was repaired, and those whose space and controls were tidied."""
    counts = manifest.counts.get(clean.NORMALISE, {})
    return sum(counts.values()), counts.get("repaired", 0), counts.get("tidied", 0)


def tag(code: str) -> str:
    """The shortest ISO 639 code of a code's language, by which browsers and Hugging Face know it.

    >>> tag("deu_Latn"), tag("swh_Latn"), tag("hbs_Latn")
    ('de', 'swh', 'sh')
    """
    entry = languages.entry(code[:3])
    return entry.part1 if entry and entry.part1 else code[:3]


def title(manifest: Manifest) -> str:
    """What the corpus is, in a few words."""
    found = {
        "language": len(manifest.languages),
        "language pair": len(manifest.pairs),
        "collection": len(manifest.collections),
    }
    parts = [plural(count, noun) for noun, count in found.items() if count]
    return "Text of " + " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def rows_of_sources(manifest: Manifest, kind: str) -> Mapping[str, int]:
    """Source -> rows of a kind that are from it."""
    result: dict[str, int] = {}
    for entry in getattr(manifest, kind).values():
        for source, rows in entry.sources.items():
            result[source] = result.get(source, 0) + rows
    return result
