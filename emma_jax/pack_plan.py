"""What `pack` will do for one component: which tasks, how many tokens of each, into how many files.

Owns the plan and its file, which lets an interrupted run go on as it was begun. Draws and writes nothing.
"""

import collections
import dataclasses
import hashlib
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from data_tasks import mixtures
from emma_jax import exchange, shares, store

FILE = "plan.json"


@dataclasses.dataclass(frozen=True)
class Draw:
    """What is drawn of one SeqIO task under `name`.

    For training about `tokens` targets, `share` of the component's, out of `size` in one epoch. For validation at most
    `documents`, of a pair those of one `direction` (0 or 1; -1: a language has none).
    """

    name: str
    task: str
    tokens: int = 0
    size: float = 0.0
    share: float = 0.0
    documents: int = 0
    direction: int = -1


@dataclasses.dataclass(frozen=True)
class Plan:
    """The whole of the work for one component. The position of a draw is the task id in its rows."""

    component: str
    fingerprint: str
    row_length: int
    packing: str  # how rows are made, of packing.METHODS
    window: int
    seed: int
    num_shards: int
    buckets_per_shard: int
    draws: tuple[Draw, ...]

    @property
    def num_buckets(self) -> int:
        """Buckets of the exchange; a shard is packed from several if it is more than a worker should hold."""
        return self.num_shards * self.buckets_per_shard

    def draws_by_task(self) -> list[tuple[int, ...]]:
        """Numbers of the draws, those of one task together, as they are made in one go."""
        numbers = collections.defaultdict(list)
        for number, draw in enumerate(self.draws):
            numbers[draw.task].append(number)
        return [tuple(of_task) for of_task in numbers.values()]

    def shard_file(self, shard: int) -> str:
        """The file name of a shard."""
        return f"rows-{shard:05}-of-{self.num_shards:05}.arrayrecord"


def fingerprint(**dependencies) -> str:
    """SHA-256 in hex of all that the rows of a component depend on, as canonical JSON.

    >>> fingerprint(seed=0, window=9) == fingerprint(window=9, seed=0) != fingerprint(seed=1, window=9)
    True
    """
    return hashlib.sha256(json.dumps([store.VERSION, dependencies], sort_keys=True).encode()).hexdigest()


def training_plan(
    component: str, section, sizes: Mapping[str, float], classes: Mapping[str, str], pack, fingerprint: str, seed: int
) -> Plan:
    """The plan for a component whose tasks have `sizes` tokens and are of `classes`.

    `section` is the component's, with its tokens told, and `pack` is config.pack.

    Raises ValueError if no task has a document, or the section cannot be followed.
    """
    task_classes = [classes[name] for name in sizes]
    try:
        tokens = shares.whole(shares.divide(list(sizes.values()), task_classes, section.tokens, section))
    except ValueError as error:
        raise ValueError(f"config.pack.components.{component}: {error}") from error
    total = sum(tokens)
    if total > section.tokens + len(tokens):
        raise ValueError(
            f"config.pack.components.{component} has {section.tokens:,} tokens, and its min_epochs="
            f"{section.min_epochs:g} and min_tokens={section.min_tokens:,} take {total:,}; lower them or give it more"
        )
    if not total:
        raise ValueError(f"the tasks of the component {component} have no documents; look at {section.tasks!r}")
    row_tokens = pack.rows_per_shard * pack.row_length
    return Plan(
        component=component,
        fingerprint=fingerprint,
        row_length=pack.row_length,
        packing=pack.packing,
        window=pack.window_documents,
        seed=seed,
        num_shards=max(1, math.ceil(total / row_tokens)),
        buckets_per_shard=math.ceil(min(row_tokens, total) / exchange.BUCKET_IDS),
        draws=tuple(
            Draw(name, name, wanted, size, wanted / total)
            for (name, size), wanted in zip(sizes.items(), tokens, strict=True)
            if wanted
        ),
    )


def settings(config, component: str) -> dict[str, object]:
    """What `config` says of how the rows of a component are made: key of the config -> value, for those in JSON.

    A component without tasks in the config has only what all components share.
    """
    pack = config.pack
    found = {f"rendering.{key}": value for key, value in _leaves(config.rendering.to_dict())}
    found |= {f"pack.{key}": pack[key] for key in ("row_length", "packing", "window_documents")}
    if component == store.VALIDATION:
        return found | {"pack.validation_documents": pack.validation_documents}
    section = mixtures.resolved(pack).get(component)
    values = mixtures.effective(section) if section else {}
    return found | {f"pack.components.{component}.{key}": value for key, value in _leaves(values)}


def difference(found: store.Store, settings: Mapping[str, object]) -> str:
    """The first of the settings that the rows were packed otherwise with, and both values; "" if there is none."""
    for key, there in found.settings.items():
        if settings.get(key, there) != there:
            return f"were packed with config.{key} of {there!r}, and this config says {settings[key]!r}"
    return ""


def validation_plan(slices: Sequence[Draw], pack, fingerprint: str, seed: int) -> Plan:
    """The plan for the validation component: few documents of each slice, in one shard."""
    return Plan(
        component=store.VALIDATION,
        fingerprint=fingerprint,
        row_length=pack.row_length,
        packing=pack.packing,
        window=pack.window_documents,
        seed=seed,
        num_shards=1,
        buckets_per_shard=1,
        draws=tuple(slices),
    )


def _leaves(section: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in section.items():
        yield from _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else ((prefix + key, value),)


def write(folder: pathlib.Path, plan: Plan) -> None:
    """Writes the plan so that it is either whole or not there."""
    unfinished = folder / (FILE + ".tmp")
    unfinished.write_text(json.dumps(dataclasses.asdict(plan), indent=1))
    unfinished.replace(folder / FILE)


def load(folder: pathlib.Path) -> Plan | None:
    """The plan of an interrupted run in `folder`, if there is one."""
    if not (folder / FILE).exists():
        return None
    values = json.loads((folder / FILE).read_text())
    return Plan(**{**values, "draws": tuple(Draw(**draw) for draw in values["draws"])})
