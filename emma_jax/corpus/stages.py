"""The three stages of a corpus, each as a function of one piece of work: a part, a bucket, a shard set.

read         a part of a source  -> its cleaned documents and pairs, by bucket, and the hashes of held-out texts
deduplicate  a bucket            -> its distinct records, by language or pair and split, in order of their hashes
write        a language or pair  -> the Parquet shards of a split, from all buckets

Pieces know nothing of each other and may run in any order and place; what goes between stages lies in the folder
`exchange`. The functions return JSON: that is what `corpus.build` puts together.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from emma_jax.corpus import deduplicate, exchange, readers, records, split, write
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import Report

KINDS = ("documents", "pairs")
ROWS_PER_BATCH = 1 << 16
ROUTING = [("source", pa.string()), ("validation", pa.bool_())]
RECORDS = {
    "documents": pa.schema([*((n, pa.string()) for n in ("lang", "text")), ("hash", pa.uint64()), *ROUTING]),
    "pairs": pa.schema(
        [
            *((name, pa.string()) for name in ("src_lang", "tgt_lang", "src_text", "tgt_text")),
            *((name, pa.uint64()) for name in ("src_hash", "tgt_hash")),
            *ROUTING,
        ]
    ),
}
KEYS = {"documents": ["lang", "text"], "pairs": ["src_lang", "tgt_lang", "src_text", "tgt_text"]}
HASHES = {"documents": ["hash"], "pairs": ["src_hash", "tgt_hash"]}
HELD_OUT = pa.schema([("hash", pa.uint64())])


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the stages need of the config; `exchange` is a folder for what goes between them."""

    folder: str
    exchange: str
    seed: int
    validation_share: float
    pairs: tuple[tuple[str, str], ...]
    filters: Mapping[str, float]
    num_buckets: int
    rows_per_shard: int

    def path(self, *names: str) -> epath.Path:
        """A file in the exchange folder."""
        return epath.Path(self.exchange).joinpath(*names)


def make_folders(settings: Settings) -> None:
    """Makes the folders that the stages write to."""
    for name in (*KINDS, "held_out", *(f"distinct_{kind}" for kind in KINDS)):
        settings.path(name).mkdir(parents=True, exist_ok=True)


def read_part(settings: Settings, index: int, part: source_lib.Part) -> dict[str, Any]:
    """Reads, cleans and aligns a part; its records go to files of that index. Returns the report."""
    report = Report()
    with (
        exchange.open_writer(settings.path("documents", f"{index:06}.arrow"), RECORDS["documents"]) as documents,
        exchange.open_writer(settings.path("pairs", f"{index:06}.arrow"), RECORDS["pairs"]) as pairs,
        exchange.open_writer(settings.path("held_out", f"{index:06}.arrow"), HELD_OUT) as held_out,
    ):
        writers = dict(documents=documents, pairs=pairs)
        batches = readers.READERS[part.source.reader].read(part, report)
        for kind, table in records.from_batches(batches, settings.pairs, settings.filters, report):
            table = _route(settings, kind, part.source.name, table)
            hashes = _record_hashes(kind, table)
            exchange.append_by_bucket(
                writers[kind], table, split.buckets(hashes, settings.num_buckets), settings.num_buckets
            )
            validation = table.filter(table["validation"])
            texts = np.unique(np.concatenate([validation[name].to_numpy() for name in HASHES[kind]]))
            exchange.append(held_out, pa.table(dict(hash=texts)))
    return dict(report=report.to_json())


def collect_held_out(settings: Settings) -> None:
    """Joins the hashes of held-out texts of all parts into one sorted file, which every bucket reads."""
    hashes = [np.empty(0, np.uint64)]
    for path in settings.path("held_out").glob("*.arrow"):
        with path.open("rb") as file:
            hashes.append(pa.ipc.open_file(file).read_all()["hash"].to_numpy())
    with settings.path("held_out.npy").open("wb") as file:
        np.save(file, np.unique(np.concatenate(hashes)))


def deduplicate_bucket(settings: Settings, kind: str, bucket: int) -> dict[str, Any]:
    """Deduplicates a bucket of documents or pairs into one file. Returns the report, and the groups in the file.

    A group is a language or pair and a split; it is given as name, split, number of its first batch, number of its
    batches and rows.
    """
    report, groups = Report(), []
    with settings.path("held_out.npy").open("rb") as file:
        held_out = np.load(file)
    paths = sorted(settings.path(kind).glob("*.arrow"))
    table = exchange.read_bucket(paths, bucket, settings.num_buckets, RECORDS[kind])
    table = deduplicate.deduplicate(table, KEYS[kind], HASHES[kind], held_out, report)
    table = _in_order(kind, table)
    with exchange.open_writer(settings.path(f"distinct_{kind}", f"{bucket:06}.arrow"), table.schema) as writer:
        ends = pc.run_end_encode(table["group"].combine_chunks())
        start, batch = 0, 0
        for group, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
            starts = range(start, end, ROWS_PER_BATCH)
            for first in starts:
                exchange.append(writer, table.slice(first, min(ROWS_PER_BATCH, end - first)))
            groups.append([*group.split("/"), batch, len(starts), end - start])
            start, batch = end, batch + len(starts)
    return dict(report=report.to_json(), groups=groups)


def write_split(
    settings: Settings, kind: str, name: str, split_name: str, places: list[tuple[int, int, int, int]]
) -> dict[str, Any]:
    """Writes the shards of a split from `places`: bucket, first batch, number of batches and rows, by bucket.

    Returns what the manifest says of the split, with kind, name and split.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        for bucket, first, count, _ in places:
            path = settings.path(f"distinct_{kind}", f"{bucket:06}.arrow")
            yield from exchange.read(path, range(first, first + count))

    rows, folder = sum(place[3] for place in places), epath.Path(settings.folder)
    written = write.write_split(folder, kind, name, split_name, batches(), rows, settings.rows_per_shard)
    return dict(kind=kind, name=name, split=split_name, **written)


def _route(settings: Settings, kind: str, source: str, table: pa.Table) -> pa.Table:
    """The records with hash, source and split, without their message."""
    validation = split.is_validation(table["message"], settings.seed, settings.validation_share)
    columns = {name: table[name] for name in KEYS[kind]}
    for name in HASHES[kind]:
        side = name.removesuffix("hash")
        columns[name] = split.text_hashes(table[f"{side}lang"], table[f"{side}text"])
    columns |= dict(source=[source] * len(table), validation=validation)
    return pa.table(columns, schema=RECORDS[kind])


def _in_order(kind: str, table: pa.Table) -> pa.Table:
    """The records with their `group`, name/split, ordered by group and then by hash."""
    names = [table["lang"]] if kind == "documents" else [table["src_lang"], table["tgt_lang"]]
    name = pc.binary_join_element_wise(*names, "-")
    split_name = pc.if_else(table["validation"], "validation", "train")
    table = table.append_column("group", pc.binary_join_element_wise(name, split_name, "/"))
    table = table.append_column("order", pa.array(_record_hashes(kind, table)))
    table = table.sort_by([(column, "ascending") for column in ("group", "order", *KEYS[kind])])
    return table.select([*KEYS[kind], "source", "group"])


def _record_hashes(kind: str, table: pa.Table) -> np.ndarray:
    """The hash of each record, which says its bucket and its place in the shards."""
    hashes = [table[name].to_numpy() for name in HASHES[kind]]
    return hashes[0] if kind == "documents" else split.pair_hashes(*hashes)
