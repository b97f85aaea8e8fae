"""Reader of translation memories in TMX 1.1 to 1.4b, streamed: memory does not grow with the file.

The text of a segment is what stands in <seg> and in <hi>. What bpt, ept, it, ph and ut hold is markup of the document
that was translated, and <sub> text of another flow in such markup (a footnote, a title): neither belongs to the
sentence. A unit of several languages gives a pair for each two of them, of at most MAX_LANGUAGES, the source language
first; of several variants in one language, the first is taken.

XML is read as strictly as it is meant: from where it is malformed on, nothing of the file is read. A DOCTYPE is allowed
and not followed; a declaration of an entity is refused, as it may expand without end. A unit with an entity that is
nowhere declared is left out.
"""

import functools
import itertools
from collections.abc import Iterator
from xml.parsers import expat

import pyarrow as pa

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import archive
from emma_jax.corpus.source import MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_RECORD_BYTES, BadFile
from emma_jax.corpus.statistics import KEPT, READ, Report

SUFFIXES = (".tmx",)
MARKUP = frozenset(("bpt", "ept", "it", "ph", "ut", "sub"))
BLOCK_BYTES = 1 << 18
MAX_LANGUAGES = 32  # the memories of the EU have 24
MAX_PAIRS = MAX_LANGUAGES * (MAX_LANGUAGES - 1) // 2
# What the parser keeps for each open element, and for each name for good.
MAX_DEPTH, MAX_NAMES = 100, 10_000


def parts(source: source_lib.Source) -> list[source_lib.Part]:
    """A part for each file."""
    files = source_lib.files(source, archive.with_compression(SUFFIXES))
    return [
        source_lib.Part(source, file.name, (file,), archive.codes_of(archive.pair_of_source(source, file)))
        for file in files
    ]


def read(part: source_lib.Part, report: Report) -> Iterator[pa.RecordBatch]:
    """Batches of PAIRS."""
    yield from source_lib.each_file(part, report, functools.partial(_read_file, report))


def _read_file(report: Report, file: source_lib.File) -> Iterator[pa.RecordBatch]:
    for _, opened in archive.texts(file, SUFFIXES):
        with opened as stream:
            units, damage, at_end = _Units(report), None, False
            while not (at_end or damage):
                try:
                    block = stream.read(BLOCK_BYTES)
                    at_end = not block
                    units.feed(block)
                except BadFile as error:
                    damage = error
                yield from units.take(rest=at_end or damage is not None)
            if damage:
                raise damage


