"""Reader of line-aligned text, the Moses form of OPUS: a line of one file translates the same line of the other.

`Corpus.en-de.en` and `Corpus.en-de.de`, next to each other (also as .gz, .zst, …) or in one .zip; or `train.en` and
`train.de`. The languages are the last suffixes; where three or more files have one name (`dev.en dev.de dev.fr`), each
two of them are a pair. README, LICENSE, .ids, .scores and .xml are not read. Sides that differ in their number of
lines cannot be trusted in any line: nothing of them is kept.
"""

import collections
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import pyarrow as pa

from emma_jax.corpus import source as source_lib
from emma_jax.corpus import streams
from emma_jax.corpus.readers import archive
from emma_jax.corpus.readers.sides import batch_of_lines
from emma_jax.corpus.source import BadFile
from emma_jax.corpus.statistics import Report

Open = Callable[[], AbstractContextManager[streams.Stream]]

# Some are codes of small languages too (ids: Idesa, txt: Citak); a source of theirs says so by its `languages`.
NO_SIDE = ("ids", "scores", "txt", "xml", "md", "log", "json", "tsv", "csv", "tmx", "html", "py", "sh")
COUNTED_BYTES = 1 << 20


def parts(source: source_lib.Source) -> list[source_lib.Part]:
    """A part for each .zip, and for each pair of files that are aligned."""
    files = {file.name: file for file in source_lib.files(source, ("",))}
    found = []
    zips = [name for name in files if name.endswith(".zip")]
    for name in zips:
        languages = archive.codes_of(archive.pair_of_source(source, files[name]))
        found.append(source_lib.Part(source, name, (files[name],), languages))
    for pair, names in _aligned(files.keys() - zips, archive.pair_of_source(source)):
        name = f"{names[0].removesuffix(pair[0])}{pair[0]}-{pair[1]}" if len(names) == 2 else names[0]
        found.append(source_lib.Part(source, name, tuple(files[n] for n in names), archive.codes_of(pair)))
    if not found:
        raise ValueError(
            f"source {source.name!r} is empty: {source.path!r} has neither a .zip nor two files whose names end in "
            "two languages, as Corpus.en-de.en and Corpus.en-de.de"
        )
    return found


def read(part: source_lib.Part, report: Report) -> Iterator[pa.RecordBatch]:
    """Batches of PAIRS."""
    # The second side is not a file to be read again.
    sides = dataclasses.replace(part, files=part.files[:1])
    read_file = _read_archive if part.files[0].name.endswith(".zip") else _read_files
    yield from source_lib.each_file(sides, report, functools.partial(read_file, part, report))


def _read_files(part: source_lib.Part, report: Report, _: source_lib.File) -> Iterator[pa.RecordBatch]:
    wanted = archive.pair_of_source(part.source)
    ((pair, names),) = _aligned([file.name for file in part.files], wanted)
    if len(names) < 2:
        raise BadFile(f"has no other side: {pair[0]} or {pair[1]} is missing")
    by_name = {file.name: file for file in part.files}
    yield from _read_sides({n: functools.partial(streams.open_stream, by_name[n]) for n in names}, pair, report)


def _read_archive(part: source_lib.Part, report: Report, file: source_lib.File) -> Iterator[pa.RecordBatch]:
    found = archive.members(file)
    members = {member.filename: member for member in found if archive.plain_name(member.filename) == member.filename}
    aligned = _aligned(members, archive.pair_of_source(part.source))
    if not aligned:
        raise BadFile("has no two files in it whose names end in two languages")
    for pair, names in aligned:
        if len(names) < 2:
            raise BadFile(f"has no other side of {names[0]}: {pair[0]} or {pair[1]} is missing")
        yield from _read_sides(
            {n: functools.partial(archive.open_member, file, members[n]) for n in names}, pair, report
        )


def _aligned(
    names: Iterable[str], wanted: tuple[str, str] | None = None
) -> list[tuple[tuple[str, str], tuple[str, ...]]]:
    """Pairs of languages, each with the names of its sides; of one name only if the other side is missing.

    >>> _aligned(["README", "Corpus.en-de.de", "Corpus.en-de.en", "Corpus.en-de.ids"])
    [(('en', 'de'), ('Corpus.en-de.en', 'Corpus.en-de.de'))]
    >>> _aligned(["dev.en.gz", "dev.de", "dev.LICENSE", "a.en-fr.fr"])
    [(('en', 'fr'), ('a.en-fr.fr',)), (('de', 'en'), ('dev.de', 'dev.en.gz'))]
    """
    groups = collections.defaultdict(dict)
    for name in sorted(names):
        stem, _, suffix = archive.plain_name(name).rpartition(".")
        groups[stem][suffix] = name
    result = []
    for stem, sides in sorted(groups.items()):
        for pair in _pairs(re.split(r"[./]", stem)[-1], sides, wanted):
            result.append((pair, tuple(sides[side] for side in pair if side in sides)))
    return result


def _pairs(tail: str, sides: Iterable[str], wanted: tuple[str, str] | None) -> list[tuple[str, str]]:
    """The pairs of languages of files that differ in their last suffix only; `tail` is the suffix before it."""
    if wanted:
        return [wanted] if set(wanted) & set(sides) else []
    for side in filter(None, sides):
        for pair in ((side, tail.removeprefix(f"{side}-")), (tail.removesuffix(f"-{side}"), side)):
            if "-".join(pair) == tail and (set(pair) <= set(sides) or len(archive.codes_of(pair)) == 2):
                return [pair]
    spoken = sorted(side for side in sides if side not in NO_SIDE and archive.codes_of([side]))
    return list(itertools.combinations(spoken, 2))


def _read_sides(sides: dict[str, Open], pair: tuple[str, str], report: Report) -> Iterator[pa.RecordBatch]:
    counts = []
    for name, open_side in sides.items():
        try:
            counts.append(_count_lines(open_side))
        except BadFile as error:
            raise BadFile(f"{name} {error}") from error  # the report names the first side
    if counts[0] != counts[1]:
        raise BadFile(f"its sides have {counts[0]:,} and {counts[1]:,} lines")
    if not any(counts):
        raise BadFile("is empty")
    open_src, open_tgt = sides.values()
    with open_src() as src, open_tgt() as tgt:
        for src_lines, tgt_lines in _lock_step(streams.lines(src), streams.lines(tgt)):
            yield batch_of_lines(src_lines, tgt_lines, pair, report)


def _count_lines(open_side: Open) -> int:
    count, last = 0, b"\n"
    with open_side() as stream:
        while block := stream.read(COUNTED_BYTES):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def _lock_step(*sides: Iterator[list]) -> Iterator[list[list]]:
    """Equally long pieces of lists that come in pieces of different lengths.

    >>> list(_lock_step(iter([[1, 2], [3]]), iter([[4], [5, 6]])))
    [[[1], [4]], [[2], [5]], [[3], [6]]]
    """
    rests = [[] for _ in sides]
    while True:
        for number, side in enumerate(sides):
            if not rests[number]:
                rests[number] = next(side, [])
        length = min(source_lib.MAX_BATCH_ROWS, *map(len, rests))
        if not length:
            return
        yield [rest[:length] for rest in rests]
        rests = [rest[length:] for rest in rests]
