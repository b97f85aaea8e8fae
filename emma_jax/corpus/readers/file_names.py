"""What names of files and folders say of the records in them: their language, their pair, or their collection.

A name in the full form xxx_Ssss counts before all others, the innermost first; then folders do; and only where no
folder is a code, the file's own name: words such as new, old and war are codes of small languages.
"""

import contextlib
import difflib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import iso639
import langcodes

from emma_jax import languages
from emma_jax.corpus import codes
from emma_jax.corpus.source import File

# Parts of a data set, which are no languages (`raw` and `dev` are codes of some) and no names of collections.
GENERIC = frozenset(
    "all chunk corpus data default dev file files main out part raw shard split test text train training val valid "
    "validation".split()
)
# The number of a file among several: train-00000-of-00012, part-0001-c000, stack.chunk.3, eng_Latn_7.
SHARD_NUMBER = re.compile(r"([-_.]?(part|chunk|shard|split|file)?[-_.]?\d+([-_.]of[-_.]\d+)?([-_.]c\d+)?)$", re.I)
FULL_FORM = re.compile("[a-z]{2,3}_[A-Z][a-z]{3}")
PAIR_IN_FULL_FORM = re.compile(f"{FULL_FORM.pattern}-{FULL_FORM.pattern}")
NO_CODE = "not a language code"  # the reason of `codes` that says no more than that
MIN_NAME = 5  # characters; there are languages called A and Mono
MIN_LIKENESS = 0.6  # of a word and the code that is taken to be meant


def names(file: File) -> list[str]:
    """The names in a file's path that say something, the innermost first; the file's own without suffix and number.

    >>> names(File("eng_Latn/data/train-00000-of-00012.jsonl.gz", "")), names(File("mala/stack.chunk.3.jsonl.zst", ""))
    (['eng_Latn'], ['stack', 'mala'])
    """
    own, folders = _own_and_folders(file)
    return [*own, *folders]


def language(file: File, in_full_form: bool = False) -> str:
    """The spelling of the language that a name in the file's path is, or ""; maybe of names in full form only.

    >>> paths = "swh_Latn/web/1.jsonl", "data/pt-BR.jsonl", "corpus/train.jsonl", "eng/war.jsonl", "eng/deu_Latn.jsonl"
    >>> [language(File(path, "")) for path in paths]
    ['swh_Latn', 'pt-BR', '', 'eng', 'deu_Latn']
    """
    own, folders = _own_and_folders(file)
    found = [*filter(FULL_FORM.fullmatch, (*own, *folders)), *(() if in_full_form else (*folders, *own))]
    return next(filter(_is_code, found), "")


def pair(file: File) -> tuple[str, str] | tuple[()]:
    """The spellings of the pair that a name in the file's path is, or ().

    >>> pair(File("eng_Latn-fra_Latn/new-old.parquet", "")), pair(File("deu_Latn/1.parquet", ""))
    (('eng_Latn', 'fra_Latn'), ())
    """
    return pair_among(*_own_and_folders(file))


def pair_among(own: Sequence[str], folders: Sequence[str], above: Sequence[str] = ()) -> tuple[str, str] | tuple[()]:
    """The spellings of the pair that is one of a file's own names, its folders or those above the source, or ()."""
    found = []
    for name in (*filter(PAIR_IN_FULL_FORM.fullmatch, (*own, *folders, *above)), *folders, *own, *above):
        with contextlib.suppress(ValueError):
            found.append(codes.pair_of(name))
    # A name may just look like a pair (dev-set), and a pair may have a code that will be refused by name (ze_en-zh).
    return next((sides for sides in found if all(map(_is_code, sides))), next(iter(found), ()))


def collection(file: File, default: str, in_full_form: bool = False) -> str:
    """The innermost folder that says something and is no language; of letters, digits, - and _.

    Where no folder says anything, not even a language, it is the file's own name, and else `default`.

    >>> paths = "data/c++/1.parquet", "arxiv-002.jsonl.gz", "data/train.jsonl", "eng/a.jsonl", "poems/eng/2020/a.jsonl"
    >>> [collection(File(path, ""), "web") for path in paths]
    ['c__', 'arxiv', 'web', 'web', 'poems']
    """
    own, folders = _own_and_folders(file)
    found = [name for name in folders or own if not _is_code(name) or (in_full_form and not FULL_FORM.fullmatch(name))]
    return re.sub(r"[^\w-]", "_", found[0] if found else default)


def why_no_language(file: File) -> str:
    """Which name in the file's path should be a language and why it is none, for a sentence; "" if no name is there.

    >>> [why_no_language(File(name, "")) for name in ("frx/a.jsonl", "english/2.jsonl", "notes/a.jsonl", "train.jsonl")]
    ["'frx' is no language code (is fra meant?)", "'english' is no language code (is eng meant?)",
     "'notes' is no language code", '']
    >>> why_no_language(File("qqq/a.jsonl", ""))
    "'qqq' is no language code: for private use"
    """
    own, folders = _own_and_folders(file)
    hints = {name: _hint(name) for name in (*folders, *own)}
    name = next(filter(hints.get, hints), next(iter(hints), ""))
    return f"{name!r} is no language code{hints[name]}" if name else ""


def _own_and_folders(file: File) -> tuple[list[str], list[str]]:
    """The file's own name, and those of its folders from the innermost, as far as they say something."""
    path = PurePosixPath(file.name)
    stem = SHARD_NUMBER.sub("", re.sub(r"\.(jsonl|ndjson|json|parquet)(\.\w+)?$", "", path.name))
    own, folders = (
        [name for name in found if name and name.lower() not in GENERIC and not SHARD_NUMBER.fullmatch(name)]
        for found in ([stem], reversed(path.parent.parts))
    )
    return own, folders


def _hint(name: str) -> str:
    try:
        codes.normalise(name)
    except codes.RefusedCode as error:
        if str(error) != NO_CODE:
            return f": {error}"
    near = _nearest(name)
    return f" (is {near} meant?)" if near else ""


def _nearest(name: str) -> str:
    """The code of the language that has this name, or else the code of a large language that is spelt nearly so."""
    if len(name) >= MIN_NAME:
        with contextlib.suppress(LookupError):
            return langcodes.find(name).to_alpha3()
    word, joint, script = name.partition("_")
    if not re.fullmatch("[a-z]{2,3}", word) or (joint and script not in languages.SCRIPTS):
        return ""
    alike = {
        entry.part3: ratio
        for entry in iso639.ALL_LANGUAGES
        if entry.part1 and entry.part3[0] == word[0]
        if (ratio := difflib.SequenceMatcher(None, word, entry.part3).ratio()) > MIN_LIKENESS
    }
    near = max(alike, key=lambda code: (alike[code], languages.language_tag(code).speaking_population()), default="")
    return f"{near}{joint}{script}" if near else ""


def _is_code(name: str) -> bool:
    try:
        return bool(codes.normalise(name))
    except codes.RefusedCode:
        return False