class _Units:
    """The translation units of a memory that is fed in blocks, as batches of PAIRS."""

    def __init__(self, report: Report):
        self._report = report
        self._names: dict[str, str] = {}
        self._parser = parser = expat.ParserCreate(None, None, self._names)
        parser.buffer_text = parser.specified_attributes = True
        parser.UseForeignDTD(True)  # an unknown entity is then skipped, and told, where it would end the parsing
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.StartDoctypeDeclHandler, parser.EndDoctypeDeclHandler = self._start_doctype, self._end_doctype
        parser.EntityDeclHandler, parser.SkippedEntityHandler = self._refuse_entity, self._skip_entity
        self._num_fed_bytes = 0
        self._in_doctype = False
        self._depth, self._seg_depth, self._markup_depth = 0, 0, 0
        self._source_language, self._language = "", ""
        self._text, self._num_characters = [], 0
        self._segments: dict[str, str] = {}
        self._fault = ""
        self._columns = tuple([] for _ in source_lib.PAIRS)
        self._num_pair_characters = 0
        self._batches: list[pa.RecordBatch] = []

    def feed(self, block: bytes) -> None:
        """Parses the next block, or the end if it is empty; raises BadFile where it is no TMX."""
        try:
            self._parser.Parse(block, not block)
        except expat.ExpatError as error:
            if not self._num_fed_bytes and not block:
                raise BadFile("is empty") from error
            fault = "is malformed" if block else "is cut short"
            raise BadFile(f"{fault} at line {error.lineno}: {expat.ErrorString(error.code)}") from error
        except BadFile:
            raise
        except (LookupError, ValueError) as error:  # what the parser has for encodings it does not know
            raise BadFile(f"is in an encoding that is not read: {error}") from error
        self._num_fed_bytes += len(block)
        if self._num_fed_bytes - self._parser.CurrentByteIndex > MAX_RECORD_BYTES and block:
            raise self._bad(f"has a tag of more than {MAX_RECORD_BYTES >> 20} MiB")
        if self._in_doctype and self._num_fed_bytes > MAX_RECORD_BYTES:
            raise self._bad(f"has a DOCTYPE of more than {MAX_RECORD_BYTES >> 20} MiB")
        if len(self._names) > MAX_NAMES:
            raise self._bad(f"has more than {MAX_NAMES:,} names of elements and attributes")

    def take(self, rest: bool) -> Iterator[pa.RecordBatch]:
        """The batches that are full, and with `rest` the last one."""
        if rest:
            self._flush()
        yield from self._batches
        self._batches.clear()

    def _flush(self) -> None:
        if self._columns[0]:
            self._report.count(READ, KEPT, len(self._columns[0]))
            self._batches.append(pa.record_batch(list(self._columns), schema=source_lib.PAIRS))
            self._columns = tuple([] for _ in source_lib.PAIRS)
        self._num_pair_characters = 0

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._seg_depth:
            if self._markup_depth or name in MARKUP:
                self._markup_depth += 1
        elif name == "seg":
            self._seg_depth = self._depth
            self._text, self._num_characters = [], 0
            self._parser.CharacterDataHandler = self._add
        elif name == "tuv":
            self._language = (attributes.get("xml:lang") or attributes.get("lang") or "").strip()
        elif name == "tu":
            self._segments, self._fault = {}, ""
        elif name == "header":
            self._source_language = attributes.get("srclang", "")
        elif self._depth == 1 and name != "tmx":
            raise self._bad(f"is no TMX: its first element is <{name[:50]}>")
        if self._depth > MAX_DEPTH:
            raise self._bad(f"nests elements more than {MAX_DEPTH} deep")

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._seg_depth > self._depth:
            self._parser.CharacterDataHandler = None
            self._seg_depth = self._markup_depth = 0
            self._end_segment()
        elif self._markup_depth:
            self._markup_depth -= 1
        elif name == "tu" and not self._seg_depth:
            self._end_unit()

    def _add(self, text: str) -> None:
        if not self._markup_depth:
            self._num_characters += len(text)
            if self._num_characters <= MAX_RECORD_BYTES:
                self._text.append(text)

    def _end_segment(self) -> None:
        if self._num_characters > MAX_RECORD_BYTES:
            self._fault = "too_large"
        elif not self._language:
            self._report.count(READ, "no_language", 1)
        elif self._language in self._segments:
            self._report.count(READ, "repeated_language", 1)
        elif len(self._segments) == MAX_LANGUAGES:
            self._report.count(READ, "too_many_languages", 1)
        else:
            self._segments[self._language] = "".join(self._text)
        self._text = []

    def _end_unit(self) -> None:
        segments, self._segments = self._segments, {}
        texts = {language: text for language, text in segments.items() if text and not text.isspace()}
        num_characters = sum(map(len, texts.values())) * (len(texts) - 1)
        fault = self._fault
        if len(texts) < 2:
            fault = fault or ("empty_side" if len(segments) > 1 else "one_language")
        elif num_characters > MAX_BATCH_BYTES:
            fault = fault or "too_large"
        if fault:
            self._report.count(READ, fault, 1)
            return
        for src, tgt in itertools.combinations(self._source_first(texts), 2):
            for column, value in zip(self._columns, (texts[src], texts[tgt], src, tgt), strict=True):
                column.append(value)
        self._num_pair_characters += num_characters
        if self._num_pair_characters > MAX_BATCH_BYTES // 2 or len(self._columns[0]) > MAX_BATCH_ROWS - MAX_PAIRS:
            self._flush()

    def _source_first(self, texts: dict[str, str]) -> list[str]:
        languages = list(texts)
        if self._source_language in texts:
            languages.remove(self._source_language)
            languages.insert(0, self._source_language)
        return languages

    def _start_doctype(self, name: str, system_id: str, public_id: str, has_declarations: int) -> None:
        self._in_doctype = True

    def _end_doctype(self) -> None:
        self._in_doctype = False

    def _refuse_entity(self, name: str, *_) -> None:
        raise self._bad(f"declares an entity, which is not read: {name[:50]}")

    def _skip_entity(self, name: str, is_parameter: int) -> None:
        if self._seg_depth and not self._markup_depth:
            self._fault = "unknown_entity"

    def _bad(self, reason: str) -> BadFile:
        return BadFile(f"{reason} (line {self._parser.CurrentLineNumber})")
