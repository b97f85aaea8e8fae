"""Files in zip archives, and what the names of files say: shared by the readers of text that is distributed so.

A member is read as a stream and never unpacked to the disk, so the path in its name goes nowhere.
"""

import contextlib
import errno
import pathlib
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence

from emma_jax.corpus import codes, streams
from emma_jax.corpus.readers import file_names
from emma_jax.corpus.source import BadFile, File, Source

READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1  # bit of a member's flags
FAULTS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error)


def members(file: File) -> list[zipfile.ZipInfo]:
    """The files in a zip archive, in its order.

    Raises BadFile if it is damaged.
    """
    with _open_archive(file) as archive:
        return [member for member in archive.infolist() if not member.is_dir()]


@contextlib.contextmanager
def open_member(file: File, member: zipfile.ZipInfo) -> Iterator[streams.Stream]:
    """A context with the bytes of one file in a zip archive.

    Raises BadFile if it is damaged, encrypted or a bomb, when it is opened or while it is read.
    """
    # An archive of its own for each member: two that are read in lock step would seek to and fro in one.
    with _open_archive(file) as archive:
        if member.flag_bits & ENCRYPTED:
            raise BadFile(f"is encrypted: {member.filename}")
        if member.compress_type not in READ_METHODS:
            raise BadFile(f"is compressed neither by deflate nor not at all: {member.filename}")
        if member.file_size > max(streams.MIN_BOMB_BYTES, streams.MAX_RATIO * member.compress_size):
            raise BadFile(f"expands to more than {streams.MAX_RATIO} times its size: {member.filename}")
        with _damage_named():
            stream = archive.open(member)
        with stream:
            yield streams.guard(stream, member.compress_size)


def texts(file: File, suffixes: Sequence[str]) -> Iterator[tuple[str, contextlib.AbstractContextManager]]:
    """Name and stream, to be opened, of the file itself, or of each file in it that has one of the suffixes.

    Raises BadFile if an archive is damaged or has no such file.
    """
    if not file.name.endswith(".zip"):
        yield file.name, streams.open_stream(file)
        return
    found = [member for member in members(file) if member.filename.endswith(tuple(suffixes))]
    if not found:
        raise BadFile(f"has no {' or '.join(suffixes)} file in it")
    for member in found:
        yield member.filename, open_member(file, member)


def with_compression(suffixes: Sequence[str]) -> tuple[str, ...]:
    """The suffixes alone and with each of a compression, and .zip."""
    return (*(suffix + other for suffix in suffixes for other in ("", *streams.COMPRESSED)), ".zip")


def plain_name(name: str) -> str:
    """The name of a file without the suffix of its compression.

    >>> plain_name("en-de.tmx.gz")
    'en-de.tmx'
    """
    suffix = pathlib.PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix in (*streams.COMPRESSED, ".zip") else name


def pair_of_source(source: Source, file: File | None = None, member: str = "") -> tuple[str, str] | None:
    """The two languages of a file as they are spelled: those of the source, else those that a name has, or None.

    Names are the pieces between dots and slashes in those of the member of an archive, of the file and, last, of the
    folder above the source, which are ranked as in `file_names`.

    >>> source = Source("web", "tsv", "folder", "CC0")
    >>> pair_of_source(source, File("eng_Latn-fra_Latn/train.tsv", "web/eng_Latn-fra_Latn/train.tsv"))
    ('eng_Latn', 'fra_Latn')
    >>> pair_of_source(source, File("x.zip", "web/x.zip"), "Tatoeba.en-de.tsv")
    ('en', 'de')
    """
    if source.languages:
        return codes.pair_of(source.languages)
    if file is None:
        return None
    paths = [pathlib.PurePosixPath(name) for name in (member, file.name)]
    # A source that is one file or one folder has its languages in the path only.
    above = [pathlib.PurePosixPath(file.path).parent.name]
    own, folders = [path.name for path in paths], [name for path in paths for name in reversed(path.parent.parts)]
    return file_names.pair_among(*map(_pieces, (own, folders, above))) or None


def _pieces(names: Iterable[str]) -> list[str]:
    return [piece for name in names for piece in reversed(name.split("."))]


def codes_of(spellings: Sequence[str] | None) -> frozenset[str]:
    """The codes of those spellings that stand for a language."""
    found = set()
    for spelling in spellings or ():
        with contextlib.suppress(codes.RefusedCode):
            found.add(codes.normalise(spelling))
    return frozenset(found)


@contextlib.contextmanager
def _open_archive(file: File) -> Iterator[zipfile.ZipFile]:
    with file.open() as stored:
        with _damage_named():
            archive = zipfile.ZipFile(stored)
        with archive:
            yield archive


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except BadFile:
        raise
    except FAULTS as error:
        raise BadFile(f"is a damaged zip: {error}") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # of a place before the file's start
            raise
        raise BadFile(f"is a damaged zip: {error}") from error
