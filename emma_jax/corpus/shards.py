"""Which shards a corpus has, and where their records are: planned from what deduplication counted.

A split of a language, pair or collection that is larger than a shard is cut by ranges of hashes, so that its shards are
near to equal and each can be written without the others. Small ones are written several at a time.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from emma_jax import manifest as manifest_lib
from emma_jax.corpus import exchange

# (kind, bucket) and, of each group in its file, name, split, rows and bytes of text, in the order of the file.
Bucket = tuple[str, int, Sequence[Sequence[Any]]]


@dataclasses.dataclass
class _Group:
    """A split of a name, and where it is: bucket -> first row and end."""

    name: str
    split: str
    num_bytes: int = 0
    rows: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)


def plan(
    buckets: Iterable[Bucket], num_buckets: int, shard_bytes: int, path: Callable[[str, int], Any]
) -> dict[int, exchange.Shards]:
    """The pieces that write a corpus, by number; `path` gives the file of a deduplicated bucket.

    Both splits of a name have files, so that whoever reads them needs no exception.

    >>> buckets = [("documents", 0, [["deu_Latn", "train", 30, 250], ["eng_Latn", "train", 10, 90]])]
    >>> pieces = plan(buckets, 1, shard_bytes=100, path="{}-{}".format)
    >>> [(piece.groups[0], piece.shard, piece.num_shards, piece.places) for piece in pieces.values()]
    [(('deu_Latn', 'train'), 0, 3, (('documents-0', 0, 30),)),
     (('deu_Latn', 'train'), 1, 3, (('documents-0', 0, 30),)),
     (('deu_Latn', 'train'), 2, 3, (('documents-0', 0, 30),)),
     (('deu_Latn', 'validation'), 0, 1, (('documents-0', 30, 40),))]
    """
    pieces = []
    for kind, groups in _groups(buckets).items():
        bundle, num_bytes = [], 0
        for group in groups:
            if num_bytes + group.num_bytes > shard_bytes:
                pieces += _bundled(kind, bundle, path)
                bundle, num_bytes = [], 0
            if group.num_bytes > shard_bytes:
                pieces += _cut(kind, group, num_buckets, shard_bytes, path)
            else:
                bundle.append(group)
                num_bytes += group.num_bytes
        pieces += _bundled(kind, bundle, path)
    return dict(enumerate(pieces))


def _groups(buckets: Iterable[Bucket]) -> dict[str, list[_Group]]:
    """The groups of each kind, in order."""
    found: dict[str, dict[str, dict[str, _Group]]] = collections.defaultdict(dict)
    for kind, bucket, groups in buckets:
        end = 0
        for name, split, rows, num_bytes in groups:
            splits = found[kind].setdefault(name, {each: _Group(name, each) for each in manifest_lib.SPLITS})
            splits[split].num_bytes += num_bytes
            splits[split].rows[bucket] = (end, end + rows)
            end += rows
    return {
        kind: [group for _, splits in sorted(names.items()) for group in splits.values()]
        for kind, names in found.items()
    }


def _bundled(kind: str, groups: Sequence[_Group], path: Callable[[str, int], Any]) -> Iterator[exchange.Shards]:
    """One piece for all groups, which follow each other; none if there are none."""
    ranges: dict[int, tuple[int, int]] = {}
    for group in groups:
        for bucket, (start, end) in group.rows.items():
            ranges[bucket] = (min(start, ranges.get(bucket, (start, end))[0]), max(end, ranges.get(bucket, (0, 0))[1]))
    places = tuple((str(path(kind, bucket)), *rows) for bucket, rows in sorted(ranges.items()))
    if groups:
        yield exchange.Shards(kind, tuple((group.name, group.split) for group in groups), 0, 1, places)


def _cut(
    kind: str, group: _Group, num_buckets: int, shard_bytes: int, path: Callable[[str, int], Any]
) -> Iterator[exchange.Shards]:
    """A piece for each shard of a group, with the buckets whose range of hashes meets that of the shard."""
    number = -(-group.num_bytes // shard_bytes)
    for shard in range(number):
        places = tuple(
            (str(path(kind, bucket)), *rows)
            for bucket, rows in sorted(group.rows.items())
            if bucket * number < (shard + 1) * num_buckets and shard * num_buckets < (bucket + 1) * number
        )
        yield exchange.Shards(kind, ((group.name, group.split),), shard, number, places)
