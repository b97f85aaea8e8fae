"""Which shards a corpus has, and where their records are: planned from what deduplication counted.

A split of a language, pair or collection that is larger than a shard is cut by ranges of hashes, so that its shards are
near to equal and each can be written without the others. Small ones are written several at a time.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from emma_jax import manifest as manifest_lib
from emma_jax.corpus.exchange import Shards


class Counted(NamedTuple):
    """The groups of a kind, each a name and a split, in order; bytes of text of each; rows, [groups, buckets]."""

    groups: list[tuple[str, str]]
    num_bytes: list[int]
    rows: np.ndarray


def count(found: Iterable[tuple[int, Iterable[Sequence[Any]]]], num_buckets: int) -> Counted:
    """What all buckets of a kind have together, from those that each bucket has, as `groups.Group`.

    Both splits of a name are there, so that both have files, and whoever reads them needs no exception.

    >>> counted = count([(1, [["deu_Latn", "train", 30, 250]]), (0, [["deu_Latn", "train", 10, 90]])], num_buckets=2)
    >>> counted.groups, counted.num_bytes, counted.rows.tolist()
    ([('deu_Latn', 'train'), ('deu_Latn', 'validation')], [340, 0], [[10, 30], [0, 0]])
    """
    num_bytes: collections.Counter[tuple[str, str]] = collections.Counter()
    rows: dict[tuple[str, str], np.ndarray] = {}
    for bucket, groups in found:
        for name, split, number, size in groups:
            num_bytes[name, split] += size
            if (name, split) not in rows:
                rows[name, split] = np.zeros(num_buckets, np.uint32)
            rows[name, split][bucket] = number
    order = [(name, split) for name in sorted({name for name, _ in rows}) for split in manifest_lib.SPLITS]
    none = np.zeros(num_buckets, np.uint32)
    stacked = np.array([rows.pop(group, none) for group in order], np.uint32).reshape(-1, num_buckets)
    return Counted(order, [num_bytes[group] for group in order], stacked)


def plan(kind: str, groups: Sequence[tuple[str, str]], num_bytes: Sequence[int], shard_bytes: int) -> Iterator[Shards]:
    """The pieces that write the groups of a kind, from the bytes of text of each.

    >>> names = [("deu_Latn", "train"), ("deu_Latn", "validation"), ("eng_Latn", "train"), ("eng_Latn", "validation")]
    >>> for piece in plan("documents", names, [250, 20, 30, 10], shard_bytes=100):
    ...     print(piece.first, [name for name, _ in piece.groups], piece.shard, piece.num_shards)
    0 ['deu_Latn'] 0 3
    0 ['deu_Latn'] 1 3
    0 ['deu_Latn'] 2 3
    1 ['deu_Latn', 'eng_Latn', 'eng_Latn'] 0 1
    """
    first, held = 0, 0
    for place, (group, size) in enumerate(zip(groups, num_bytes, strict=True)):
        if held + size > shard_bytes:
            if first < place:
                yield Shards(kind, first, tuple(groups[first:place]))
            first, held = place, 0
        held += size
        if size > shard_bytes:
            number = -(-size // shard_bytes)
            yield from (Shards(kind, place, (group,), shard, number) for shard in range(number))
            first, held = place + 1, 0
    if first < len(groups):
        yield Shards(kind, first, tuple(groups[first:]))
