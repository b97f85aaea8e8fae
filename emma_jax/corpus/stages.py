"""The three stages of a corpus, each as a function of one piece of work: a part, a bucket, a shard.

read         a part of a source -> its cleaned documents and pairs, by bucket, and the hashes of held-out texts
deduplicate  a bucket           -> its distinct records, sorted by language or pair, split and hash
write        a shard            -> the Parquet file, or those of several small languages or pairs

Pieces know nothing of each other and may run in any order and place; what goes between stages lies in the folder
`exchange`. The functions return JSON: that is what `corpus.build` puts together. `buckets` and `make_shards` give the
pieces of a stage from what the one before left.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from emma_jax import languages
from emma_jax.corpus import deduplicate, exchange, groups, hashing, readers, records, shards, write
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import DEDUPLICATE, Report

ROUTING = [("hash", pa.uint64()), ("source", pa.string()), ("validation", pa.bool_())]
TEXT_HASHES = {"documents": ["text_hash"], "pairs": ["src_hash", "tgt_hash"]}
RECORDS = {
    "documents": pa.schema(
        [*((name, pa.string()) for name in ("name", "lang", "text")), ("text_hash", pa.uint64()), *ROUTING]
    ),
    "pairs": pa.schema(
        [
            *((name, pa.string()) for name in ("src_lang", "tgt_lang", "src_text", "tgt_text")),
            *((name, pa.uint64()) for name in ("src_hash", "tgt_hash")),
            *ROUTING,
        ]
    ),
}
HELD_OUT = "held_out.npy"  # in the exchange: hashes of all held-out texts
KEYS = {"documents": ["name", "text"], "pairs": ["src_lang", "tgt_lang", "src_text", "tgt_text"]}
SORTED = {  # of a deduplicated bucket
    kind: pa.schema([field for field in schema if field.name not in TEXT_HASHES[kind]])
    for kind, schema in RECORDS.items()
}
# Held by a worker before it writes a batch for each bucket: at least so much, and for each bucket so much.
ROUND_BYTES, BATCH_BYTES = 32 << 20, 16 << 10
MAX_BUCKET_BYTES = (1 << 31) - 1  # what one column of strings holds


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the stages need of the config; `exchange` is a folder for what goes between them."""

    folder: str
    exchange: str
    seed: int
    validation_share: float
    pairs: tuple[tuple[str, str], ...]
    macrolanguages: str
    filters: Mapping[str, Mapping[str, float]]
    num_buckets: int
    shard_bytes: int

    def path(self, *names: str) -> epath.Path:
        """A file in the exchange folder."""
        return epath.Path(self.exchange).joinpath(*names)

    @property
    def by_bucket(self) -> exchange.ByBucket:
        """The way of records from reading to deduplicating."""
        return exchange.ByBucket(self.exchange, self.num_buckets)

    @property
    def by_size(self) -> exchange.BySize:
        """The way of records from deduplicating to writing."""
        return exchange.BySize(self.exchange, self.num_buckets)

    def results(self, stage: str) -> epath.Path:
        """The folder with the results of a stage."""
        return self.path(f"results_{stage}")


def read_part(settings: Settings, index: int, part: source_lib.Part) -> dict[str, Any]:
    """Reads, cleans and aligns a part; its records go to files of that index. Returns the report."""
    report, held_out = Report(), [np.empty(0, np.uint64)]
    cleaning = records.Cleaning(part, settings.pairs, settings.macrolanguages, settings.filters, report)
    with contextlib.ExitStack() as stack:
        rounds = {kind: stack.enter_context(_Rounds(settings, kind, index, report)) for kind in exchange.KINDS}
        for kind, table in cleaning.tables(readers.READERS[part.source.reader].read(part, report)):
            table = _route(settings, kind, part.source.name, table)
            rounds[kind].add(table)
            validation = table.filter(table["validation"])
            held_out += [np.unique(validation[name].to_numpy()) for name in TEXT_HASHES[kind]]
    path = settings.path("held_out", f"{index:06}.npy")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, np.unique(np.concatenate(held_out)))
    return dict(report=report.as_json())


def buckets(settings: Settings) -> list[tuple[int, tuple[str, int]]]:
    """The pieces to deduplicate. Joins what all parts hold out into one sorted file, which every bucket reads."""
    hashes = [np.empty(0, np.uint64)]
    for path in exchange.list_files(settings.path("held_out"), ".npy"):
        with path.open("rb") as file:
            hashes.append(np.load(file))
    with exchange.replacing(settings.path(HELD_OUT)) as file:
        np.save(file, np.unique(np.concatenate(hashes)))
    _load_held_out.cache_clear()
    return settings.by_bucket.pieces()


def deduplicate_bucket(
    settings: Settings, kind: str, bucket: int, num_files: int, batches: Iterable[pa.RecordBatch]
) -> dict[str, Any]:
    """Deduplicates a bucket of documents or pairs into one file. Returns the report, and the groups in the file.

    A group is a `groups.Group`; they are given in the order of the file.
    """
    del num_files  # is for those who gather the batches
    report = Report()
    held_out = _load_held_out(str(settings.path(HELD_OUT)))
    # Without a name, a table is freed as soon as the next one is made of it.
    table, found = groups.sort(
        kind,
        deduplicate.deduplicate(
            _whole_bucket(settings, kind, bucket, batches), KEYS[kind], TEXT_HASHES[kind], held_out, report
        ).select(SORTED[kind].names),
    )
    with exchange.open_writer(settings.by_size.path(kind, bucket), table.schema) as writer:
        exchange.write_sorted(writer, table)
    for group in found:
        report.names[DEDUPLICATE][group.name] += group.rows
    return dict(report=report.as_json(), bucket=bucket, groups=found)


