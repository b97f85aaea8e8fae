"""Columns of text as arrays of code points, and facts about characters as tables to look them up in.

numpy over all characters of a batch takes about a nanosecond for each; Python for each text takes thousands. A table is
an array with one entry per code point, made when it is first asked for.
"""

import dataclasses
import functools
import sys
import unicodedata
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Text that is looked at together: what is derived from it stays in the processor's cache.
PIECE_BYTES, PIECE_ROWS = 1 << 18, 1 << 16
NUM_CODE_POINTS = sys.maxunicode + 1
SPACES = "\t\n\v\f\r\x85"  # controls that are space, besides what Unicode calls separators


@dataclasses.dataclass(frozen=True)
class CodePoints:
    """Texts one after the other: their code points, and where each begins, with the end of the last one.

    >>> decode(pa.array(["né", "", "本"])).starts.tolist()
    [0, 2, 2, 3]
    """

    values: np.ndarray
    starts: np.ndarray

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """The characters of each text."""
        return np.diff(self.starts)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """The text that each position is in.

        >>> decode(pa.array(["né", "", "本"])).rows(np.array([1, 2])).tolist()
        [0, 2]
        """
        return np.searchsorted(self.starts, positions, side="right") - 1

    def sums(self, numbers: np.ndarray) -> np.ndarray:
        """The sum of one number per character over each text.

        >>> points = decode(pa.array(["né", "", "本"]))
        >>> points.sums(points.values > 127).tolist()
        [1, 0, 1]
        """
        total = np.zeros(len(numbers) + 1, np.int32)
        np.cumsum(numbers, dtype=np.int32, out=total[1:])
        return np.diff(total[self.starts])


def decode(text: pa.Array) -> CodePoints:
    """The code points of a column without nulls."""
    assert not text.null_count
    validity, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, np.int64 if pa.types.is_large_string(text.type) else np.int32)
    begin, end = ends[text.offset], ends[text.offset + len(text)]
    string = str(memoryview(data)[begin:end], "utf-8") if end > begin else ""
    starts = np.zeros(len(text) + 1, np.int64)
    np.cumsum(pc.utf8_length(text), out=starts[1:])
    # utf-32 would begin with a byte order mark.
    name = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
    return CodePoints(np.frombuffer(string.encode(name), np.uint32), starts)


def lookup(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The entry of each code point in a table."""
    return table.take(values, mode="clip")  # which is what numpy does fastest; no code point is out of range


def pieces(columns: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[int, dict[str, pa.Array]]]:
    """The number of a row, and the columns from it on: pieces of about PIECE_BYTES and at most PIECE_ROWS.

    >>> [(first, piece["text"].to_pylist()) for first, piece in pieces({"text": pa.chunked_array([["a"], ["b"]])})]
    [(0, ['a', 'b'])]
    """
    arrays = {name: column.combine_chunks() for name, column in columns.items()}
    ends = np.cumsum(
        sum(pc.binary_length(array).to_numpy(zero_copy_only=False) for array in arrays.values()), dtype=int
    )
    first, num_rows = 0, len(ends)
    while first < num_rows:
        done = ends[first - 1] if first else 0
        last = max(np.searchsorted(ends, done + PIECE_BYTES, side="right"), first + 1)
        last = min(last, first + PIECE_ROWS)
        yield first, {name: array.slice(first, last - first) for name, array in arrays.items()}
        first = last


def table(entries: Mapping[int, str], dtype: type = np.uint8) -> np.ndarray:
    """A table of sets of bits: the bits of an entry are given to each of its characters.

    >>> table({1: "ab", 2: "b"})[[97, 98, 99]].tolist()
    [1, 3, 0]
    """
    result = np.zeros(NUM_CODE_POINTS, dtype)
    for bits, characters in entries.items():
        result[[ord(character) for character in characters]] |= dtype(bits)
    return result


@functools.cache
def categories() -> dict[str, str]:
    """The characters of each general category of Unicode, surrogates and unassigned ones left out."""
    found = {}
    for number in range(NUM_CODE_POINTS):
        found.setdefault(unicodedata.category(chr(number)), []).append(chr(number))
    return {name: "".join(characters) for name, characters in found.items() if name not in ("Cs", "Cn", "Co")}


@functools.cache
def spaces() -> str:
    """All characters that separate words or lines."""
    return SPACES + "".join(categories()[name] for name in ("Zs", "Zl", "Zp"))


@functools.cache
def digits() -> np.ndarray:
    """The value of each decimal digit of any script; 255 for everything else.

    >>> digits()[[ord(c) for c in "7٧७x²"]].tolist()
    [7, 7, 7, 255, 255]
    """
    result = np.full(NUM_CODE_POINTS, 255, np.uint8)
    for character in categories()["Nd"]:
        result[ord(character)] = unicodedata.decimal(character)
    return result
