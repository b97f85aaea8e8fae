"""The three stages of a corpus, each as a function of one piece of work: a part, a bucket, a shard.

read         a part of a source -> its cleaned documents and pairs, by bucket, and the hashes of held-out texts
deduplicate  a bucket           -> its distinct records, sorted by language or pair, split and hash
write        a shard            -> the Parquet file, or those of several small languages or pairs

Pieces know nothing of each other and may run in any order and place; what goes between stages lies in the folder
`exchange`. The functions return JSON: that is what `corpus.build` puts together.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from emma_jax import languages
from emma_jax.corpus import deduplicate, exchange, groups, hashing, readers, records, write
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import DEDUPLICATE, Report

KINDS = ("documents", "pairs")
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
KEYS = {"documents": ["name", "lang", "text"], "pairs": ["src_lang", "tgt_lang", "src_text", "tgt_text"]}
SORTED = {  # of a deduplicated bucket
    kind: pa.schema([field for field in schema if field.name not in TEXT_HASHES[kind]])
    for kind, schema in RECORDS.items()
}
ROUND_BYTES = 32 << 20  # held by a worker before it writes a batch for each bucket


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

    def path(self, *names: str) -> epath.Path:
        """A file in the exchange folder."""
        return epath.Path(self.exchange).joinpath(*names)

    @property
    def by_bucket(self) -> exchange.ByBucket:
        """The way of records from reading to deduplicating."""
        return exchange.ByBucket(self.exchange, self.num_buckets)

    def sorted_file(self, kind: str, bucket: int) -> epath.Path:
        """The file of a deduplicated bucket."""
        return self.path(f"distinct_{kind}", f"{bucket:06}.arrow")


def read_part(settings: Settings, index: int, part: source_lib.Part) -> dict[str, Any]:
    """Reads, cleans and aligns a part; its records go to files of that index. Returns the report."""
    report, held_out = Report(), [np.empty(0, np.uint64)]
    rounds = {kind: _Rounds(settings, kind, index, report) for kind in KINDS}
    cleaning = records.Cleaning(part, settings.pairs, settings.macrolanguages, settings.filters, report)
    try:
        for kind, table in cleaning.tables(readers.READERS[part.source.reader].read(part, report)):
            table = _route(settings, kind, part.source.name, table)
            rounds[kind].add(table)
            validation = table.filter(table["validation"])
            held_out += [np.unique(validation[name].to_numpy()) for name in TEXT_HASHES[kind]]
    finally:
        for each in rounds.values():
            each.close()
    path = settings.path("held_out", f"{index:06}.npy")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, np.unique(np.concatenate(held_out)))
    return dict(report=report.to_json())


def collect_held_out(settings: Settings) -> None:
    """Joins the hashes of held-out texts of all parts into one sorted file, which every bucket reads."""
    hashes = [np.empty(0, np.uint64)]
    for path in exchange.list_files(settings.path("held_out"), ".npy"):
        with path.open("rb") as file:
            hashes.append(np.load(file))
    with settings.path("held_out.npy").open("wb") as file:
        np.save(file, np.unique(np.concatenate(hashes)))


def deduplicate_bucket(settings: Settings, kind: str, bucket: int, batches: Iterable[pa.RecordBatch]) -> dict[str, Any]:
    """Deduplicates a bucket of documents or pairs into one file. Returns the report, and the groups in the file.

    A group is a `groups.Group`; they are given in the order of the file.
    """
    report = Report()
    with settings.path("held_out.npy").open("rb") as file:
        held_out = np.load(file)
    table = pa.Table.from_batches(batches, RECORDS[kind])
    table = deduplicate.deduplicate(table, KEYS[kind], TEXT_HASHES[kind], held_out, report)
    table, found = groups.sort(kind, table.select(SORTED[kind].names))
    with exchange.open_writer(settings.sorted_file(kind, bucket), table.schema) as writer:
        exchange.write_sorted(writer, table)
    for group in found:
        report.names[DEDUPLICATE][group.name] += group.rows
    return dict(report=report.to_json(), groups=found)


def write_shards(
    settings: Settings, number: int, pieces: Mapping[int, exchange.Shards], batches: Iterable[pa.RecordBatch]
) -> list[dict[str, Any]]:
    """Writes the shard, or the shards, of the piece with this number. Returns what the manifest says of each."""
    piece = pieces[number]
    tables = [SORTED[piece.kind].empty_table()]
    for batch in batches:
        shards = hashing.ranges(batch["hash"].to_numpy(), piece.num_shards)
        tables.append(pa.Table.from_batches([batch]).filter(pa.array(shards == piece.shard)))
    table, found = groups.sort(piece.kind, pa.concat_tables(tables))
    ends = np.cumsum([group.rows for group in found], dtype=np.int64).tolist()
    rows = {group[:2]: table.slice(end - group.rows, group.rows) for group, end in zip(found, ends, strict=True)}
    written = []
    for name, split in piece.groups:
        file = write.file_name(piece.kind, name, split, piece.shard, piece.num_shards)
        shard = rows.get((name, split), table.slice(0, 0))
        described = write.write_shard(epath.Path(settings.folder), file, piece.kind, name, shard)
        written.append(dict(kind=piece.kind, name=name, split=split, shard=piece.shard, **described))
    return written


class _Rounds:
    """The file of a part's records of a kind: gathers tables until a round is worth writing."""

    def __init__(self, settings: Settings, kind: str, index: int, report: Report):
        self._kind = kind
        self._report = report
        self._num_buckets = settings.num_buckets
        self._opened = exchange.open_writer(settings.by_bucket.path(kind, index), RECORDS[kind])
        self._writer = self._opened.__enter__()
        self._tables: list[pa.Table] = []
        self._num_bytes = 0

    def add(self, table: pa.Table) -> None:
        if len(table):
            self._tables.append(table)
            self._num_bytes += table.nbytes
        if self._num_bytes >= ROUND_BYTES:
            self._write()

    def close(self) -> None:
        self._write()
        self._opened.__exit__(None, None, None)

    def _write(self) -> None:
        if self._tables:
            # Equal records all meet in one bucket, and there may be millions of one: few are let through.
            table = deduplicate.distinct(pa.concat_tables(self._tables), KEYS[self._kind], self._report)
            buckets = hashing.ranges(table["hash"].to_numpy(), self._num_buckets)
            exchange.write_round(self._writer, table, buckets, self._num_buckets)
            self._tables, self._num_bytes = [], 0


def _route(settings: Settings, kind: str, source: str, table: pa.Table) -> pa.Table:
    """The records with hashes, source and split, without their message."""
    columns = {name: table[name] for name in KEYS[kind]}
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
