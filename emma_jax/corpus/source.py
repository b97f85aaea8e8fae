"""What a reader of a source is, and where the files of a source are.

A reader is a module in `corpus.readers` with two functions:

    parts(source) -> list of Part      what can be read apart from the rest, from the names of files alone
    read(part, report) -> iterator of Arrow record batches of the schema SENTENCES, PAIRS or DOCUMENTS

A part is read by one worker. It gives languages as the source spells them (`corpus.codes` maps them) and text as it
stands in the file, and counts what it leaves out in the report. A record that cannot be read costs itself only; a file
that cannot be read is named in the report (`each_file`), and what stood before the damage is kept.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import pathlib
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
from etils import epath

from emma_jax import languages
from emma_jax.corpus.statistics import KEPT, READ, Report, plural

# Translations of messages: equal ids, equal meaning. All of a message is in one part. Where a language has a message
# more than once (Brazilian and European Portuguese), the first one is the one that pairs without English take.
SENTENCES = pa.schema([("message_id", pa.string()), ("lang", pa.string()), ("text", pa.string())])
PAIRS = pa.schema([(name, pa.string()) for name in ("src_text", "tgt_text", "src_lang", "tgt_lang")])
DOCUMENTS = pa.schema([("text", pa.string()), ("lang", pa.string())])

# Bounds of what a reader yields and holds.
MAX_BATCH_ROWS = 1 << 16
MAX_BATCH_BYTES = 32 << 20
MAX_RECORD_BYTES = 16 << 20  # a longer line or element is no record: a book has about a megabyte

# What documents can be besides text of a language, which is "monolingual".
COLLECTIONS = ("code", "paper", "instruction", "book")


# Why a record cannot be read; of a file in which most cannot, something else is wrong than a record.
UNREADABLE = ("bad_json", "bad_quoting", "too_large", "undecodable", "wrong_columns")
NOT_IN_UTF8 = "; they are not in UTF-8: convert the file, as by iconv -f LATIN1 -t UTF-8"

REQUIRED = dict(path="name a folder, a file, gs:// or package:NAME", licence="name it, as in 'CC0' or 'unknown'")


class BadFile(ValueError):
    """A file that cannot be read, or not further; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Source:
    """An entry of `config.corpus.sources`.

    `path` is a folder or a file, local or gs://, or "package:" and the name of an installed package. `languages` is the
    spelling of the language ("de"), or of both of a pair ("en-de"), where neither files nor their names say. `kind` is
    "monolingual" or one of COLLECTIONS. `columns` renames: "text=body lang=language" reads the column `body` as `text`.
    """

    name: str
    reader: str
    path: str
    licence: str
    languages: str = ""
    kind: str = "monolingual"
    columns: str = ""

    @functools.cached_property
    def renamed(self) -> dict[str, str]:
        """Name of a column as the readers know it -> its name in this source."""
        return dict(item.split("=", 1) for item in self.columns.split())


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a source, and its name within the source, which is the same on every machine."""

    name: str
    path: str

    def open(self):
        """The file as a binary stream."""
        return epath.Path(self.path).open("rb")

    @functools.cached_property
    def num_bytes(self) -> int:
        """The file's size."""
        return epath.Path(self.path).stat().length


@dataclasses.dataclass(frozen=True)
class Part:
    """Files of a source that are read together.

    `languages` holds the codes of those they may have, as far as names of files say; `collection` is where its
    documents belong if they are no text of a language: "code.stack", "book.gutenberg". `share` is for a large file that
    several workers read: the number of this share of it, from 0, and of how many.
    """

    source: Source
    name: str
    files: tuple[File, ...]
    languages: frozenset[str] = frozenset()
    collection: str = ""
    share: tuple[int, int] = (0, 1)


def from_config(sources: Mapping[str, Mapping[str, str]], readers: Iterable[str]) -> list[Source]:
    """The sources of a config, by name.

    Raises ValueError if there is none, or if one has an unknown reader, kind or key, lacks one, or has an empty path.
    """
    if not sources:
        raise ValueError("config.corpus.sources is empty; name one: sources.NAME = base.source(reader, path, licence)")
    fields = {field.name: field for field in dataclasses.fields(Source) if field.name != "name"}
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    result = []
    for name, section in sorted(sources.items()):
        if not required <= set(section) <= set(fields):
            raise ValueError(
                f"source {name!r} has the keys {sorted(section)}; it needs {sorted(required)}, and may have "
                f"{sorted(set(fields) - required)}"
            )
        for key, remedy in REQUIRED.items():
            if not str(section[key]).strip():
                raise ValueError(f"source {name!r} has no {key}; {remedy}")
        if section["reader"] not in readers:
            near = languages.nearest(section["reader"], readers)
            known = ", ".join(sorted(readers))
            raise ValueError(f"source {name!r} has an unknown reader {section['reader']!r}{near} (known: {known})")
        source = Source(name=name, **section)
        if source.kind not in ("monolingual", *COLLECTIONS):
            known = ", ".join(("monolingual", *COLLECTIONS))
            raise ValueError(f"source {name!r} has an unknown kind {source.kind!r} (known: {known})")
        if not all("=" in item for item in source.columns.split()):
            raise ValueError(f"source {name!r} has columns {source.columns!r}; write them as 'text=body lang=language'")
        result.append(source)
    return result


