"""Bytes of files as they are inside their compression, and the lines in them, in bounded memory whatever comes.

Damage is told from a failing disk: a file that is cut short, corrupted or a bomb raises BadFile, and what stood before
the damage has been given by then. What the lines mean is the readers' matter.
"""

import bz2
import codecs
import contextlib
import errno
import functools
import lzma
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Protocol

import pyarrow as pa

from emma_jax.corpus.source import MAX_RECORD_BYTES, BadFile, File

BLOCK_BYTES = 4 << 20
# Text is compressed to a third or a tenth. Small files may well be one word over and over.
MAX_RATIO = 200
MIN_BOMB_BYTES = 64 << 20
XZ_MEMORY_BYTES = 256 << 20  # `xz -9` needs 65 MiB; the format allows 4 GiB

ARROW_CODECS = {".gz": "gzip", ".zst": "zstd", ".lz4": "lz4"}
DECODERS = {
    ".bz2": bz2.BZ2Decompressor,
    ".xz": functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, XZ_MEMORY_BYTES),
}
COMPRESSED = (*ARROW_CODECS, *DECODERS)

COMPRESSED_PIECE_BYTES = 1 << 16
FIRST_PIECE_BYTES, LAST_PIECE_BYTES = 1 << 10, 1 << 20
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Stream(Protocol):
    """What can be read from: at most `num_bytes` at a time, which may be fewer, and b"" at the end only."""

    def read(self, num_bytes: int, /) -> bytes:
        """The next bytes."""


@contextlib.contextmanager
def open_stream(file: File) -> Iterator[Stream]:
    """A context with the bytes of a file, decompressed if its name ends in one of COMPRESSED.

    Reading raises BadFile where the data are damaged, end too early, or expand as no text does (`guard`).
    """
    suffix = pathlib.PurePosixPath(file.name).suffix
    with open_stored(file) as compressed:
        if suffix not in COMPRESSED:
            yield compressed
            return
        if not file.num_bytes:
            raise BadFile(f"is empty, and a {suffix} file never is")
        if suffix in DECODERS:
            yield guard(_Members(compressed, DECODERS[suffix]), file.num_bytes)
            return
        # Arrow's codecs need no GIL, read files of several members to their end, and know when one is cut short.
        with pa.CompressedInputStream(pa.PythonFile(compressed, mode="r"), ARROW_CODECS[suffix]) as stream:
            yield guard(stream, file.num_bytes)


@contextlib.contextmanager
def open_stored(file: File) -> Iterator[BinaryIO]:
    """A context with a file as it is stored, to be read within `naming_damage`: its own faults pass that."""
    with file.open() as stored:
        yield _Stored(stored)


@contextlib.contextmanager
def naming_damage() -> Iterator[None]:
    """A context in which faults of a codec or a container become BadFile; an OSError with a number passes."""
    try:
        yield
    except (EOFError, UnicodeDecodeError, lzma.LZMAError, pa.ArrowException, zipfile.BadZipFile, zlib.error) as error:
        raise BadFile(_reason(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise BadFile(_reason(error)) from error


def check_expansion(num_bytes: int, num_compressed_bytes: int) -> None:
    """Nothing. Raises BadFile if this many bytes, from so few, are a bomb."""
    if num_bytes > max(MIN_BOMB_BYTES, MAX_RATIO * num_compressed_bytes):
        raise BadFile(f"expands to more than {MAX_RATIO} times its size")


def guard(stream: Stream, num_compressed_bytes: int) -> Stream:
    """The stream, with BadFile for every fault of its codec, and for a bomb.

    A bomb is what expands to more than MAX_RATIO times its size, beyond MIN_BOMB_BYTES. An OSError with a number is the
    disk's and passes.
    """
    return _Guarded(stream, num_compressed_bytes)


def line_blocks(stream: Stream) -> Iterator[tuple[bytes, int]]:
    r"""Blocks of whole lines, and how many lines were left out between the block before and this one's end.

    Those are the lines over MAX_RECORD_BYTES. Blocks have about BLOCK_BYTES and end in a line end, but maybe the last;
    the last may be empty, after lines that were left out. A byte order mark at the start is removed; that of UTF-16
    raises BadFile.

    >>> import io
    >>> list(line_blocks(io.BytesIO(b"one\ntwo\nthree")))
    [(b'one\ntwo\n', 0), (b'three', 0)]
    """
    num_left_out = 0
    for block in _whole_lines(stream):
        if block is None:
            num_left_out += 1
        else:
            yield block, num_left_out
            num_left_out = 0
    if num_left_out:
        yield b"", num_left_out


def lines(stream: Stream) -> Iterator[list[bytes | None]]:
    r"""The lines of successive blocks, without their line ends; None for each line that is too long.

    >>> import io
    >>> list(lines(io.BytesIO(b"one\r\n\ntwo")))
    [[b'one', b''], [b'two']]
    """
    for block in _whole_lines(stream):
        if block is None:
            yield [None]
        else:
            yield [line.removesuffix(b"\r") for line in block.removesuffix(b"\n").split(b"\n")]


def as_text(found: Sequence[bytes | None]) -> pa.StringArray:
    r"""Lines as text; null where a line is None or no UTF-8.

    >>> as_text([b"\xc3\xa9", None, b"\xe9"]).to_pylist()
    ['é', None, None]
    """
    binary = pa.array(found, pa.binary())
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_decoded(line) for line in found], pa.string())


