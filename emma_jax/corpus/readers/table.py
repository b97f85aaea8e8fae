"""Reader of tables that ids align: a file for each language, with the same id for the same meaning in all of them.

SIB-200 and FLORES: `<language>/<split>.tsv`, `<split>/<language>.jsonl`, `<language>.csv`, also compressed; the first
line names the columns (`index_id category text`). Ids hold within a split, so the files of all languages that differ in
the language only are one part. A .csv is quoted by the rules of CSV; a .tsv is, if every quote in it fits them, and is
else taken as it stands.
"""

import collections
import csv
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Iterator

import pyarrow as pa

from emma_jax.corpus import source as source_lib
from emma_jax.corpus import streams
from emma_jax.corpus.readers import archive, file_names
from emma_jax.corpus.source import BadFile
from emma_jax.corpus.statistics import KEPT, READ, Report

SUFFIXES = (".tsv", ".csv", ".jsonl")
SPLITS = ("train", "dev", "devtest", "test", "valid", "val", "validation")  # some are codes too (dev: Domung)
IDS, TEXTS = ("id", "index_id", "idx"), ("text", "sentence")
QUOTED = re.compile(rb'"(?:[^"]|"")*"')


def parts(source: source_lib.Source) -> list[source_lib.Part]:
    """A part for each set of files that differ in their language only."""
    suffixes = tuple(suffix for suffix in archive.with_compression(SUFFIXES) if suffix != ".zip")
    sets = collections.defaultdict(list)
    for file in source_lib.files(source, suffixes):
        language, rest = _locate(file.name)
        sets[rest].append((len(language), language, file))
    return [
        source_lib.Part(
            source=source,
            name=name,
            # The shorter code first: where a language has several texts, that of `pt` goes before `pt_BR`.
            files=tuple(file for _, _, file in sorted(found, key=lambda item: item[:2])),
            languages=archive.codes_of([language for _, language, _ in found]),
        )
        for name, found in sorted(sets.items())
    ]


def read(part: source_lib.Part, report: Report) -> Iterator[pa.RecordBatch]:
    """Batches of SENTENCES."""
    seen = collections.defaultdict(set)
    yield from source_lib.each_file(part, report, functools.partial(_read_file, part.source, seen, report))


def _locate(name: str) -> tuple[str, str]:
    """The language of a file as its name spells it, and the name with * in its place.

    Of the words between dots and slashes, splits aside, it is the last that is a code in the full form xxx_Ssss, else
    that is a folder and a code, else any code, else the last word of all.

    >>> _locate("swh_Latn/dev.tsv"), _locate("dev/swh_Latn.jsonl.gz"), _locate("de/all.tsv"), _locate("flores.qq.csv")
    (('swh_Latn', '*/dev'), ('swh_Latn', 'dev/*'), ('de', '*/all'), ('qq', 'flores.*'))
    """
    words = re.split(r"([./])", str(pathlib.PurePosixPath(archive.plain_name(name)).with_suffix("")))
    places = [place for place in range(0, len(words), 2) if words[place] and words[place] not in SPLITS]
    if not places:
        raise ValueError(
            f"{name} names no language, neither in its name nor in its folder's: name it <language>/{name}"
        )

    def rank(place: int) -> tuple[bool, bool, bool, int]:
        is_code = bool(archive.codes_of([words[place]]))
        is_full = is_code and file_names.FULL_FORM.fullmatch(words[place]) is not None
        return is_full, is_code and "/" in words[place:], is_code, place

    place = max(places, key=rank)
    return words[place], "".join([*words[:place], "*", *words[place + 1 :]])