def files(source: Source, suffixes: Sequence[str]) -> list[File]:
    """The files of a source whose name ends in one of the suffixes, by name.

    Raises ValueError if the package is not installed, the path does not exist, or there is no such file in it.
    """
    kind, _, package = source.path.partition("package:")
    found = _in_package(source, package) if package and not kind else _in_path(source)
    # A name need not be UTF-8 on a disk; in the manifest it must.
    named = (File(file.name.encode(errors="replace").decode(), file.path) for file in found)
    named = sorted(named, key=lambda file: file.name)
    result = [file for file in named if file.name.endswith(tuple(suffixes))]
    if not result:
        raise ValueError(f"source {source.name!r} {_nothing_to_read(source, suffixes, named)}")
    return result


def each_file(
    part: Part, report: Report, read_file: Callable[[File], Iterator[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    """What `read_file` yields of each file of the part; a file for which it raises BadFile is named in the report."""
    for file in part.files:
        name, before = f"{part.source.name}/{file.name}", dict(report.counts[READ])
        try:
            yield from read_file(file)
        except BadFile as error:
            report.bad_files[name] = str(error)
        found = {reason: report.counts[READ][reason] - before.get(reason, 0) for reason in (KEPT, *UNREADABLE)}
        bad = {reason: count for reason, count in found.items() if reason != KEPT and count}
        if sum(bad.values()) > found[KEPT] and name not in report.bad_files:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in bad.items())
            report.bad_files[name] = f"most of its records could not be read: {reasons}, {found[KEPT]:,} kept" + (
                NOT_IN_UTF8 if 2 * bad.get("undecodable", 0) > sum(bad.values()) else ""
            )


def fingerprint(parts: Iterable[Part]) -> str:
    """SHA-256 in hex of the names and sizes of the parts' files, in any order."""
    listing = sorted({f"{file.name}\0{file.num_bytes}\n" for part in parts for file in part.files})
    return hashlib.sha256("".join(listing).encode()).hexdigest()


def _nothing_to_read(source: Source, suffixes: Sequence[str], found: Sequence[File]) -> str:
    """Why there is no file for the reader, for a sentence.

    >>> source = Source("web", "records", "mine", "CC0")
    >>> _nothing_to_read(source, (".jsonl", ".jsonl.gz", ".zip"), [File("a.txt", "mine/a.txt")])
    "has no file that the reader 'records' reads: 1 file in 'mine', such as 'a.txt'; it reads .jsonl, also compressed"
    >>> _nothing_to_read(source, (".po", ".mo"), [])
    "is empty: there is no .po or .mo file in 'mine'"
    """
    endings = {long[len(short) :] for short in suffixes for long in suffixes if long.startswith(f"{short}.")}
    compressed = (".zip", *endings)
    plain = [suffix for suffix in suffixes if not suffix.endswith(compressed)]
    if not found:
        wanted = f"{' or '.join(plain)} file".strip()
        return f"is empty: there is no {wanted} in {source.path!r}"
    also = ", also compressed" if len(plain) < len(suffixes) else ""
    return (
        f"has no file that the reader {source.reader!r} reads: {plural(len(found), 'file')} in {source.path!r}, "
        f"such as {found[0].name!r}; it reads {', '.join(plain)}{also}"
    )


def _in_package(source: Source, package: str) -> list[File]:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            f"source {source.name!r} needs the package {package!r}, which is not installed: "
            "pip install -e '.[quickstart]' has those of the quickstart"
        ) from error
    located = ((file.as_posix(), pathlib.Path(str(file.locate()))) for file in distribution.files or ())
    return [File(name, str(path)) for name, path in located if path.is_file()]


def _in_path(source: Source) -> list[File]:
    path = epath.Path(source.path)
    if path.is_file():
        return [File(path.name, str(path))]
    if not path.is_dir():
        raise ValueError(f"source {source.name!r} is not there: {source.path!r} is neither a folder nor a file")
    # Folder by folder, for epath has no `**`. In a bucket it leaves out gs://; the first folder is `path` itself.
    walked = [(str(folder), names) for folder, _, names in path.walk()]
    found = [posixpath.relpath(f"{folder}/{name}", walked[0][0]) for folder, names in walked for name in names]
    return [File(name, str(path / name)) for name in found]
