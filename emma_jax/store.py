"""A store: the packed rows of one component in ArrayRecord shards, and `store.json`, which says what they are.

Owns both formats and how they are written. `pack` makes stores; `input_pipeline` reads the rows that they name.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from concurrent import futures

from array_record.python import array_record_module
from etils import epath

from emma_jax import packing

VERSION = 2
FILE = "store.json"
LOOKS = 64  # at shards at a time
VALIDATION = "validation"  # the component of the rows that are scored and never trained on


@dataclasses.dataclass(frozen=True)
class Shard:
    """One ArrayRecord file: its name in the component's folder, the rows in it, its size."""

    file: str
    rows: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Task:
    """What the rows hold of one task, or of one slice of the validation component.

    `tokens` are predicted targets and `bytes` those of the text in UTF-8. `share` of the component's tokens is what was
    declared and `epochs` how often the task's documents were drawn; both are 0 in a validation store.
    """

    name: str
    documents: int
    tokens: int
    bytes: int
    share: float = 0.0
    epochs: float = 0.0


@dataclasses.dataclass(frozen=True)
class Store:
    """The rows of one component. A task id in a row is an index into `tasks`."""

    component: str
    fingerprint: str  # of all that the rows depend on
    tokenizer: str  # its fingerprint
    vocab_size: int
    row_length: int
    rows: int
    tokens: int
    fill: float  # share of the rows' positions that predict something
    shards: tuple[Shard, ...]
    tasks: tuple[Task, ...]
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)  # key of the config -> its value then
    version: int = VERSION


def components(folder) -> list[str]:
    """Names of the components that have a store in `folder`."""
    return sorted(path.parent.name for path in epath.Path(folder).glob(f"*/{FILE}"))


def load(folder, component: str) -> Store:
    """The store of a component of the rows in `folder`.

    Raises ValueError if there is none, or it is cut short, or of another version.
    """
    path = epath.Path(folder) / component / FILE
    if not path.exists():
        there = ", ".join(components(folder)) or "none"
        raise ValueError(f"there are no rows of the component {component!r} in {folder}; packed there: {there}")
    try:
        values = json.loads(path.read_text())
        if values["version"] != VERSION:
            raise ValueError(
                f"{path} has version {values['version']} and this code reads {VERSION}; "
                f"remove {path.parent} and pack again"
            )
        shards = tuple(Shard(**shard) for shard in values.pop("shards"))
        tasks = tuple(Task(**task) for task in values.pop("tasks"))
        return Store(**values, shards=shards, tasks=tasks)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove {path.parent} and pack again") from error


def write(folder, store: Store) -> None:
    """Writes the store so that it is either whole or not there; it stands for finished rows."""
    path = epath.Path(folder) / store.component / FILE
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(dataclasses.asdict(store), indent=1, ensure_ascii=False) + "\n")
    unfinished.replace(path)


def write_shard(path: str, rows: Iterable[packing.Row]) -> Shard:
    """Writes the rows to an ArrayRecord file that is either whole or not there."""
    # Groups of one row give random access; zstd:1 halves the size and reads as fast as no compression (measured).
    unfinished = path + ".tmp"
    writer = array_record_module.ArrayRecordWriter(unfinished, "group_size:1,zstd:1")
    for row in rows:
        writer.write(packing.encode_row(row))
    writer.close()
    os.replace(unfinished, path)
    return read_shard(path)


def read_shard(path: str) -> Shard:
    """What `store.json` says of a finished shard, from the file itself."""
    reader = array_record_module.ArrayRecordReader(path)
    rows = reader.num_records()
    reader.close()
    return Shard(os.path.basename(path), rows, os.path.getsize(path))


def check_shards(folder, store: Store) -> None:
    """Raises ValueError if a file that the store names is missing or has another size."""
    paths = [epath.Path(folder) / store.component / shard.file for shard in store.shards]
    # One look per file, at many at a time: of a bucket each takes a while, and a run at full size has thousands.
    with futures.ThreadPoolExecutor(LOOKS) as pool:
        sizes = list(pool.map(_size, paths))
    for path, shard, size in zip(paths, store.shards, sizes, strict=True):
        if size is None:
            raise ValueError(f"the shard {path} is missing; remove {path.parent} and pack again")
        if size != shard.bytes:
            raise ValueError(
                f"the shard {path} has {size} bytes and {FILE} says {shard.bytes}; remove {path.parent} and pack again"
            )


def _size(path: epath.Path) -> int | None:
    """Bytes of a file, or None if it is not there."""
    try:
        return path.stat().length
    except FileNotFoundError:
        return None