def _whole_bucket(settings: Settings, kind: str, bucket: int, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    held, num_bytes = [], 0
    for batch in batches:
        held.append(batch)
        num_bytes += batch.nbytes
        if num_bytes > MAX_BUCKET_BYTES:
            raise source_lib.BadFile(
                f"bucket {bucket} of {settings.num_buckets} has over 2 GiB of {kind}; delete {settings.folder!r}, and "
                f"build with --config.corpus.num_buckets={4 * settings.num_buckets}"
            )
    return pa.Table.from_batches(held, RECORDS[kind])


@functools.lru_cache(maxsize=1)
def _load_held_out(path: str) -> np.ndarray:
    with epath.Path(path).open("rb") as file:
        return np.load(file)


def make_shards(settings: Settings) -> list[tuple[int, tuple[exchange.Shards]]]:
    """The pieces to write. Keeps what they find their records by, and removes what is deduplicated by now."""
    planned: list[exchange.Shards] = []
    for kind in exchange.KINDS:
        counted = shards.count(_deduplicated(settings, kind), settings.num_buckets)
        settings.by_size.write_ends(kind, counted.rows)
        planned += shards.plan(kind, counted.groups, counted.num_bytes, settings.shard_bytes)
    pieces = [(number, (piece,)) for number, piece in enumerate(planned)]
    settings.by_size.write_pieces(pieces)
    for kind in exchange.KINDS:
        if settings.path(kind).exists():
            settings.path(kind).rmtree()
    return pieces


def _deduplicated(settings: Settings, kind: str) -> Iterator[tuple[int, list]]:
    """Each bucket of a kind, and the groups in it."""
    found = exchange.list_files(settings.results("deduplicate"), ".json")
    for text in exchange.read_texts(path for path in found if settings.by_bucket.kind_of(int(path.stem)) == kind):
        result = json.loads(text)
        yield result["bucket"], result["groups"]


def write_shards(settings: Settings, piece: exchange.Shards, batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Writes the shard, or the shards, of a piece. Returns what the manifest says of each."""
    table, found = groups.sort(piece.kind, pa.concat_tables(_own_records(piece, batches)))
    ends = np.cumsum([group.rows for group in found], dtype=np.int64).tolist()
    rows = {group[:2]: table.slice(end - group.rows, group.rows) for group, end in zip(found, ends, strict=True)}
    written = []
    for name, split in piece.groups:
        file = write.file_name(piece.kind, name, split, piece.shard, piece.num_shards)
        shard = rows.get((name, split), table.slice(0, 0))
        described = write.write_shard(epath.Path(settings.folder), file, piece.kind, name, shard)
        written.append(dict(kind=piece.kind, name=name, split=split, shard=piece.shard, **described))
    return written


def _own_records(piece: exchange.Shards, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    yield SORTED[piece.kind].empty_table()
    for batch in batches:
        shard = hashing.ranges(batch["hash"].to_numpy(), piece.num_shards)
        yield pa.Table.from_batches([batch]).filter(pa.array(shard == piece.shard))


class _Rounds:
    """The file of a part's records of a kind, if there are any: gathers tables until a round is worth writing."""

    def __init__(self, settings: Settings, kind: str, index: int, report: Report):
        self._kind = kind
        self._report = report
        self._num_buckets = settings.num_buckets
        self._path = settings.by_bucket.path(kind, index)
        self._full = max(ROUND_BYTES, BATCH_BYTES * settings.num_buckets)
        self._file = contextlib.ExitStack()
        self._writer: pa.RecordBatchFileWriter | None = None
        self._tables: list[pa.Table] = []
        self._num_bytes = 0

    def add(self, table: pa.Table) -> None:
        if len(table):
            self._tables.append(table)
            self._num_bytes += table.nbytes
        if self._num_bytes >= self._full:
            self._write()

    def __enter__(self) -> "_Rounds":
        return self

    def __exit__(self, *error) -> None:
        with self._file:
            self._write()

    def _write(self) -> None:
        if not self._tables:
            return
        # Equal records all meet in one bucket, and there may be millions of one: few are let through.
        table = deduplicate.distinct(pa.concat_tables(self._tables), KEYS[self._kind], self._report)
        self._tables, self._num_bytes = [], 0
        self._writer = self._writer or self._file.enter_context(exchange.open_writer(self._path, RECORDS[self._kind]))
        buckets = hashing.ranges(table["hash"].to_numpy(), self._num_buckets)
        exchange.write_round(self._writer, table, buckets, self._num_buckets)


def _route(settings: Settings, kind: str, source: str, table: pa.Table) -> pa.Table:
    """The records with hashes, source and split, without their message."""
    columns = {name: table[name] for name in RECORDS[kind].names if name in table.column_names}
    if kind == "documents":
        messages = columns["text_hash"] = hashing.text_hashes(table["text"])
        columns["hash"] = hashing.with_language(messages, table["name"])
    else:
        src, tgt = (hashing.text_hashes(table[f"{side}_text"]) for side in ("src", "tgt"))
        columns |= dict(src_hash=src, tgt_hash=tgt)
        sides = hashing.with_language(src, table["src_lang"]), hashing.with_language(tgt, table["tgt_lang"])
        columns["hash"] = hashing.pair_hashes(*sides)
        # A pair without a message id belongs to its English side, else to its first.
        messages = np.where(pc.equal(table["tgt_lang"], languages.ENGLISH).to_numpy(), tgt, src)
    if "message" in table.column_names:
        messages = hashing.text_hashes(table["message"])
    columns["source"] = pa.array([source], pa.string()).take(pa.array(np.zeros(len(table), np.int64)))
    columns["validation"] = hashing.is_held_out(messages, settings.seed, settings.validation_share)
    return pa.table(columns, schema=RECORDS[kind])
