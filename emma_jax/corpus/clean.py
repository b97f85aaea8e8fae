"""Normalising text: one way of writing what looks the same, for sentences, for documents, and for text kept verbatim.

Looks at the code points of a whole batch for what may not be normal, and goes one by one through the few texts that
have it. What text must be like to be kept is the business of `corpus.filters`.
"""

import functools
import re
import unicodedata

import ftfy
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax.corpus import characters
from emma_jax.corpus.statistics import Report

NORMALISE = "normalise"

# Neither spelling nor space: controls, byte order marks, soft hyphens (where a line may be broken, in text that was
# laid out), and code points that are no characters. Joiners and direction marks are spelling.
REMOVED = "".join(
    chr(i)
    for ends in ((0, 8), (0xE, 0x1F), (0x7F, 0x84), (0x86, 0x9F), (0xAD, 0xAD), (0xFDD0, 0xFDEF), (0xFEFF, 0xFEFF))
    for i in range(ends[0], ends[1] + 1)
)
REMOVED += "".join(chr(plane | end) for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF))
LATIN_CONTROLS = "".join(chr(i) for i in range(0x80, 0xA0) if i != 0x85)  # of Latin-1, which nobody means

# What UTF-8 looks like when it is read as Latin-1, as Windows-1252 or as Windows-1251, of which only pairs are listed
# that Cyrillic text does not have.
UTF8_LEADS = "".join(chr(i) for i in range(0xC2, 0xF5)) + "ВГРСв"
UTF8_FOLLOWS = "".join(chr(i) for i in range(0x80, 0xC0)) + "".join(
    bytes([i]).decode("cp1252", "ignore") for i in range(0x80, 0xA0)
) + "Ђ"  # fmt: skip

_REMOVED = re.compile(f"[{REMOVED}]+")
_LINE_END = re.compile("\r\n|[\r\x85\u2028\u2029]")
_EMPTY_LINES = re.compile("\n{3,}")
_MISREAD = re.compile(f"[{LATIN_CONTROLS}]|[{UTF8_LEADS}][{UTF8_FOLLOWS}]")

# What may be wrong with a character: ALONE and LATIN_CONTROL anywhere, FIRST and LAST at an end of a text, the others
# where one character has this bit and the next one has twice its value.
ALONE, LATIN_CONTROL, FIRST, LAST = 1, 2, 4, 8
COMPOSED, MARKS, SPACES, INDENTED, MISREAD = 16, 64, 256, 1024, 4096
NEXT = 2
ANYWHERE = ALONE | LATIN_CONTROL
PAIRS = NEXT * (COMPOSED | MARKS | SPACES | INDENTED | MISREAD)


def normalise(text: pa.ChunkedArray, form: str = "sentence", report: Report | None = None) -> pa.ChunkedArray:
    """Text in NFC, with encoding errors repaired, without control characters, and with space of one kind.

    In a "sentence" all space becomes single spaces. A "document" keeps its lines, with at most one empty line between
    two. What is "verbatim" keeps all space but that at the ends of lines, and loses empty lines at its own ends. The
    report counts texts that were repaired, that were tidied otherwise, and that were unchanged.

    >>> normalise(pa.chunked_array([["Cafe\\u0301\\u00a0 \\n au lait\\x07 ", "cafÃ© crÃ¨me"]])).to_pylist()
    ['Café au lait', 'café crème']
    >>> normalise(pa.chunked_array([["one \\r\\n\\n\\n  two"]]), "document").to_pylist()
    ['one\\n\\ntwo']
    >>> normalise(pa.chunked_array([["if x:  \\r\\n\\tpass\\n"]]), "verbatim").to_pylist()
    ['if x:\\n\\tpass']
    """
    arrays = [_normal_piece(piece["text"], form, report) for _, piece in characters.pieces({"text": text})]
    return pa.chunked_array(arrays, text.type)


def _normal_piece(text: pa.Array, form: str, report: Report | None) -> pa.Array:
    selected, misread = _may_change(text, form)
    old, new, repaired = text.filter(pa.array(selected)).to_pylist(), [], 0
    for string, is_misread in zip(old, misread[selected].tolist(), strict=True):
        normal, was_repaired = _normal(string, form, is_misread)
        new.append(normal)
        repaired += was_repaired
    if report is not None:
        changed = sum(before != after for before, after in zip(old, new, strict=True))
        report.count(NORMALISE, "repaired", repaired)
        report.count(NORMALISE, "tidied", changed - repaired)
        report.count(NORMALISE, "unchanged", len(text) - changed)
    return pc.replace_with_mask(text, pa.array(selected), pa.array(new, text.type)) if new else text


