"""The whole of a corpus: checks what is asked for, runs the three stages, and writes the manifest.

The manifest is written last. So a folder without one holds nothing that can be used, and is begun again; a folder with
one of the same config and sources is done; any other is left alone, with an error.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import logging
from etils import epath

from emma_jax import languages
from emma_jax import manifest as manifest_lib
from emma_jax.corpus import readers, stages, workers, write
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import Report

EXCHANGE = "exchange"  # folder of unfinished work within that of the corpus; without it nothing there is ours to remove
# Keys of the config that say where and how the work is done, not what comes out; sources go in by their files.
NOT_IN_HASH = ("folder", "num_buckets", "num_workers", "beam_options", "sources")


def build(config: Mapping[str, Any], seed: int) -> tuple[manifest_lib.Manifest, bool]:
    """The manifest of the corpus that `config` (the section `corpus`) asks for, and whether it was there already.

    Raises ValueError if the config asks for what cannot be had, or the folder holds another corpus.
    """
    _check_numbers(config)
    parts, sources = _open_sources(config["sources"])
    pairs = check_pairs(config["pairs"], parts)
    config_hash = _hash(config, seed, pairs, sources)
    folder = epath.Path(config["folder"])
    if (folder / manifest_lib.FILE_NAME).exists():
        manifest = _check_same(manifest_lib.load(str(folder)), config_hash, sources)
        if (folder / EXCHANGE).exists():  # all was done but this
            (folder / EXCHANGE).rmtree()
        return manifest, True

    _make_folder(folder)
    settings = stages.Settings(
        folder=str(folder),
        exchange=str(folder / EXCHANGE),
        seed=seed,
        validation_share=config["validation_share"],
        pairs=pairs,
        filters=_plain(config["filters"]),
        num_buckets=config["num_buckets"],
        rows_per_shard=config["rows_per_shard"],
    )
    run = functools.partial(_run, settings, config["num_workers"], config["beam_options"])
    report, splits = _run_stages(run, settings, parts)
    if not splits:
        reasons = (f"{records} {reason}" for stage in report.counts.values() for reason, records in stage.items())
        raise ValueError(f"no text is left of the sources {', '.join(sources)}: {', '.join(reasons) or 'all is empty'}")
    for pair in sorted({"-".join(pair) for pair in pairs} - {split["name"] for split in splits}):
        logging.warning("no text is left of %s, which config.corpus.pairs asks for", pair)
    manifest = manifest_lib.Manifest(
        folder=str(folder),
        version=manifest_lib.VERSION,
        seed=seed,
        config_hash=config_hash,
        languages=_entries(splits, "documents"),
        pairs=_entries(splits, "pairs"),
        licences={name: section["licence"] for name, section in sorted(config["sources"].items())},
        sources=sources,
        **report.for_manifest(),
    )
    manifest_lib.write(manifest)
    settings.path().rmtree()
    return manifest, False


def check_pairs(pairs: Iterable[str], parts: Iterable[source_lib.Part]) -> tuple[tuple[str, str], ...]:
    """The pairs of the config, in canonical order and sorted.

    Raises ValueError if one is no pair of languages, or no part of a source has both of them.
    """
    offered = [part.languages for part in parts]
    known = frozenset().union(*offered)
    result = set()
    for pair in pairs:
        sides = pair.split("-")
        if len(sides) != 2 or sides[0] == sides[1]:
            raise ValueError(f"{pair!r} in config.corpus.pairs is not a pair of two languages: xxx_Ssss-yyy_Ssss")
        for code in sides:
            try:
                languages.check(code, known)
            except ValueError as error:
                raise ValueError(f"{pair!r} in config.corpus.pairs: {error}") from error
            if code not in known:
                near = languages.nearest(code, known)
                raise ValueError(f"{pair!r} in config.corpus.pairs: no source provides {code}{near}")
        if not any(part.issuperset(sides) for part in offered):
            raise ValueError(f"{pair!r} in config.corpus.pairs: no source provides one text in both languages")
        if languages.ENGLISH not in sides:  # pairs with English are made anyway
            result.add(tuple(sorted(sides)))
    return tuple(sorted(result))


def _check_numbers(config: Mapping[str, Any]) -> None:
    if not 0 <= config["validation_share"] < 1:
        raise ValueError(
            f"config.corpus.validation_share is {config['validation_share']}; it must be at least 0 and below 1"
        )
    for key in ("num_buckets", "rows_per_shard", "num_workers"):
        if config[key] < 1:
            raise ValueError(f"config.corpus.{key} is {config[key]}; one is the least")


def _open_sources(sections: Mapping[str, Any]) -> tuple[list[source_lib.Part], dict[str, dict[str, str]]]:
    """The parts of all sources, and for each source what the manifest says of it."""
    parts, described = [], {}
    for source in source_lib.from_config(_plain(sections), readers.READERS):
        of_source = readers.READERS[source.reader].parts(source)
        described[source.name] = dict(reader=source.reader, files_sha256=source_lib.fingerprint(of_source))
        parts += of_source
    return parts, described


def _hash(config: Mapping[str, Any], seed: int, pairs: Iterable[tuple[str, str]], sources: Mapping[str, Any]) -> str:
    """SHA-256 in hex of all that the bytes of the corpus depend on."""
    content = {key: value for key, value in _plain(config).items() if key not in NOT_IN_HASH}
    content |= dict(seed=seed, pairs=["-".join(pair) for pair in pairs], sources=sources)
    content |= dict(licences={name: section["licence"] for name, section in config["sources"].items()})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_same(manifest: manifest_lib.Manifest, config_hash: str, sources: Mapping[str, Any]) -> manifest_lib.Manifest:
    if manifest.config_hash == config_hash:
        return manifest
    changed = sorted(name for name in {*manifest.sources, *sources} if manifest.sources.get(name) != sources.get(name))
    what = f"other files of the sources {', '.join(changed)}" if changed else "another config.corpus or seed"
    raise ValueError(
        f"{manifest.folder!r} holds a corpus made from {what}; choose another config.corpus.folder, or delete this one"
    )


def _make_folder(folder: epath.Path) -> None:
    """Makes the folder, without what an interrupted run left in it.

    Raises ValueError if there is something in it that no run of ours left.
    """
    shards = [folder / name for name in write.FOLDERS.values() if (folder / name).exists()]
    if (folder / EXCHANGE).exists():
        logging.info("the run that made %s did not finish; its work is removed and done again", folder)
        for path in (*shards, folder / EXCHANGE):
            path.rmtree()
    elif shards:
        raise ValueError(f"{shards[0]} is in the way, and of no corpus; choose another config.corpus.folder")
    (folder / EXCHANGE).mkdir(parents=True)


def _run(
    settings: stages.Settings,
    num_workers: int,
    beam_options: Sequence[str],
    name: str,
    stage: Callable,
    pieces: Iterable,
) -> list[dict[str, Any]]:
    """The results of a stage; see `workers.run`."""
    stage = functools.partial(stage, settings)
    return workers.run(name, stage, [*pieces], settings.path(f"results_{name}"), num_workers, beam_options)


def _run_stages(
    run: Callable[..., list[dict[str, Any]]], settings: stages.Settings, parts: Sequence[source_lib.Part]
) -> tuple[Report, list[dict[str, Any]]]:
    """The reports of all stages together, and what was written of each split."""
    stages.make_folders(settings)
    reports = run("read", stages.read_part, enumerate(parts))
    stages.collect_held_out(settings)
    buckets = [*itertools.product(stages.KINDS, range(settings.num_buckets))]
    distinct = run("deduplicate", stages.deduplicate_bucket, buckets)

    report = Report()
    for result in (*reports, *distinct):
        report.add(Report.from_json(result["report"]))
    places = {}
    for (kind, bucket), result in zip(buckets, distinct, strict=True):
        for name, split, *place in result["groups"]:
            # Both splits of a name have files, so that whoever reads them needs no exception.
            of_name = places.setdefault((kind, name), {each: [] for each in manifest_lib.SPLITS})
            of_name[split].append((bucket, *place))
    pieces = [(*key, split, found) for key, of_name in sorted(places.items()) for split, found in of_name.items()]
    return report, run("write", stages.write_split, pieces)


def _entries(splits: Iterable[Mapping[str, Any]], kind: str) -> dict[str, manifest_lib.Entry]:
    """The manifest's languages (of documents) or pairs, from what was written of each split."""
    entries = {}
    of_kind = sorted((split for split in splits if split["kind"] == kind), key=lambda split: split["name"])
    for name, group in itertools.groupby(of_kind, key=lambda split: split["name"]):
        found = {split["split"]: split for split in group}
        tokens = sum(split["tokens"] for split in found.values())
        sources = sorted({source for split in found.values() for source in split["sources"]})
        entries[name] = manifest_lib.Entry(
            splits={
                key: manifest_lib.Split(tuple(split["files"]), split["rows"], split["tokens"], split["bytes"])
                for key, split in found.items()
            },
            resource_class=(languages.language_class if kind == "documents" else languages.pair_class)(tokens),
            sources={source: sum(split["sources"].get(source, 0) for split in found.values()) for source in sources},
            name=languages.name(name) if kind == "documents" else "",
        )
    return entries


def _plain(value: Any) -> Any:
    """A config value as JSON has it."""
    return {key: _plain(item) for key, item in value.items()} if hasattr(value, "items") else value
