"""What a reader of a source is, and where the files of a source are.

A reader is a module in `corpus.readers` with two functions:

    parts(source) -> list of Part      what can be read apart from the rest, from the names of files alone
    read(part, report) -> iterator of Arrow record batches of the schema SENTENCES, PAIRS or DOCUMENTS

A part is read by one worker. It gives languages as codes (`corpus.codes.normalise`), text as it stands in the file, and
counts what it leaves out in the report; a file that cannot be read is named there and skipped.
"""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from emma_jax import languages

# Translations of messages: equal ids, equal meaning. All of a message is in one part. Where a language has a message
# more than once (Brazilian and European Portuguese), the first one is the one that pairs without English take.
SENTENCES = pa.schema([("message_id", pa.string()), ("lang", pa.string()), ("text", pa.string())])
PAIRS = pa.schema([(name, pa.string()) for name in ("src_text", "tgt_text", "src_lang", "tgt_lang")])
DOCUMENTS = pa.schema([("text", pa.string()), ("lang", pa.string())])


@dataclasses.dataclass(frozen=True)
class Source:
    """An entry of `config.corpus.sources`; `path` is a folder, or "package:" and the name of an installed package."""

    name: str
    reader: str
    path: str
    licence: str


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a source, and its name within the source, which is the same on every machine."""

    name: str
    path: str


@dataclasses.dataclass(frozen=True)
class Part:
    """Files of a source that are read together; `languages` holds those they may have, as far as names of files say."""

    source: Source
    name: str
    files: tuple[File, ...]
    languages: frozenset[str]


def from_config(sources: Mapping[str, Mapping[str, str]], readers: Iterable[str]) -> list[Source]:
    """The sources of a config, by name.

    Raises ValueError if there is none, or if one has an unknown reader or not just the keys of a source.
    """
    if not sources:
        raise ValueError("config.corpus.sources is empty; name one: sources.NAME = dict(reader=, path=, licence=)")
    result = []
    for name, section in sorted(sources.items()):
        keys = {field.name for field in dataclasses.fields(Source)} - {"name"}
        if set(section) != keys:
            raise ValueError(f"source {name!r} has the keys {sorted(section)}; it needs {sorted(keys)}")
        if section["reader"] not in readers:
            near = languages.nearest(section["reader"], readers)
            known = ", ".join(sorted(readers))
            raise ValueError(f"source {name!r} has an unknown reader {section['reader']!r}{near} (known: {known})")
        result.append(Source(name=name, **section))
    return result


def files(source: Source, suffixes: Sequence[str]) -> list[File]:
    """The files of a source whose name ends in one of the suffixes, by name.

    Raises ValueError if the package is not installed, the folder does not exist, or there is no such file in it.
    """
    kind, _, package = source.path.partition("package:")
    found = _in_package(source, package) if package and not kind else _in_folder(source)
    result = sorted((file for file in found if file.name.endswith(tuple(suffixes))), key=lambda file: file.name)
    if not result:
        wanted = " or ".join(suffixes)
        raise ValueError(f"source {source.name!r} is empty: there is no {wanted} file in {source.path!r}")
    return result


def fingerprint(parts: Iterable[Part]) -> str:
    """SHA-256 in hex of the names and sizes of the parts' files, in any order."""
    listing = sorted(f"{file.name}\0{pathlib.Path(file.path).stat().st_size}\n" for p in parts for file in p.files)
    return hashlib.sha256("".join(listing).encode()).hexdigest()


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


def _in_folder(source: Source) -> list[File]:
    folder = pathlib.Path(source.path)
    if not folder.is_dir():
        raise ValueError(f"source {source.name!r} is not there: {source.path!r} is not a folder")
    return [File(path.relative_to(folder).as_posix(), str(path)) for path in folder.rglob("*") if path.is_file()]