def _may_change(text: pa.Array, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether each text has anything that `_normal` could change, and whether it has what `_MISREAD` looks for."""
    points = characters.decode(text)
    bits = characters.lookup(_bits(form), points.values)
    found = bits & ANYWHERE
    found[1:] |= (bits[:-1] * NEXT) & bits[1:] & PAIRS
    nonempty = np.flatnonzero(points.lengths)
    first, last = points.starts[nonempty], points.starts[nonempty + 1] - 1
    # What stands across two texts does not count: a text must become the same in whatever company.
    found[first] = bits[first] & (ANYWHERE | FIRST)
    found[last] |= bits[last] & LAST
    positions = np.flatnonzero(found != 0)
    rows = points.rows(positions)
    selected, misread = np.zeros((2, len(text)), bool)
    selected[rows] = True
    misread[rows[found[positions] & (LATIN_CONTROL | MISREAD * NEXT) != 0]] = True
    if form == "document":  # two line ends are as they should be
        selected |= pc.match_substring(text, "\n\n\n").to_numpy(zero_copy_only=False)
    return selected, misread


def _normal(string: str, form: str, is_misread: bool) -> tuple[str, bool]:
    """The normal form of a text, and whether its encoding was repaired."""
    was_repaired = False
    while True:
        repaired = string
        if is_misread:
            repaired = "\n".join(map(ftfy.fix_encoding, string.split("\n")))
            was_repaired |= repaired != string
        new = _tidy(repaired, form)
        # Once a control is gone, what stood on both its sides can be seen to be in a wrong encoding.
        if new == string or not _MISREAD.search(new):
            return new, was_repaired
        string, is_misread = new, True


def _tidy(string: str, form: str) -> str:
    if not string.isprintable():  # which is much faster to see, and true of most
        string = _REMOVED.sub("", string)
    if form == "sentence":
        return " ".join(unicodedata.normalize("NFC", string).split())
    if form == "verbatim":
        string = string.replace("\v", "").replace("\f", "")
    lines = unicodedata.normalize("NFC", _LINE_END.sub("\n", string)).split("\n")
    if form == "verbatim":
        return "\n".join(map(str.rstrip, lines)).strip("\n")
    return _EMPTY_LINES.sub("\n\n", "\n".join(" ".join(line.split()) for line in lines)).strip("\n")


@functools.cache
def _bits(form: str) -> np.ndarray:
    """What may be wrong with each character of a text that is to take this form."""
    firsts, seconds, before_mark, marks, alone = _composition()
    spaces = set(characters.spaces())
    rules = {
        ALONE: alone + REMOVED, LATIN_CONTROL: LATIN_CONTROLS,
        COMPOSED: firsts, COMPOSED * NEXT: seconds,
        MARKS: before_mark, MARKS * NEXT: marks,
        MISREAD: UTF8_LEADS, MISREAD * NEXT: UTF8_FOLLOWS,
    }  # fmt: skip
    if form == "sentence":
        rules |= {SPACES: " ", SPACES * NEXT: " ", FIRST: " ", LAST: " "}
        others = spaces - {" "}
    elif form == "document":
        rules |= {SPACES: " ", SPACES * NEXT: " \n", INDENTED: "\n", INDENTED * NEXT: " ", FIRST: " \n", LAST: " \n"}
        others = spaces - {" ", "\n"}
    else:
        others = set("\v\f\r\x85\u2028\u2029")
        kept = "".join(spaces - others - {"\n"})
        rules |= {SPACES: kept, SPACES * NEXT: "\n", FIRST: "\n", LAST: kept + "\n"}
    table = characters.table(rules, np.uint16)
    table[[ord(character) for character in others]] |= ALONE
    return table


@functools.cache
def _composition() -> tuple[str, str, str, str, str]:
    """Which characters NFC may change: the first and the second of those that it joins, what ends in a mark and what
    begins with one, of which it may change the order, and those that it writes otherwise wherever they stand.
    """
    firsts, seconds, before_mark, marks, alone = set(), set(), [], [], []
    hangul = ((0x1100, 0x1113), (0x1161, 0x1176), (0x11A8, 0x11C3), (0xAC00, 0xD7A4))
    leading, vowels, trailing, syllables = ([chr(i) for i in range(*ends)] for ends in hangul)
    firsts.update(leading, syllables[:: len(trailing) + 1])
    seconds.update(vowels, trailing)
    for character in map(chr, range(0x30000)):  # the planes above have nothing that NFC could change
        if not 0xD800 <= ord(character) < 0xE000:
            decomposed = unicodedata.normalize("NFD", character)
            if unicodedata.combining(decomposed[-1]):
                before_mark.append(character)
            if unicodedata.combining(decomposed[0]):
                marks.append(character)
            if unicodedata.normalize("NFC", character) != character:
                alone.append(character)
            elif (parts := unicodedata.decomposition(character).split()) and not parts[0].startswith("<"):
                firsts.add(chr(int(parts[0], 16)))
                seconds.add(chr(int(parts[1], 16)))
    return "".join(firsts), "".join(seconds), "".join(before_mark), "".join(marks), "".join(alone)
