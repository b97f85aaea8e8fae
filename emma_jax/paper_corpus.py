"""The corpus of the paper as numbers: 546 languages, 2,507 pairs and the collections, to plan runs without its text.

Owns `paper_corpus.csv`. Rows and whitespace tokens of languages and pairs are as published for the MaLA corpora; bytes
are those tokens by `text_rates`. Of the collections no size is published: each kind is taken to be as large as its
share of the longer run, so that it is drawn once. Pairs are spelt as published, 44 of them in both orders.
"""

import csv
import functools
import importlib.resources

from emma_jax import languages, manifest
from emma_jax.manifest import Manifest

NAME = "paper"  # instead of the folder of a corpus
FILE = "paper_corpus.csv"
PUBLISHED, ASSUMED = "mala", "assumed"  # sources of an entry: where its size is from


def load(folder: str) -> Manifest:
    """The manifest of the corpus in `folder`, or that of the paper's if `folder` is NAME.

    Raises ValueError if there is none.
    """
    return paper() if folder == NAME else manifest.load(folder)


@functools.cache
def paper() -> Manifest:
    """The manifest of the paper's corpus. It has one split, for training, and no files.

    >>> len(paper().languages), len(paper().pairs)
    (546, 2507)
    >>> paper().pairs["eng_Latn-swa_Latn"].resource_class, paper().languages["swh_Latn"].name
    ('medium-high', 'Swahili (individual language)')
    """
    entries: dict[str, dict[str, manifest.Entry]] = {"mono": {}, "pair": {}}
    text = importlib.resources.files("emma_jax").joinpath(FILE).read_text()
    for row in csv.DictReader(text.splitlines()):
        kind, _, name = row["task"].partition(".")
        key = name if kind in entries else row["task"]
        entries.setdefault(kind if kind in entries else "collections", {})[key] = _entry(kind, name, row)
    return Manifest(
        folder=NAME,
        version=manifest.VERSION,
        seed=0,
        config_hash="",
        languages=entries["mono"],
        pairs=entries["pair"],
        counts={},
        refused_codes=(),
        bad_files=(),
        licences={},
        collections=entries["collections"],
    )


def _entry(kind: str, name: str, row: dict[str, str]) -> manifest.Entry:
    rows, tokens, num_bytes = (int(row[key]) for key in ("rows", "tokens", "bytes"))
    classify = dict(mono=languages.language_class, pair=languages.pair_class).get(kind)
    return manifest.Entry(
        splits={manifest.SPLITS[0]: manifest.Split((), rows, tokens, num_bytes)},
        resource_class=classify(tokens) if classify else "",
        sources={PUBLISHED if classify else ASSUMED: rows},
        name=languages.name(name) if kind == "mono" else "",
    )