def _decoded(line: bytes | None) -> str | None:
    try:
        return None if line is None else line.decode()
    except UnicodeDecodeError:
        return None


def _whole_lines(stream: Stream) -> Iterator[bytes | None]:
    """Blocks of whole lines, and None in the place of each line that is too long."""
    rest, too_long = b"", False
    for piece in _pieces(stream):
        end = piece.rfind(b"\n") + 1
        if not end:
            rest = b"" if too_long else rest + piece
            too_long = too_long or len(rest) > MAX_RECORD_BYTES
            continue
        end_of_first = piece.find(b"\n") + 1
        if too_long or len(rest) + end_of_first - 1 > MAX_RECORD_BYTES:
            yield None
            block = piece[end_of_first:end]
        else:
            block = rest + piece[:end]
        if block:
            yield block
        rest, too_long = piece[end:], False
    if too_long:
        yield None
    elif rest:
        yield rest


def _pieces(stream: Stream) -> Iterator[bytes]:
    """Pieces of BLOCK_BYTES; before the stream's damage is raised, what stood before it."""
    damage, at_start = None, True
    while damage is None:
        pieces, num_bytes = [], 0
        try:
            while num_bytes < BLOCK_BYTES and (piece := stream.read(BLOCK_BYTES - num_bytes)):
                pieces.append(piece)
                num_bytes += len(piece)
        except BadFile as error:
            damage = error
        whole = b"".join(pieces)
        if at_start and whole.startswith(UTF16_MARKS):
            raise BadFile("is in UTF-16; it must be in UTF-8")
        if at_start:
            whole, at_start = whole.removeprefix(codecs.BOM_UTF8), False
        if whole:
            yield whole
        if not num_bytes:
            break
    if damage:
        raise damage


class _Stored:
    """A stored file: its faults have a number, so that they are not taken for the codec's."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def read(self, num_bytes: int) -> bytes:
        try:
            return self._stream.read(num_bytes)
        except OSError as error:
            error.errno = error.errno or errno.EIO
            raise


class _Members:
    """The members of an .xz or .bz2 file, one after the other."""

    # `lzma.LZMAFile` takes a damaged second member for something that is not to be read; Arrow's bzip2 fails at one
    # that is empty.
    def __init__(self, compressed: _Stored, new_decoder: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor]):
        self._compressed = compressed
        self._new_decoder = new_decoder
        self._decoder = new_decoder()

    def read(self, num_bytes: int) -> bytes:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data.lstrip(b"\0")  # zeros may stand between members
                while not data:
                    if not (padded := self._compressed.read(COMPRESSED_PIECE_BYTES)):
                        return b""
                    data = padded.lstrip(b"\0")
                self._decoder = self._new_decoder()
            elif self._decoder.needs_input:
                data = self._compressed.read(COMPRESSED_PIECE_BYTES)
                if not data:
                    raise EOFError
            if text := self._decoder.decompress(data, num_bytes):
                return text


class _Guarded:
    def __init__(self, stream: Stream, num_compressed_bytes: int):
        self._stream = stream
        self._num_bytes = 0
        self._num_compressed_bytes = num_compressed_bytes

    def read(self, num_bytes: int) -> bytes:
        # A codec that fails loses what it had of the piece that was asked for: so pieces begin small.
        num_bytes = min(num_bytes, LAST_PIECE_BYTES, max(FIRST_PIECE_BYTES, self._num_bytes // 16))
        with naming_damage():
            data = self._stream.read(num_bytes)
        self._num_bytes += len(data)
        check_expansion(self._num_bytes, self._num_compressed_bytes)
        return data


def _reason(error: Exception) -> str:
    """What is wrong with compressed data, from what its codec says."""
    message = str(error).partition("\n")[0]
    if isinstance(error, EOFError) or "Truncated" in message:
        return "is cut short"
    return f"is damaged: {message}"