def _read_file(
    source: source_lib.Source, seen: dict[str, set[str]], report: Report, file: source_lib.File
) -> Iterator[pa.RecordBatch]:
    language = _locate(file.name)[0]
    ids, texts, num_bytes = [], [], 0
    damage = None
    try:
        for message_id, text in _rows(source, file, report):
            if message_id in seen[language]:
                report.count(READ, "duplicate_id", 1)
                continue
            seen[language].add(message_id)
            ids.append(message_id)
            texts.append(text)
            num_bytes += len(text)
            if len(texts) == source_lib.MAX_BATCH_ROWS or num_bytes > source_lib.MAX_BATCH_BYTES // 4:
                yield _batch(language, ids, texts, report)
                ids, texts, num_bytes = [], [], 0
    except BadFile as error:
        damage = error  # what stood before it is kept
    if texts:
        yield _batch(language, ids, texts, report)
    if damage:
        raise damage


def _batch(language: str, ids: list[str], texts: list[str], report: Report) -> pa.RecordBatch:
    report.count(READ, KEPT, len(texts))
    return pa.record_batch([ids, [language] * len(ids), texts], schema=source_lib.SENTENCES)


def _rows(source: source_lib.Source, file: source_lib.File, report: Report) -> Iterator[tuple[str, str]]:
    """Id and text of each record that has both."""
    names = [(source.renamed.get(key), *known) for key, known in (("id", IDS), ("text", TEXTS))]
    suffix = pathlib.PurePosixPath(archive.plain_name(file.name)).suffix
    raw = suffix == ".tsv" and not _is_quoted(file)
    with streams.open_stream(file) as stream:
        lines = _text_lines(stream, report)
        if suffix == ".jsonl":
            found = _from_json(lines, names, report)
        else:
            rows = csv.reader(
                (f"{line}\n" for line in lines),
                delimiter="\t" if suffix == ".tsv" else ",",
                quoting=csv.QUOTE_NONE if raw else csv.QUOTE_MINIMAL,
                strict=not raw,
            )
            found = _from_rows(rows, names, report)
        for message_id, text in found:
            if not message_id or not text.strip():
                report.count(READ, "empty_text" if message_id else "no_id", 1)
            else:
                yield message_id, text


def _is_quoted(file: source_lib.File) -> bool:
    with streams.open_stream(file) as stream:
        try:
            for block in streams.lines(stream):
                for line in block:
                    if line and b'"' in line and not all(map(_fits, line.split(b"\t"))):
                        return False
        except BadFile:
            pass  # is found again, and named, when the file is read
    return True


def _fits(field: bytes) -> bool:
    return b'"' not in field or bool(QUOTED.fullmatch(field))


def _text_lines(stream: streams.Stream, report: Report) -> Iterator[str]:
    for block in streams.lines(stream):
        texts = streams.as_text(block)
        report.count(READ, "too_large", block.count(None))
        report.count(READ, "undecodable", texts.null_count - block.count(None))
        yield from texts.drop_null().to_pylist()


def _from_rows(rows, names: list[tuple[str, ...]], report: Report) -> Iterator[tuple[str, str]]:
    rows = _well_quoted(rows, report)
    header = next(rows, None)
    if header is None:
        raise BadFile("is empty")
    places = [next((header.index(name) for name in known if name in header), None) for known in names]
    if None in places:
        wanted = " and ".join(" or ".join(filter(None, known)) for known in names)
        raise BadFile(f"has no columns {wanted}; its first line is {str(header)[:100]}")
    for row in rows:
        if len(row) == len(header):
            yield row[places[0]], row[places[1]]
        elif row:
            report.count(READ, "wrong_columns", 1)


def _well_quoted(rows, report: Report) -> Iterator[list[str]]:
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:  # the reader goes on with the next line
            report.count(READ, "bad_quoting", 1)


def _from_json(lines: Iterable[str], names: list[tuple[str, ...]], report: Report) -> Iterator[tuple[str, str]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            message_id, text = (next((record[name] for name in known if name in record), None) for known in names)
            if not isinstance(message_id, str | int) or not isinstance(text, str):
                raise TypeError("a field is missing, or is not what it should be")
            f"{message_id}{text}".encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            report.count(READ, "undecodable", 1)
        except (ValueError, RecursionError):
            report.count(READ, "bad_json", 1)
        except (TypeError, AttributeError):
            report.count(READ, "wrong_columns", 1)
        else:
            yield str(message_id), text
