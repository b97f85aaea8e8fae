"""`python tests/benchmarks/language_codes.py MALA_STATISTICS_DIR SIB200_DIR`: what becomes of published language codes.

Every code in the statistics of the MaLA corpora, in SIB-200 and in the catalogs of Django, Sphinx and wagtail is mapped
or refused; printed are the counts, each refusal with its reason, and a table of the doubtful ones. The classes of pairs
and languages are counted from the same statistics. Exits with 1 if a class is not of the size that was published, or if
a code of MaLA does not stand for itself, but for those that are no single language and its own spelling of Jpan.
"""

import argparse
import collections
import csv
import json
import pathlib
import sys

from emma_jax import languages
from emma_jax.corpus import codes, source
from emma_jax.corpus.readers import gettext

PACKAGES = ("Django", "Sphinx", "wagtail")
PUBLISHED = {
    "pairs": dict(zip([label for label, _ in languages.PAIR_CLASSES], (4, 83, 67, 281, 508, 655, 909), strict=True)),
    "languages": dict(
        zip([label for label, _ in languages.LANGUAGE_CLASSES], (27, 79, 68, 162, 210, 393), strict=True)
    ),
}
NOT_THEMSELVES = {"jpn_Japn": "jpn_Jpan", "qaa_Latn": None, "zxx_Latn": None, "zxx_Zyyy": None}


def main() -> int:
    """Prints the tables; returns 1 if something is not as published."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mala_statistics", type=pathlib.Path)
    parser.add_argument("sib200", type=pathlib.Path)
    arguments = parser.parse_args()
    faults = report_classes(arguments.mala_statistics)
    spellings = {"MaLA": of_mala(arguments.mala_statistics)}
    spellings["SIB-200"] = {path.name for path in arguments.sib200.iterdir() if path.is_dir()}
    spellings |= {package: of_package(package) for package in PACKAGES}
    readings = {spelling: read(spelling) for spelling in set().union(*spellings.values())}
    report_counts(spellings, readings)
    report_table("refused", spellings, {s: r for s, r in readings.items() if isinstance(r, str)})
    doubtful = {s: r for s, r in readings.items() if not isinstance(r, str) and r.doubts}
    report_table("doubtful", spellings, {s: f"{r.code:10} {r.doubts}" for s, r in doubtful.items()})
    for spelling in sorted(spellings["MaLA"]):
        reading = readings[spelling]
        code = None if isinstance(reading, str) else reading.code
        if code != NOT_THEMSELVES.get(spelling, spelling):
            faults.append(f"{spelling} of MaLA is {code}")
    print(*faults, sep="\n")
    return 1 if faults else 0


def of_mala(folder: pathlib.Path) -> set[str]:
    """All codes in the statistics and in the groups by size."""
    found = {code for group in json.loads((folder / "resource_groups.json").read_text()).values() for code in group}
    found |= {row["lang_code"] for row in rows(folder / "monolingual_languages.csv")}
    return found.union(*(codes.pair_of(row["lang_pair"]) for row in rows(folder / "bilingual_pairs.csv")))


def of_package(package: str) -> set[str]:
    """The folders of languages among the catalogs of an installed package."""
    parts = gettext.parts(source.Source(package, "gettext", f"package:{package}", "as the package's"))
    return {pathlib.PurePosixPath(file.name).parts[-3] for part in parts for file in part.files}


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(spelling: str) -> codes.Reading | str:
    """What a spelling stands for, or the reason for which it is refused."""
    try:
        return codes.read(spelling)
    except codes.RefusedCode as error:
        return str(error)


def report_classes(folder: pathlib.Path) -> list[str]:
    """Prints how many pairs and languages are of each class; returns what is not as published."""
    pairs = rows(folder / "bilingual_pairs.csv")
    texts = rows(folder / "monolingual_languages.csv")
    found = {
        "pairs": collections.Counter(languages.pair_class(int(row["tot_num_tokens"])) for row in pairs),
        "languages": collections.Counter(languages.language_class(int(row["num_tokens"])) for row in texts),
    }
    for kind, counts in found.items():
        print(f"{kind}:", ", ".join(f"{label} {counts[label]}" for label in PUBLISHED[kind]))
    return [f"{kind}: {dict(counts)}" for kind, counts in found.items() if dict(counts) != PUBLISHED[kind]]


def report_counts(spellings: dict[str, set[str]], readings: dict[str, codes.Reading | str]) -> None:
    """Prints for each source how many spellings stand for themselves, for other codes, for none, and are doubtful."""
    print(f"\n{'source':10}{'codes':>8}{'themselves':>12}{'others':>8}{'refused':>9}{'doubtful':>10}")
    for name, found in spellings.items():
        mapped = {spelling: readings[spelling] for spelling in found if not isinstance(readings[spelling], str)}
        same = sum(spelling == reading.code for spelling, reading in mapped.items())
        doubtful = sum(bool(reading.doubts) for reading in mapped.values())
        counts = f"{len(found):8}{same:12}{len(mapped) - same:8}{len(found) - len(mapped):9}{doubtful:10}"
        print(f"{name:10}{counts}")


def report_table(title: str, spellings: dict[str, set[str]], said: dict[str, str]) -> None:
    """Prints a line for each spelling: itself, what is said of it, and the sources that have it."""
    print(f"\n{title}: {len(said)}")
    for spelling, words in sorted(said.items()):
        print(f"  {spelling:10} {words} ({', '.join(name for name, found in spellings.items() if spelling in found)})")


if __name__ == "__main__":
    sys.exit(main())
