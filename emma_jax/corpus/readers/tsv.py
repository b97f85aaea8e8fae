"""Reader of pairs in columns that tabs separate, one pair a line. The first lines tell the layout:

    src_text, tgt_text [, src_lang, tgt_lang, …]   a first line that names these columns, or what the source calls them
    id, text, id, text                             Tatoeba's export of sentence pairs: ids are numbers
    code, code, text, text                         Tatoeba Challenge: each line has its languages
    text, text [, attribution, score, …]           ManyThings, NLLB and others

Languages are those of the columns, else of the source (`languages="en-de"`), else of the name of the file or of a
folder above it (`eng_Latn-fra_Latn/train.tsv`). There is no quoting: a quote is a quote. As many columns as most of the
first lines have is right, any other number is a record that is left out. Blank lines are no records.
"""

import collections
import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from emma_jax.corpus import codes, streams
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import archive
from emma_jax.corpus.readers.sides import pair_batch
from emma_jax.corpus.source import BadFile
from emma_jax.corpus.statistics import READ, Report

SUFFIXES = (".tsv", ".txt")
NO_TEXT = re.compile(r"(?i)(^|/)(_about|readme|licen[cs]e|copying)[^/]*$")
NUM_FIRST_LINES = 1000
HEADERS = {
    "src_text": ("src_text", "source_text", "sentence1"),
    "tgt_text": ("tgt_text", "target_text", "sentence2"),
    "src_lang": ("src_lang", "source_lang"),
    "tgt_lang": ("tgt_lang", "target_lang"),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a line has what: numbers of columns from 0; `languages` is for lines that do not have them."""

    num_columns: int
    texts: tuple[int, int]
    langs: tuple[int, int] | None
    languages: tuple[str, str] | None
    has_header: bool = False


def parts(source: source_lib.Source) -> list[source_lib.Part]:
    """A part for each file."""
    suffixes = archive.with_compression(SUFFIXES)
    # Compressed pairs of NLLB are called eng_Latn-fra_Latn.gz.
    files = source_lib.files(source, (*suffixes, *streams.COMPRESSED))
    return [
        source_lib.Part(source, file.name, (file,), archive.codes_of(archive.pair_of_source(source, file)))
        for file in files
        if not NO_TEXT.search(file.name)
    ]


def read(part: source_lib.Part, report: Report) -> Iterator[pa.RecordBatch]:
    """Batches of PAIRS."""
    yield from source_lib.each_file(part, report, functools.partial(_read_file, part.source, report))


def _read_file(source: source_lib.Source, report: Report, file: source_lib.File) -> Iterator[pa.RecordBatch]:
    for name, opened in archive.texts(file, SUFFIXES):
        if NO_TEXT.search(name):
            continue
        named = functools.partial(archive.pair_of_source, source, file, name)
        with opened as stream:
            layout = None
            for block in streams.lines(stream):
                if layout is None:
                    layout = _layout(block, source.renamed, named)
                    block = block[layout.has_header :]
                for start in range(0, len(block), source_lib.MAX_BATCH_ROWS):
                    yield _batch(block[start : start + source_lib.MAX_BATCH_ROWS], layout, report)
            if layout is None:
                raise BadFile("is empty")


def _layout(block: list[bytes | None], renamed: Mapping[str, str], named) -> Layout:
    """The layout of a file that begins with these lines; `named()` gives the pair of languages in its name, or None."""
    first = streams.as_text(block[:NUM_FIRST_LINES]).drop_null().to_pylist()
    rows = [line.split("\t") for line in first if line.strip()]
    if not rows:
        raise BadFile("has no text in UTF-8 in its first lines; convert it to UTF-8")
    names = {key: [renamed.get(key), *spellings] for key, spellings in HEADERS.items()}
    header = [next((key for key, known in names.items() if name in known), "") for name in rows[0]]
    if {"src_text", "tgt_text"} <= set(header):
        langs = (
            (header.index("src_lang"), header.index("tgt_lang")) if {"src_lang", "tgt_lang"} <= set(header) else None
        )
        texts = (header.index("src_text"), header.index("tgt_text"))
        layout = Layout(len(header), texts, langs, None if langs else named(), has_header=True)
    else:
        layout = _layout_by_content(rows, named)
    if layout.langs is None and layout.languages is None:
        raise BadFile("does not say its languages, and nor does its name; give the source languages='en-de'")
    return layout


def _layout_by_content(rows: list[list[str]], named) -> Layout:
    num_columns = collections.Counter(map(len, rows)).most_common(1)[0][0]
    if num_columns < 2:
        raise BadFile("has lines without a tab; pairs are two or more columns, with tabs between them")
    rows = [row for row in rows if len(row) == num_columns]
    if num_columns == 4 and _most(rows, (0, 2), str.isdecimal):
        return Layout(4, (1, 3), None, named())
    if num_columns == 4 and _most(rows, (0, 1), _is_code):
        return Layout(4, (2, 3), (0, 1), None)
    return Layout(num_columns, (0, 1), None, named())


def _most(rows: list[list[str]], columns: tuple[int, int], holds) -> bool:
    """Whether most rows have values in both columns for which something holds."""
    return sum(all(holds(row[column]) for column in columns) for row in rows) > len(rows) / 2


def _is_code(text: str) -> bool:
    with contextlib.suppress(codes.RefusedCode):
        return bool(codes.normalise(text))
    return False


def _batch(lines: list[bytes | None], layout: Layout, report: Report) -> pa.RecordBatch:
    texts = streams.as_text(lines)
    too_large = lines.count(None)
    report.count(READ, "too_large", too_large)
    report.count(READ, "undecodable", texts.null_count - too_large)
    texts = texts.drop_null()
    texts = texts.filter(pc.not_equal(pc.utf8_trim_whitespace(texts), ""))
    # One split more than there should be tells a line of too many, however many it has.
    columns = pc.split_pattern(texts, "\t", max_splits=layout.num_columns)
    columns = columns.filter(pc.equal(pc.list_value_length(columns), layout.num_columns))
    report.count(READ, "wrong_columns", len(texts) - len(columns))
    languages = [pc.list_element(columns, i) for i in layout.langs] if layout.langs else layout.languages
    return pair_batch(*(pc.list_element(columns, i) for i in layout.texts), *languages, report)
