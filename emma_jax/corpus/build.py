"""The whole of a corpus: checks what is asked for, runs the three stages on Beam, and writes the manifest.

The manifest is written last. So a folder without one holds nothing that can be used, and is begun again; a folder with
one of the same config and sources is done; any other is left alone, with an error.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from absl import logging
from etils import epath

from emma_jax import beam_runner, languages
from emma_jax import manifest as manifest_lib
from emma_jax.corpus import progress, readers, stages
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import Report

KINDS = ("documents", "pairs")
# Sections of the config that say where and how the work is done, not what comes out.
NOT_IN_HASH = ("folder", "num_buckets", "num_workers", "beam_options", "sources")


def build(config: Mapping[str, Any], seed: int) -> tuple[manifest_lib.Manifest, bool]:
    """The manifest of the corpus that `config` (the section `corpus`) asks for, and whether it was there already.

    Raises ValueError if the config asks for what cannot be had, or the folder holds another corpus.
    """
    parts, sources = _open_sources(config["sources"])
    pairs = check_pairs(config["pairs"], parts)
    described = {key: _plain(value) for key, value in config.items() if key not in NOT_IN_HASH}
    described |= dict(pairs=sorted("-".join(pair) for pair in pairs), sources=sources, seed=seed)
    config_hash = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    folder = epath.Path(config["folder"])
    if (folder / manifest_lib.FILE_NAME).exists():
        return _check_same(manifest_lib.load(str(folder)), config_hash, sources), True

    settings = stages.Settings(
        folder=str(folder),
        exchange=str(folder / "exchange"),
        seed=seed,
        validation_share=config["validation_share"],
        pairs=pairs,
        filters=_plain(config["filters"]),
        num_buckets=config["num_buckets"],
        rows_per_shard=config["rows_per_shard"],
    )
    _empty(folder)
    run = functools.partial(_run, settings, config["num_workers"], config["beam_options"])
    report, splits = _run_stages(run, settings, parts)
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
    settings.path().rmtree()
    manifest_lib.write(manifest)
    return manifest, False


def check_pairs(pairs: Iterable[str], parts: Iterable[source_lib.Part]) -> tuple[tuple[str, str], ...]:
    """The pairs of the config, in canonical order and sorted.

    Raises ValueError if one is no pair of languages, or no part of a source has both of them.
    """
    parts = list(parts)
    known = frozenset().union(*(part.languages for part in parts))
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
                raise ValueError(f"{pair!r} in config.corpus.pairs: no source has {code}{languages.nearest(code, known)}")
        if not any(part.languages.issuperset(sides) for part in parts):
            raise ValueError(f"{pair!r} in config.corpus.pairs: no source has translations of one text into both")
        result.add(tuple(sorted(sides)))
    return tuple(sorted(result))


def _open_sources(sections: Mapping[str, Any]) -> tuple[list[source_lib.Part], dict[str, dict[str, str]]]:
    """The parts of all sources, and for each source what the manifest says of it."""
    parts, described = [], {}
    for source in source_lib.from_config({name: _plain(value) for name, value in sections.items()}, readers.READERS):
        of_source = readers.READERS[source.reader].parts(source)
        described[source.name] = dict(reader=source.reader, files_sha256=source_lib.fingerprint(of_source))
        parts += of_source
    return parts, described


def _check_same(
    manifest: manifest_lib.Manifest, config_hash: str, sources: Mapping[str, Any]
) -> manifest_lib.Manifest:
    if manifest.config_hash == config_hash:
        return manifest
    changed = sorted(name for name in {*manifest.sources, *sources} if manifest.sources.get(name) != sources.get(name))
    what = f"other files in the sources {', '.join(changed)}" if changed else "another config.corpus or seed"
    raise ValueError(
        f"{manifest.folder!r} holds a corpus made from {what}; choose another config.corpus.folder, or delete this one"
    )


def _empty(folder: epath.Path) -> None:
    """Makes the folder, and removes what an interrupted run left in it."""
    for name in ("exchange", "monolingual", "bilingual"):
        if (folder / name).exists():
            logging.info("%s is left over from a run that did not finish; it is removed and built again", folder / name)
            (folder / name).rmtree()
    folder.mkdir(parents=True, exist_ok=True)


def _run_stages(
    run: Callable[..., list[dict[str, Any]]], settings: stages.Settings, parts: Sequence[source_lib.Part]
) -> tuple[Report, list[dict[str, Any]]]:
    """The reports of all stages together, and what was written of each split."""
    for name in ("documents", "pairs", "held_out", *(f"distinct_{kind}" for kind in KINDS)):
        settings.path(name).mkdir(parents=True, exist_ok=True)
    results = run("read", stages.read_part, [*enumerate(parts)])
    stages.collect_held_out(settings)
    buckets = [*itertools.product(KINDS, range(settings.num_buckets))]
    distinct = run("deduplicate", stages.deduplicate_bucket, buckets)

    report = Report()
    for result in (*results, *distinct):
        report.add(Report.from_json(result["report"]))
    places = {}
    for (kind, bucket), result in zip(buckets, distinct, strict=True):
        for name, split, first, count, rows in result["groups"]:
            for other in manifest_lib.SPLITS:
                places.setdefault((kind, name, other), [])
            places[kind, name, split].append((bucket, first, count, rows))
    pieces = [
        (*key, [place[:3] for place in found], sum(place[3] for place in found)) for key, found in sorted(places.items())
    ]
    return report, run("write", stages.write_split, pieces)


def _run(
    settings: stages.Settings, num_workers: int, beam_options: Sequence[str], name: str, stage: Callable, pieces: Sequence
) -> list[dict[str, Any]]:
    """What the stage returns for each piece of work, in order; kept in files, so that any runner will do."""
    folder = settings.path(f"results_{name}")
    folder.mkdir(parents=True, exist_ok=True)
    work = functools.partial(_work, folder=str(folder), stage=stage, settings=settings)
    with progress.of_files(name, folder, len(pieces)), beam_runner.pipeline(num_workers, beam_options) as pipeline:
        _ = pipeline | beam.Create([*enumerate(pieces)]) | beam.Reshuffle() | beam.Map(work)
    return [json.loads((folder / f"{index:06}.json").read_text()) for index in range(len(pieces))]


def _work(piece: tuple[int, tuple], folder: str, stage: Callable, settings: stages.Settings) -> None:
    index, arguments = piece
    result = json.dumps(stage(settings, *arguments))
    (epath.Path(folder) / f"{index:06}.json").write_text(result)


def _entries(splits: Iterable[Mapping[str, Any]], kind: str) -> dict[str, manifest_lib.Entry]:
    """The manifest's languages (of documents) or pairs, from what was written of each split."""
    entries = {}
    of_kind = sorted((split for split in splits if split["kind"] == kind), key=lambda split: split["name"])
    for name, group in itertools.groupby(of_kind, key=lambda split: split["name"]):
        found = {split["split"]: split for split in group}
        tokens = sum(split["tokens"] for split in found.values())
        sources = {source for split in found.values() for source in split["sources"]}
        entries[name] = manifest_lib.Entry(
            splits={
                key: manifest_lib.Split(tuple(split["files"]), split["rows"], split["tokens"], split["bytes"])
                for key, split in found.items()
            },
            resource_class=(languages.language_class if kind == "documents" else languages.pair_class)(tokens),
            sources={s: sum(split["sources"].get(s, 0) for split in found.values()) for s in sorted(sources)},
            name=languages.name(name) if kind == "documents" else "",
        )
    return entries


def _plain(value: Any) -> Any:
    """A config value as JSON has it."""
    return {key: _plain(item) for key, item in value.items()} if hasattr(value, "items") else value
