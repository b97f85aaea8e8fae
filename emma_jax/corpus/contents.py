"""What the manifest says of each language, pair and collection, from what was written of their shards."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emma_jax import languages
from emma_jax import manifest as manifest_lib


def entries(written: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, manifest_lib.Entry]]:
    """The manifest's `languages`, `pairs` and `collections`; see `write.write_shard` for what is said of a shard."""
    result: dict[str, dict[str, manifest_lib.Entry]] = dict(languages={}, pairs={}, collections={})
    ordered = sorted(written, key=lambda shard: (shard["kind"], shard["name"], shard["split"], shard["shard"]))
    for (kind, name), shards in itertools.groupby(ordered, key=lambda shard: (shard["kind"], shard["name"])):
        of = "pairs" if kind == "pairs" else "collections" if "." in name else "languages"
        result[of][name] = _entry(of, name, [*shards])
    return result


def _entry(of: str, name: str, shards: Sequence[Mapping[str, Any]]) -> manifest_lib.Entry:
    splits = {
        split: manifest_lib.Split(
            tuple(shard["file"] for shard in found), *(_total(found, key) for key in ("rows", "tokens", "bytes"))
        )
        for split, found in ((s, [*g]) for s, g in itertools.groupby(shards, key=lambda shard: shard["split"]))
    }
    num_tokens = _total(shards, "tokens")
    classes = dict(languages=languages.language_class(num_tokens), pairs=languages.pair_class(num_tokens))
    sources = sorted({source for shard in shards for source in shard["sources"]})
    return manifest_lib.Entry(
        splits=splits,
        resource_class=classes.get(of, ""),
        sources={source: sum(shard["sources"].get(source, 0) for shard in shards) for source in sources},
        name=languages.name(name) if of == "languages" else "",
    )


def _total(shards: Iterable[Mapping[str, Any]], key: str) -> int:
    return sum(shard[key] for shard in shards)
