"""Rows: documents side by side in a fixed number of predicted positions, as bytes and as the model's arrays.

Owns what a row is. Does not know where documents come from (`pack`) nor in which order rows are read
(`input_pipeline`).

A document is its token ids, BOS first and EOS last: n ids predict n - 1 targets (each id but the first, from those
before it). A row of length L holds documents with at most L targets between them. What is longer is cut into
pieces that share one id, so that each target is predicted exactly once. What is padding is told by segment 0 and never
by a token id: in the tokenizer of Llama 3 the id 0 is "!".
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

ID_TYPE = np.dtype("<i4")
MUCH = 64  # a row's part that is not left free if it can be helped; less is not worth two small documents for one
BEST_FIT, CONCATENATE = METHODS = ("best_fit", "concatenate")  # of making rows, by the names of the functions


class Row(NamedTuple):
    """Documents side by side: `ids` of all of them, where each ends in `ids`, and the task that each is of."""

    ids: np.ndarray
    ends: np.ndarray
    tasks: np.ndarray

    @property
    def num_targets(self) -> int:
        """Positions that the row predicts: one less than ids for each document."""
        return len(self.ids) - len(self.ends)

    def documents(self) -> Iterator[tuple[int, np.ndarray]]:
        """The task and the ids of each document, in order; the ids are views."""
        starts = [0, *self.ends.tolist()]
        for task, start, end in zip(self.tasks.tolist(), starts, starts[1:], strict=False):
            yield task, self.ids[start:end]


def cut(ids: np.ndarray, length: int) -> list[np.ndarray]:
    """Pieces of a document with at most `length` targets each; neighbours share one id, every target is in one piece.

    Raises ValueError if the document has no target.

    >>> [piece.tolist() for piece in cut(np.array([1, 7, 0, 8, 9, 2]), length=2)]
    [[1, 7, 0], [0, 8, 9], [9, 2]]
    """
    if len(ids) < 2:
        raise ValueError(f"a document of {len(ids)} ids has nothing to predict; it needs BOS and EOS at least")
    return [ids[start : start + length + 1] for start in range(0, len(ids) - 1, length)]


def join(documents: Iterable[tuple[int, np.ndarray]]) -> Row:
    """One row of all the documents, each a task and ids, whatever their length.

    >>> join([(5, [1, 7, 2]), (3, [1, 0, 8, 2])])
    Row(ids=array([1, 7, 2, 1, 0, 8, 2], dtype=int32), ends=array([3, 7], dtype=int32), \
tasks=array([5, 3], dtype=int32))
    """
    tasks, parts = zip(*documents, strict=True)
    return Row(
        np.concatenate(parts, dtype=ID_TYPE, casting="same_kind"),
        np.cumsum([len(part) for part in parts], dtype=ID_TYPE),
        np.array(tasks, ID_TYPE),
    )


def best_fit(documents: Iterable[tuple[int, np.ndarray]], length: int, window: int) -> Iterator[Row]:
    """Rows of at most `length` targets that hold every document whole and once.

    `documents` are pairs of task and ids, of which `window` wait to be chosen. A row takes the one that has waited
    longest, and the next, as long as any two would still fit; then the largest that fits (of equals, the one that came
    first); and instead of a last one that leaves much free, the two that leave least. The rows are a function of the
    arguments alone.

    Raises ValueError if a document has no target or more than `length`: cut it first.

    >>> documents = [(0, [1, 7, 2]), (0, [1, 6, 7, 8, 2]), (1, [1, 0, 8, 2]), (1, [1, 2])]
    >>> [(row.ids.tolist(), row.tasks.tolist()) for row in best_fit(documents, length=6, window=4)]
    [([1, 7, 2, 1, 6, 7, 8, 2], [0, 0]), ([1, 0, 8, 2, 1, 2], [1, 1])]
    """
    waiting = _Waiting()
    for task, ids in documents:
        if not 2 <= len(ids) <= length + 1:
            raise ValueError(f"a document of {len(ids)} ids does not go into a row of {length} targets; cut it first")
        waiting.add(task, ids)
        if waiting.count >= window:
            yield join(waiting.take(length))
    while waiting.count:
        yield join(waiting.take(length))


def concatenate(documents: Iterable[tuple[int, np.ndarray]], length: int) -> Iterator[Row]:
    """Rows of exactly `length` targets but for the last; a document goes on in the next row where one ends.

    `documents` are pairs of task and ids, of any length. Each of their targets is in one row.

    Raises ValueError if a document has no target.

    >>> documents = [(0, [1, 7, 2]), (1, [1, 6, 0, 8, 9, 2])]
    >>> [(row.ids.tolist(), row.tasks.tolist()) for row in concatenate(documents, length=4)]
    [([1, 7, 2, 1, 6, 0], [0, 1]), ([0, 8, 9, 2], [1])]
    """
    taken, free = [], length
    for task, ids in documents:
        first, rest = ids[: free + 1], ids[free:]
        for piece in [*cut(first, length), *(cut(rest, length) if len(rest) > 1 else ())]:
            taken.append((task, piece))
            free -= len(piece) - 1
            if not free:
                yield join(taken)
                taken, free = [], length
    if taken:
        yield join(taken)


class _Waiting:
    """Documents by number of targets, so that the largest that fits is found without a look at the others."""

    def __init__(self):
        self.count = 0
        self._arrived = 0
        self._by_size = defaultdict(deque)  # (number of arrival, task, ids), oldest first
        self._sizes = 0  # bit n is set if a document with n targets waits
        self._arrivals = deque()  # (number of arrival, size), also of documents that are gone

    def add(self, task: int, ids: np.ndarray) -> None:
        size = len(ids) - 1
        self._by_size[size].append((self._arrived, task, ids))
        self._arrivals.append((self._arrived, size))
        self._sizes |= 1 << size
        self._arrived += 1
        self.count += 1

    def take(self, length: int) -> list[tuple[int, np.ndarray]]:
        """Removes and returns the documents of the next row, of `length` targets at most."""
        taken, free, size = [], length, self._size_of_oldest()
        while size > 0:
            taken.append(self._remove(size))
            free -= size
            size = self._next_size(free, length)
        return taken

    def _remove(self, size: int) -> tuple[int, np.ndarray]:
        same_size = self._by_size[size]
        _, task, ids = same_size.popleft()
        if not same_size:
            self._sizes ^= 1 << size
        self.count -= 1
        return task, ids

    def _next_size(self, free: int, length: int) -> int:
        """The size of the document that goes into what is free of a row; 0 or less if there is none."""
        largest = self._sizes.bit_length() - 1
        if 0 < 2 * largest <= free:
            # In order of arrival those that wait stay as different as documents are. If the largest went first, the
            # others would be alike, and so would be what they leave free.
            return self._size_of_oldest()
        size = self._largest(free)
        if size > 0 and free - size > length // MUCH and self._largest(free - size) <= 0:
            return self._larger_of_two(free)
        return size

    def _largest(self, free: int) -> int:
        """The largest size that is not above `free`; -1 if there is none."""
        return (self._sizes & ((2 << free) - 1)).bit_length() - 1

    def _larger_of_two(self, free: int) -> int:
        """The larger of the two sizes that fill most of `free`; the largest that fits if it fills as much alone."""
        best = most = self._largest(free)
        smaller = self._sizes & ((2 << free // 2) - 1)
        while smaller and most < free:
            other = (smaller & -smaller).bit_length() - 1
            smaller &= smaller - 1
            size = self._largest(free - other)
            if other + size > most and (size > other or len(self._by_size[size]) > 1):
                best, most = size, other + size
        return best

    def _size_of_oldest(self) -> int:
        while True:
            number, size = self._arrivals[0]
            same_size = self._by_size[size]
            # Documents of one size leave in the order they came: a younger first one means that this one is gone.
            if same_size and same_size[0][0] == number:
                return size
            self._arrivals.popleft()


def encode_row(row: Row) -> bytes:
    """The row as little-endian int32: the number of documents, their ends, their tasks, the ids.

    >>> np.frombuffer(encode_row(join([(5, [1, 7, 2]), (3, [1, 0, 2])])), "<i4").tolist()
    [2, 3, 6, 5, 3, 1, 7, 2, 1, 0, 2]
    """
    return np.concatenate([[len(row.ends)], row.ends, row.tasks, row.ids], dtype=ID_TYPE, casting="same_kind").tobytes()


def decode_row(record: bytes) -> Row:
    """The row that `encode_row` wrote; its arrays are read-only views of `record`.

    >>> decode_row(encode_row(join([(5, [1, 7, 2]), (3, [1, 0, 2])]))).ends.tolist()
    [3, 6]
    """
    values = np.frombuffer(record, ID_TYPE)
    count = int(values[0])
    return Row(values[1 + 2 * count :], values[1 : 1 + count], values[1 + count : 1 + 2 * count])


def model_arrays(row: Row, length: int) -> dict[str, np.ndarray]:
    """What the model is given of a row, each int32 of shape (length,).

    `tokens` are the inputs and `targets` what they predict (0 on padding); `segments` number the documents from 1 and
    are 0 on padding; `positions` count from 0 in each document; `tasks` are -1 on padding.

    >>> arrays = model_arrays(join([(5, [1, 7, 2]), (3, [1, 0, 8, 2])]), length=6)
    >>> for name, values in arrays.items(): print(f"{name:9}", values.tolist())
    tokens    [1, 7, 1, 0, 8, 0]
    targets   [7, 2, 0, 8, 2, 0]
    segments  [1, 1, 2, 2, 2, 0]
    positions [0, 1, 0, 1, 2, 0]
    tasks     [5, 5, 3, 3, 3, -1]
    """
    used = row.num_targets
    assert used <= length, f"a row of {used} targets in {length} positions"
    sizes = np.diff(row.ends, prepend=0) - 1
    starts = np.cumsum(sizes) - sizes
    values = {
        "tokens": np.delete(row.ids, row.ends - 1),
        "targets": np.delete(row.ids, row.ends - sizes - 1),
        "segments": np.repeat(np.arange(1, len(sizes) + 1), sizes),
        "positions": np.arange(used) - np.repeat(starts, sizes),
        "tasks": np.repeat(row.tasks, sizes),
    }
    arrays = {name: np.full(length, -1 if name == "tasks" else 0, np.int32) for name in values}
    for name, array in arrays.items():
        array[:used] = values[name]
    return arrays


def empty_row() -> Row:
    """A row of no document: all padding.

    >>> model_arrays(empty_row(), length=2)["segments"].tolist()
    [0, 0]
    """
    return Row(*(np.zeros(0, ID_TYPE) for _ in Row._fields))
