"""Opening one gettext catalog, and telling a whole one from one that is cut short or in another encoding than it says.

What a message is worth is decided in `corpus.readers.gettext`. A .po that is cut where a line ends may look whole.
"""

import pathlib
import re
import struct
import tempfile

import numpy as np
import polib

from emma_jax.corpus.source import BadFile, File

KEYWORD = r"(?:msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)"
LINE = re.compile(rf'(?:#~\s*)?({KEYWORD})?\s*"(?:[^"\\]|\\.)*"')
STRING = re.compile(rf'{KEYWORD}\b|"')
LINE_END = re.compile(r"\r\n|\r|\n")  # as polib has them; others may stand in a string
# Comments that belong to the entry after them: places, flags, extracted comments, the message before it was changed.
LEADING_COMMENT = re.compile(r"#[:,.|]")
MO_BYTE_ORDER = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}


MAX_BYTES = 64 << 20  # the catalog is parsed as a whole; the largest of the field have a few megabytes


def open_catalog(file: File) -> tuple[polib.POFile | polib.MOFile, int]:
    """The catalog in a .po or .mo file, and how many messages are left out of it, for a string that is broken.

    Raises BadFile if it is cut short, malformed, or in another encoding than it says.
    """
    if file.num_bytes > MAX_BYTES:
        raise BadFile(f"has {file.num_bytes:,} bytes; a catalog of more than {MAX_BYTES:,} is not read")
    with file.open() as stream:
        data = stream.read()
    binary = file.name.endswith(".mo")
    encoding = polib.detect_encoding(data, binary_mode=binary)
    try:
        num_broken = 0
        if binary:
            _check_mo(data)
        else:
            text = _decode(data, encoding)
            _check_po(text)
            text, num_broken = _without_broken(text)
            data = text.encode(encoding) if num_broken else data
        # polib reads local files, and would end lines of text in memory where a catalog's do not end.
        with tempfile.NamedTemporaryFile() as local:
            local.write(data)
            local.flush()
            return (polib.mofile if binary else polib.pofile)(local.name, encoding=encoding), num_broken
    except UnicodeError as error:
        place = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise BadFile(f"says that it is in {encoding}, and is not: {reason}{place}") from error
    except LookupError as error:
        raise BadFile(f"says that it is in {encoding}, which is no encoding of text") from error
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk; polib's own have no number
        raise BadFile(re.sub(r"/\S*", pathlib.PurePosixPath(file.name).name, str(error), count=1)) from error


def _decode(data: bytes, encoding: str) -> str:
    text = data.decode(encoding)
    if not text.isascii() and encoding.lower().replace("-", "") not in ("utf8", "utf8sig"):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return text
        # Text beyond ASCII in any other encoding is not valid UTF-8 but by a rare accident.
        raise BadFile(f"says that it is in {encoding}, and is in UTF-8")
    return text


def _check_po(text: str) -> None:
    """Raises BadFile if the text ends inside an entry.

    >>> _check_po('msgid "a"\\nmsgstr "b"\\n')
    >>> _check_po('msgid "a"\\n')
    Traceback (most recent call last):
    emma_jax.corpus.source.BadFile: is cut short: its last message has no translation
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadFile("is empty")
    if LEADING_COMMENT.match(lines[-1]):
        raise BadFile("is cut short: it ends with the comments of a message")
    entry_lines = [line for line in lines if not line.startswith("#") or line.startswith("#~")]
    if not entry_lines or not LINE.fullmatch(entry_lines[-1]):
        raise BadFile("is cut short: its last line is not a whole string")
    last = next((match[1] for line in reversed(entry_lines) if (match := LINE.match(line)) and match[1]), "")
    if not last.startswith("msgstr"):
        raise BadFile("is cut short: its last message has no translation")


def _without_broken(text: str) -> tuple[str, int]:
    r"""The text without the messages that have a string which is not whole, and how many those are.

    Raises BadFile if one is the header's, for that says which plural is which.

    >>> _without_broken('msgid "a"\nmsgstr "b"\n\nmsgid "broken\nmsgstr "c"\n# d\nmsgid "d"\nmsgstr "e"')
    ('msgid "a"\nmsgstr "b"\n\n# d\nmsgid "d"\nmsgstr "e"', 1)
    """
    entries, broken, has_translation = [[]], set(), False
    for number, line in enumerate(LINE_END.split(text), 1):
        found = line.strip().removeprefix("\ufeff")
        if has_translation and (found.startswith("#") or re.match(r"(msgctxt|msgid)\b", found)):
            entries.append([])
            has_translation = False
        entries[-1].append(line)
        has_translation = has_translation or found.startswith("msgstr")
        # polib takes the last character of a string for its closing quote, whatever it is.
        if STRING.match(found) and not LINE.fullmatch(found):
            if len(entries) == 1:
                raise BadFile(f"is damaged: a string of its first message, the header, is not whole (line {number})")
            broken.add(len(entries) - 1)
    sound = [line for number, lines in enumerate(entries) if number not in broken for line in lines]
    return "\n".join(sound), len(broken)


def _check_mo(data: bytes) -> None:
    """Raises BadFile if a string lies beyond the end of the file."""
    order = MO_BYTE_ORDER.get(data[:4])
    if order is None:
        raise BadFile("is not a .mo file")
    try:
        _, _, count, *tables = struct.unpack_from(f"{order}5I", data)
        ends = [np.frombuffer(data, f"{order}u4", 2 * count, table).reshape(-1, 2).sum(axis=1) for table in tables]
    except (struct.error, ValueError) as error:
        raise BadFile("is cut short: its table lies beyond its end") from error
    if count and max(end.max() for end in ends) > len(data):
        raise BadFile("is cut short: a string lies beyond its end")
