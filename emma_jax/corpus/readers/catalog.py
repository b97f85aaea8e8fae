"""Opening one gettext catalog, and telling a whole one from one that is cut short or in another encoding than it says.

What a message is worth is decided in `corpus.readers.gettext`. A .po that is cut where a line ends may look whole.
"""

import pathlib
import re
import struct

import numpy as np
import polib

KEYWORD = r"(?:msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)"
LINE = re.compile(rf'(?:#~\s*)?({KEYWORD})?\s*"(?:[^"\\]|\\.)*"')
# Comments that belong to the entry after them: places, flags, extracted comments, the message before it was changed.
LEADING_COMMENT = re.compile(r"#[:,.|]")
MO_BYTE_ORDER = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}


class BadCatalog(ValueError):
    """A catalog that cannot be trusted as a whole; the message is the reason."""


def open_catalog(path: str) -> polib.POFile | polib.MOFile:
    """The catalog in a .po or .mo file.

    Raises BadCatalog if it is cut short, malformed, or in another encoding than it says.
    """
    data = pathlib.Path(path).read_bytes()
    binary = path.endswith(".mo")
    encoding = polib.detect_encoding(path, binary_mode=binary)
    try:
        if binary:
            _check_mo(data)
            return polib.mofile(path, encoding=encoding)
        _check_po(_decode(data, encoding))
        return polib.pofile(path, encoding=encoding)
    except UnicodeDecodeError as error:
        raise BadCatalog(f"says that it is in {encoding}, and is not: {error.reason} at byte {error.start}") from error
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk; polib's own have no number
        raise BadCatalog(str(error).replace(path, pathlib.Path(path).name)) from error


def _decode(data: bytes, encoding: str) -> str:
    text = data.decode(encoding)
    if not text.isascii() and encoding.lower().replace("-", "") not in ("utf8", "utf8sig"):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return text
        # Text beyond ASCII in any other encoding is not valid UTF-8 but by a rare accident.
        raise BadCatalog(f"says that it is in {encoding}, and is in UTF-8")
    return text


def _check_po(text: str) -> None:
    """Raises BadCatalog if the text ends inside an entry.

    >>> _check_po('msgid "a"\\nmsgstr "b"\\n')
    >>> _check_po('msgid "a"\\n')
    Traceback (most recent call last):
    emma_jax.corpus.readers.catalog.BadCatalog: is cut short: its last message has no translation
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadCatalog("is empty")
    if LEADING_COMMENT.match(lines[-1]):
        raise BadCatalog("is cut short: it ends with the comments of a message")
    entry_lines = [line for line in lines if not line.startswith("#") or line.startswith("#~")]
    if not entry_lines or not LINE.fullmatch(entry_lines[-1]):
        raise BadCatalog("is cut short: its last line is not a whole string")
    last = next((match[1] for line in reversed(entry_lines) if (match := LINE.match(line)) and match[1]), "")
    if not last.startswith("msgstr"):
        raise BadCatalog("is cut short: its last message has no translation")


def _check_mo(data: bytes) -> None:
    """Raises BadCatalog if a string lies beyond the end of the file."""
    order = MO_BYTE_ORDER.get(data[:4])
    if order is None:
        raise BadCatalog("is not a .mo file")
    try:
        _, _, count, *tables = struct.unpack_from(f"{order}5I", data)
        ends = [np.frombuffer(data, f"{order}u4", 2 * count, table).reshape(-1, 2).sum(axis=1) for table in tables]
    except (struct.error, ValueError) as error:
        raise BadCatalog("is cut short: its table lies beyond its end") from error
    if count and max(end.max() for end in ends) > len(data):
        raise BadCatalog("is cut short: a string lies beyond its end")
