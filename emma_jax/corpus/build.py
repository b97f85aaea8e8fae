"""The whole of a corpus: checks what is asked for, runs the three stages, and writes the manifest.

The manifest is written last: a folder without one holds nothing that can be used. One of the same config and sources
is done; so is, as far as it got, an interrupted run of the same, whose finished pieces are not done again. Any other
corpus is left alone, with an error.
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
from emma_jax.corpus import card, clean, codes, contents, filters, page, readers, shards, stages, workers
from emma_jax.corpus import exchange as exchange_lib
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import KEPT, Report

EXCHANGE = "exchange"  # folder of unfinished work within that of the corpus; without it nothing there is ours to remove
PLAN = "plan.json"  # in it: what the unfinished work is of
# Keys of the config that say where and how the work is done, not what comes out; sources go in by their files.
NOT_IN_HASH = ("folder", "num_buckets", "num_workers", "exchange", "beam_options", "sources")
BUCKET_BYTES = 64 << 20  # of text; a worker holds a bucket and a sorted copy
EXPANSION = {".parquet": 3, ".gz": 4, ".zst": 4, ".bz2": 5, ".xz": 5, ".lz4": 3, ".zip": 4}  # of text, about


def build(config: Mapping[str, Any], seed: int) -> tuple[manifest_lib.Manifest, bool]:
    """The manifest of the corpus that `config` (the section `corpus`) asks for, and whether it was there already.

    Raises ValueError if the config asks for what cannot be had, or the folder holds another corpus.
    """
    _check(config)
    parts, sources = _open_sources(config["sources"])
    pairs = check_pairs(config["pairs"], parts, config["macrolanguages"])
    config_hash = _hash(config, seed, pairs, sources)
    folder = epath.Path(config["folder"])
    if (folder / manifest_lib.FILE_NAME).exists():
        manifest = _check_same(manifest_lib.load(str(folder)), config_hash, sources)
        if (folder / EXCHANGE).exists():  # all was done but this
            (folder / EXCHANGE).rmtree()
        return manifest, True

    settings = stages.Settings(
        folder=str(folder),
        exchange=str(folder / EXCHANGE),
        seed=seed,
        validation_share=config["validation_share"],
        pairs=pairs,
        macrolanguages=config["macrolanguages"],
        filters=_plain(config["filters"]),
        num_buckets=_begin(folder, config_hash, config["num_buckets"] or _num_buckets(parts)),
    )
    report, written = _run_stages(settings, config, parts)
    if not written:
        settings.path().rmtree()  # so that mended files are read again
        raise ValueError(f"no text is left of the sources {', '.join(sources)}: {_what_was_lost(report)}")
    manifest = manifest_lib.Manifest(
        folder=str(folder),
        version=manifest_lib.VERSION,
        seed=seed,
        config_hash=config_hash,
        licences={name: section["licence"] for name, section in sorted(config["sources"].items())},
        sources=sources,
        **contents.entries(written),
        **report.for_manifest(),
    )
    for pair in sorted({"-".join(pair) for pair in pairs} - set(manifest.pairs)):
        logging.warning("no text is left of %s, which config.corpus.pairs asks for", pair)
    page.write(manifest)
    card.write(manifest)
    manifest_lib.write(manifest)
    settings.path().rmtree()
    return manifest, False


def check_pairs(
    pairs: Iterable[str], parts: Iterable[source_lib.Part], macrolanguages: str = "mala"
) -> tuple[tuple[str, str], ...]:
    """The pairs of the config, in canonical order and sorted.

    Raises ValueError if one is no pair of languages, or no part of a source has both of them.
    """
    offered = [frozenset(codes.normalise(code, macrolanguages) for code in part.languages) for part in parts]
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


def _check(config: Mapping[str, Any]) -> None:
    if not 0 <= config["validation_share"] < 1:
        raise ValueError(
            f"config.corpus.validation_share is {config['validation_share']}; it must be at least 0 and below 1"
        )
    filters.check(config["filters"])
    for key, least in (("num_buckets", 0), ("shard_bytes", 1), ("num_workers", 1)):
        if config[key] < least:
            raise ValueError(f"config.corpus.{key} is {config[key]}; {least} is the least")
    for key, known in (("exchange", ("files", "shuffle")), ("macrolanguages", codes.POLICIES)):
        if config[key] not in known:
            near = languages.nearest(config[key], known)
            raise ValueError(f"config.corpus.{key} is {config[key]!r}{near} (known: {', '.join(known)})")


def _num_buckets(parts: Iterable[source_lib.Part]) -> int:
    """How many buckets make one of about BUCKET_BYTES, by the sizes of the files."""
    files = {file.path: file for part in parts for file in part.files}.values()
    num_bytes = sum(file.num_bytes * EXPANSION.get(epath.Path(file.name).suffix, 1) for file in files)
    return max(1, -(-num_bytes // BUCKET_BYTES))


def _open_sources(sections: Mapping[str, Any]) -> tuple[list[source_lib.Part], dict[str, dict[str, str]]]:
    """The parts of all sources, and for each source what the manifest says of it."""
    parts, described = [], {}
    for source in source_lib.from_config(_plain(sections), readers.READERS):
        of_source = readers.READERS[source.reader].parts(source)
        described[source.name] = dict(
            reader=source.reader,
            files_sha256=source_lib.fingerprint(of_source),
            **{key: getattr(source, key) for key in ("languages", "kind", "columns") if getattr(source, key)},
        )
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
        files = (file for entry in manifest.tasks.values() for split in entry.splits.values() for file in split.files)
        if missing := next((file for file in files if not epath.Path(manifest.path(file)).exists()), ""):
            raise ValueError(
                f"{manifest.path(missing)} is missing from a finished corpus; delete its folder and build it again"
            )
        return manifest
    changed = sorted(name for name in {*manifest.sources, *sources} if manifest.sources.get(name) != sources.get(name))
    what = f"other files of the sources {', '.join(changed)}" if changed else "another config.corpus or seed"
    raise ValueError(
        f"{manifest.folder!r} holds a corpus made from {what}; choose another config.corpus.folder, or delete this one"
    )


def _begin(folder: epath.Path, config_hash: str, num_buckets: int) -> int:
    """Makes the folder, and keeps in it what an interrupted run of the same left. Returns the number of buckets.

    Raises ValueError if there is something in it that no run of ours left.
    """
    plan = folder / EXCHANGE / PLAN
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"config.corpus.folder is {str(folder)!r}, which is a file; name a folder")
    if plan.exists():
        found = json.loads(plan.read_text())
        if found["config_hash"] == config_hash:
            logging.info("going on with the unfinished corpus in %s", folder)
            return found["num_buckets"]
        raise ValueError(
            f"{str(folder)!r} holds an unfinished corpus of another config, seed or sources; run it with those again, "
            "choose another config.corpus.folder, or delete this one"
        )
    # A run that ended before it wrote its plan has left the folder of the plan, and nothing else.
    begun = (
        [plan.parent]
        if plan.parent.exists() and {path.name for path in plan.parent.iterdir()} <= {plan.name + ".tmp"}
        else []
    )
    others = sorted(str(path) for path in folder.iterdir() if path not in begun) if folder.exists() else []
    if others:
        raise ValueError(f"{others[0]} is in the way, and of no corpus; choose another config.corpus.folder")
    plan.parent.mkdir(parents=True, exist_ok=True)
    unfinished = plan.with_name(plan.name + ".tmp")
    unfinished.write_text(json.dumps(dict(config_hash=config_hash, num_buckets=num_buckets)))
    unfinished.replace(plan)
    return num_buckets


def _run_stages(
    settings: stages.Settings, config: Mapping[str, Any], parts: Sequence[source_lib.Part]
) -> tuple[Report, list[dict[str, Any]]]:
    """The reports of all stages together, and what was written of each shard."""

    def run(name: str, stage: Callable, pieces: Iterable[tuple], exchange: workers.Exchange | None = None) -> list:
        return workers.run(
            name,
            functools.partial(stage, settings),
            [*pieces],
            settings.path(f"results_{name}"),
            exchange,
            shuffle=config["exchange"] == "shuffle",
            num_workers=config["num_workers"],
            beam_options=config["beam_options"],
        )

    reports = run("read", stages.read_part, enumerate(parts))
    stages.collect_held_out(settings)
    buckets = [*itertools.product(stages.KINDS, range(settings.num_buckets))]
    distinct = run("deduplicate", stages.deduplicate_bucket, buckets, settings.by_bucket)
    report = Report()
    for result in (*reports, *distinct):
        report.add(Report.from_json(result["report"]))

    found = [(*bucket, result["groups"]) for bucket, result in zip(buckets, distinct, strict=True)]
    pieces = shards.plan(found, settings.num_buckets, config["shard_bytes"], settings.sorted_file)
    writing = functools.partial(stages.write_shards, pieces=pieces)
    written = run("write", writing, ((number,) for number in pieces), exchange_lib.BySize(pieces))
    return report, [*itertools.chain.from_iterable(written)]


def _what_was_lost(report: Report) -> str:
    """Why nothing is left: the first bad file or refused code, or else what each stage dropped."""
    if report.bad_files:
        file, reason = min(report.bad_files.items())
        return f"{file} {reason}" + (
            f", and {len(report.bad_files) - 1} more bad files" if len(report.bad_files) > 1 else ""
        )
    stages_lost = {
        stage: [f"{records:,} {reason}" for reason, records in reasons.items() if reason != KEPT]
        for stage, reasons in report.counts.items()
        if stage != clean.NORMALISE
    }
    return (
        "; ".join(f"{stage} dropped {', '.join(lost)}" for stage, lost in stages_lost.items() if lost) or "all is empty"
    )


def _plain(value: Any) -> Any:
    """A config value as JSON has it."""
    return {key: _plain(item) for key, item in value.items()} if hasattr(value, "items") else value
