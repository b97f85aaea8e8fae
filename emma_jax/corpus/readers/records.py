"""Reader of Parquet files and JSON lines: pairs and documents in the columns that corpora on Hugging Face have.

    src_text tgt_text src_lang tgt_lang                pairs of the MaLA corpus
    source_text target_text source_lang target_lang    pairs of mala-opus-dedup
    text lang, or text language, or text               documents

The language of a record is in its columns, else in `source.languages`, else in the names of folders or of the file:
documents in `deu_Latn/train.jsonl`, pairs in `deu_Latn-eng_Latn/1.parquet`. Which columns there are is what the first
record has. In code, papers, instructions and books the language may be unknown; in code it is not taken from columns,
where it would be C++, unless `source.columns` names one, and from names in full form only: `lua` and `bat` are codes.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import languages
from emma_jax.corpus import codes, streams
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import file_names, json_lines, parquet_rows
from emma_jax.corpus.source import BadFile, File, Part, Source
from emma_jax.corpus.statistics import KEPT, READ, Report

SUFFIXES = (*parquet_rows.SUFFIXES, *json_lines.SUFFIXES)
SHARE_BYTES = 256 << 20  # of a Parquet file that one worker reads
NUM_LOOKED_AT = 8  # files of a source, until there is one that can be read


@dataclasses.dataclass(frozen=True)
class Layout:
    """Names of the columns of a record: those of its texts, and for each side those that may say its language.

    Several texts of a document are joined by blank lines; those between the first and the last may be missing.
    """

    texts: tuple[str, ...]
    langs: tuple[tuple[str, ...], ...]

    @property
    def required(self) -> tuple[str, ...]:
        """The texts that no record may lack."""
        return tuple(dict.fromkeys((self.texts[0], self.texts[-1])))


LAYOUTS = (
    Layout(("src_text", "tgt_text"), (("src_lang",), ("tgt_lang",))),
    Layout(("source_text", "target_text"), (("source_lang",), ("target_lang",))),
    Layout(("text",), (("lang", "language"),)),
)


@dataclasses.dataclass(frozen=True)
class _Columns:
    """A layout in a file: names of its columns there, the languages where no column says, and what is yielded."""

    texts: list[str]
    required: list[str]
    langs: list[str]  # "" where there is no column
    known: Sequence[str]  # () if nothing but the columns says them
    schema: pa.Schema

    @property
    def names(self) -> list[str]:
        return [*self.texts, *filter(None, self.langs)]


def parts(source: Source) -> list[Part]:
    """A part for each file, or several for a large Parquet file.

    Raises ValueError if the first file that can be read has no columns of a layout, or if nothing says its language.
    """
    result = []
    for file in source_lib.files(source, SUFFIXES):
        if source.kind in source_lib.COLLECTIONS:
            in_full_form = source.kind == "code"
            collection = f"{source.kind}.{file_names.collection(file, source.name, in_full_form)}"
            spelling = source.languages or file_names.language(file, in_full_form)
            part = Part(source, file.name, (file,), _codes_of({spelling, *_sides(source.languages)}), collection)
        else:
            part = Part(source, file.name, (file,), announced(source, file))
        result += _shares(part)
    check(result, LAYOUTS)
    return result


def read(part: Part, report: Report) -> Iterator[pa.RecordBatch]:
    """Batches of PAIRS or DOCUMENTS."""
    return read_layouts(part, report, LAYOUTS)


def _shares(part: Part) -> list[Part]:
    """The part of one file, or as many as are good for a Parquet file of its size."""
    (file,) = part.files
    num_shares = math.ceil(file.num_bytes / SHARE_BYTES) if file.name.endswith(parquet_rows.SUFFIXES) else 1
    if num_shares <= 1:
        return [part]
    return [
        dataclasses.replace(part, name=f"{part.name}:{number + 1}of{num_shares}", share=(number, num_shares))
        for number in range(num_shares)
    ]


def check(found: Sequence[Part], layouts: Sequence[Layout]) -> None:
    """Nothing. Raises ValueError if none of the first parts is of a layout and a known language.

    Parts that cannot be read are passed over; they are named when they are read.
    """
    known = [name for layout in layouts for name in (*layout.texts, *itertools.chain(*layout.langs))]
    for name in found[0].source.renamed:
        if name not in known:
            raise ValueError(
                f"source {found[0].source.name!r} has columns {found[0].source.columns!r}: {name!r} is none of those "
                f"that can be named{languages.nearest(name, known)} (known: {', '.join(known)})"
            )
    mistakes = []
    for part in found[:NUM_LOOKED_AT]:
        try:
            if names := _first_names(part.files[0]):
                _choose(part, layouts, names)
                return
        except _WrongColumns as error:
            mistakes.append(f"source {part.source.name!r}: {part.files[0].name!r} {error}")
        except BadFile:
            continue
    if mistakes:
        raise ValueError(mistakes[0])


def read_layouts(part: Part, report: Report, layouts: Sequence[Layout]) -> Iterator[pa.RecordBatch]:
    """Batches of PAIRS or DOCUMENTS from a part whose records are in one of the layouts."""
    return source_lib.each_file(part, report, functools.partial(_read_file, part, report, layouts))


class _WrongColumns(BadFile):
    pass


def _read_file(part: Part, report: Report, layouts: Sequence[Layout], file: File) -> Iterator[pa.RecordBatch]:
    num_records = num_bad = num_undecodable = 0
    first, columns = "", None  # before the first good record of JSON lines there are none

    def choose(names: Sequence[str]) -> list[str]:
        nonlocal columns
        columns = _choose(part, layouts, names)
        return columns.names

    for table in _tables(part, file, choose):
        records, fault = _records(table, columns)
        bad = np.flatnonzero(pc.is_valid(fault)) if fault.null_count < len(fault) else ()
        if len(bad):
            first = first or f"record {num_records + bad[0] + 1}, {fault[bad[0]]}"
            for item in pc.value_counts(fault.take(bad)).to_pylist():
                report.count(READ, item["values"], item["counts"])
                num_undecodable += item["counts"] if item["values"] == "undecodable" else 0
            records = records.filter(pc.is_null(fault)) if columns else records
        report.count(READ, KEPT, len(records))
        num_records, num_bad = num_records + len(fault), num_bad + len(bad)
        yield from _batches(records)
    if 2 * num_bad > num_records:
        report.bad_files[f"{part.source.name}/{file.name}"] = (
            f"{num_bad} of {num_records} records could not be read (first: {first})"
            + (source_lib.NOT_IN_UTF8 if 2 * num_undecodable > num_bad else "")
        )


def _tables(part: Part, file: File, choose: Callable[[Sequence[str]], Sequence[str]]) -> Iterator[pa.Table]:
    if file.name.endswith(parquet_rows.SUFFIXES):
        yield from parquet_rows.tables(file, part.share, choose)
    else:
        with streams.open_stream(file) as stream:
            yield from json_lines.tables(stream, choose)


def _first_names(file: File) -> list[str]:
    if file.name.endswith(parquet_rows.SUFFIXES):
        return parquet_rows.names(file)
    with streams.open_stream(file) as stream:
        return json_lines.first_names(stream)


def _records(table: pa.Table, columns: _Columns | None) -> tuple[pa.Table, pa.ChunkedArray]:
    """The records of a table, and what is wrong with each; null if nothing is."""
    fault = table[json_lines.FAULT]
    if columns is None:
        return source_lib.DOCUMENTS.empty_table(), pc.fill_null(fault, "wrong_columns")
    texts = [table[name] for name in columns.texts]
    defaults = columns.known or [pa.scalar(None, pa.string())] * len(columns.langs)
    langs = [
        _filled(table[name], known) if name else pa.repeat(known, len(table))
        for name, known in zip(columns.langs, defaults, strict=True)
    ]
    for column in (*(table[name] for name in columns.required), *langs):
        if column.null_count:
            fault = pc.if_else(pc.and_(pc.is_null(fault), pc.is_null(column)), "wrong_columns", fault)
    if columns.schema is source_lib.DOCUMENTS and len(texts) > 1:
        given = [pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text) for text in texts]
        texts = [pc.binary_join_element_wise(*given, "\n\n", null_handling="skip")]
    for text in texts:
        if text.nbytes <= source_lib.MAX_RECORD_BYTES:  # of all its records
            continue
        large = pc.fill_null(pc.greater(pc.binary_length(text), source_lib.MAX_RECORD_BYTES), False)
        if pc.any(large).as_py():
            fault = pc.if_else(pc.and_(pc.is_null(fault), large), "too_large", fault)
    return pa.table([*texts, *langs], schema=columns.schema), fault


def _filled(column: pa.ChunkedArray, known: str | pa.Scalar) -> pa.ChunkedArray:
    return pc.fill_null(column, known) if column.null_count else column


def _batches(records: pa.Table) -> Iterator[pa.RecordBatch]:
    """The records as batches within the bounds."""
    num_rows = len(records)
    if num_rows > source_lib.MAX_BATCH_ROWS or (num_rows > 1 and records.nbytes > source_lib.MAX_BATCH_BYTES):
        yield from _batches(records[: num_rows // 2])
        yield from _batches(records[num_rows // 2 :])
    elif num_rows:
        yield from records.combine_chunks().to_batches()


def _choose(part: Part, layouts: Sequence[Layout], names: Sequence[str]) -> _Columns:
    """The columns of the first layout whose texts are among the names. Raises _WrongColumns if there is none."""
    renamed = part.source.renamed
    unique = {name for name in names if names.count(name) == 1}

    def there(columns: Sequence[str]) -> list[str]:
        return [renamed.get(column, column) for column in columns if renamed.get(column, column) in unique]

    layout = next((one for one in layouts if len(there(one.required)) == len(one.required)), None)
    if layout is None:
        wanted = " or ".join(" and ".join(one.required) for one in layouts)
        raise _WrongColumns(
            f"has the columns {sorted(names)}, and not {wanted}; name them in the source: columns='text=NAME'"
        )
    langs = [next(iter(there(_lang_columns(part, side))), "") for side in layout.langs]
    known = _languages(part, len(langs))
    if not known and not all(langs):
        raise _WrongColumns(_unknown_language(part.files[0], len(langs)))
    schema = source_lib.PAIRS if len(langs) == 2 else source_lib.DOCUMENTS
    return _Columns(there(layout.texts), there(layout.required), langs, known, schema)


def _unknown_language(file: File, num_sides: int) -> str:
    if num_sides == 2:
        return (
            "does not say its languages; name them in the source: languages='en-de' or "
            "columns='src_lang=NAME tgt_lang=NAME'"
        )
    fault = file_names.why_no_language(file)
    why, remedy = (fault, "rename it, or name the language") if fault else ("nor does its name", "name it")
    return f"does not say its language, and {why}; {remedy} in the source: languages='de' or columns='lang=NAME'"


def _lang_columns(part: Part, side: Sequence[str]) -> list[str]:
    is_code = part.collection.startswith("code.")
    return [name for name in side if not is_code or name in part.source.renamed]


def _languages(part: Part, num_sides: int) -> tuple[str, ...]:
    """Spellings of the languages of a part's records, from the config or from names; () if neither says."""
    if num_sides == 2:
        return _sides(part.source.languages) if part.source.languages else file_names.pair(part.files[0])
    if part.source.languages:
        return (part.source.languages,)
    if part.collection:
        return (next(iter(part.languages), ""),)
    found = file_names.language(part.files[0])
    return (found,) if found else ()


def announced(source: Source, file: File | None = None) -> frozenset[str]:
    """Codes of the languages that the config says, or else the file's name; whether it is a pair, only columns say."""
    if source.languages or file is None:
        spelt = {source.languages, *_sides(source.languages)}
    else:
        spelt = {file_names.language(file), *file_names.pair(file)}
    return _codes_of(spelt)


def _codes_of(spelt: Iterable[str]) -> frozenset[str]:
    found = set()
    for spelling in filter(None, spelt):
        try:
            found.add(codes.normalise(spelling))
        except codes.RefusedCode:
            continue
    return frozenset(found)


def _sides(spelling: str) -> tuple[str, ...]:
    try:
        return codes.pair_of(spelling)
    except ValueError:
        return ()
