"""What names of files and folders say of the records in them: their language, their pair, or their collection."""

import re
from pathlib import PurePosixPath

from emma_jax.corpus import codes
from emma_jax.corpus.source import File

# Parts of a data set, which are no languages (`raw` and `dev` are codes of some) and no names of collections.
GENERIC = frozenset(
    "all chunk corpus data default dev file files main out part raw shard split test text train training val valid "
    "validation".split()
)
# The number of a file among several: train-00000-of-00012, part-0001-c000, stack.chunk.3, eng_Latn_7.
SHARD_NUMBER = re.compile(r"([-_.]?(part|chunk|shard|split|file)?[-_.]?\d+([-_.]of[-_.]\d+)?([-_.]c\d+)?)$", re.I)


def names(file: File) -> list[str]:
    """The names in a file's path that say something, the innermost first; the file's own without suffix and number.

    >>> names(File("eng_Latn/data/train-00000-of-00012.jsonl.gz", "")), names(File("mala/stack.chunk.3.jsonl.zst", ""))
    (['eng_Latn'], ['stack', 'mala'])
    """
    path = PurePosixPath(file.name)
    stem = re.sub(r"\.(jsonl|ndjson|json|parquet)(\.\w+)?$", "", path.name)
    stem = SHARD_NUMBER.sub("", stem)
    found = [stem, *(folder for folder in reversed(path.parent.parts))]
    return [name for name in found if name and name.lower() not in GENERIC]


def language(file: File) -> str:
    """The spelling of a language that is a name in the file's path, or "".

    The innermost counts, one that names its script before one that does not.

    >>> [language(File(name, "")) for name in ("swh_Latn/web/1.jsonl", "data/pt-BR.jsonl", "corpus/train.jsonl")]
    ['swh_Latn', 'pt-BR', '']
    """
    found = [name for name in names(file) if _is_code(name)]
    return next((name for name in found if codes.is_script_given(name)), found[0] if found else "")


def pair(file: File) -> tuple[str, str] | tuple[()]:
    """The spellings of a pair that is the innermost such name in the file's path, or ().

    >>> pair(File("eng_Latn-fra_Latn/part-1.parquet", "")), pair(File("deu_Latn/1.parquet", ""))
    (('eng_Latn', 'fra_Latn'), ())
    """
    for name in names(file):
        try:
            return codes.pair_of(name)
        except ValueError:
            continue
    return ()


def collection(file: File, default: str) -> str:
    """The outermost folder's name that says something, else the file's, else `default`; of letters, digits, - and _.

    >>> [collection(File(name, ""), "web") for name in ("data/c++/1.parquet", "arxiv-002.jsonl.gz", "data/train.jsonl")]
    ['c__', 'arxiv', 'web']
    """
    found = names(file)
    return re.sub(r"[^\w-]", "_", found[-1] if found else default)


def _is_code(name: str) -> bool:
    try:
        return bool(codes.normalise(name))
    except codes.RefusedCode:
        return False
