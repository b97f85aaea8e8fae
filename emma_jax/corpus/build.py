"""The whole of a corpus: checks what is asked for, runs the three stages, and writes the manifest.

What is in its folder before, and what may be done with that, is the business of `corpus.folder`.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import logging
from etils import epath

from emma_jax import beam_runner, languages
from emma_jax import manifest as manifest_lib
from emma_jax.corpus import card, clean, codes, contents, filters, page, readers, stages, workers
from emma_jax.corpus import folder as folder_lib
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.statistics import KEPT, Report

# Keys of the config that say where and how the work is done, not what comes out; sources go in by their files.
NOT_IN_CONTENT = ("folder", "num_buckets", "num_workers", "exchange", "beam_options", "sources")
BUCKET_BYTES = 64 << 20  # of text; a worker holds a bucket and a sorted copy
MAX_DEFAULT_BUCKETS = 8192  # from here on buckets grow: each costs each part a batch, and each shard an opened file
BOUNDS = dict(num_buckets=(0, 1 << 16), shard_bytes=(1, 1 << 30), num_workers=(1, 1 << 10))  # a shard is held whole
MAX_NAMED = 5  # bad files and refused codes, where nothing is left
EXPANSION = {".parquet": 3, ".gz": 4, ".zst": 4, ".bz2": 5, ".xz": 5, ".lz4": 3, ".zip": 4}  # of text, about


def build(config: Mapping[str, Any], seed: int) -> tuple[manifest_lib.Manifest, bool]:
    """The manifest of the corpus that `config` (the section `corpus`) asks for, and whether it was there already.

    Raises ValueError if the config asks for what cannot be had, or the folder holds another corpus.
    """
    _check(config, seed)
    parts, sources = _open_sources(config["sources"])
    pairs = check_pairs(config["pairs"], parts, config["macrolanguages"])
    content = folder_lib.Content(
        config={key: value for key, value in _plain(config).items() if key not in NOT_IN_CONTENT}
        | dict(pairs=["-".join(pair) for pair in pairs]),
        seed=seed,
        sources=sources,
        licences={name: section["licence"] for name, section in sorted(config["sources"].items())},
    )
    folder = epath.Path(config["folder"])
    if (folder / manifest_lib.FILE_NAME).exists():
        manifest = manifest_lib.load(str(folder))
        folder_lib.check_same(manifest, content)
        folder_lib.remove_exchange(folder)  # if all was done but this
        return manifest, True

    settings = stages.Settings(
        folder=str(folder),
        exchange=str(folder / folder_lib.EXCHANGE),
        seed=seed,
        validation_share=config["validation_share"],
        pairs=pairs,
        macrolanguages=config["macrolanguages"],
        filters=_plain(config["filters"]),
        num_buckets=folder_lib.begin(folder, content, config["num_buckets"] or _num_buckets(parts)),
        shard_bytes=config["shard_bytes"],
    )
    with folder_lib.alone(folder):
        report, written = _run_stages(settings, config, parts)
        if not written:
            folder_lib.remove_exchange(folder)  # so that mended files are read again
            raise ValueError(f"no text is left of the sources {', '.join(sources)}: {_what_was_lost(report)}")
        manifest = manifest_lib.Manifest(
            folder=str(folder),
            version=manifest_lib.VERSION,
            seed=seed,
            config_hash=content.sha256,
            config=content.config,
            licences=content.licences,
            sources=sources,
            **contents.entries(written),
            **report.for_manifest(),
        )
        for pair in sorted({"-".join(pair) for pair in pairs} - set(manifest.pairs)):
            logging.warning("no text is left of %s, which config.corpus.pairs asks for", pair)
        page.write(manifest)
        card.write(manifest)
        manifest_lib.write(manifest)
        folder_lib.remove_exchange(folder)
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
            raise ValueError(
                f"{pair!r} in config.corpus.pairs: no source has both languages; texts are aligned by the ids of their "
                "messages within a source, so put both into one"
            )
        if languages.ENGLISH not in sides:  # pairs with English are made anyway
            result.add(tuple(sorted(sides)))
    return tuple(sorted(result))


def _check(config: Mapping[str, Any], seed: int) -> None:
    if not 0 <= config["validation_share"] < 1:
        raise ValueError(
            f"config.corpus.validation_share is {config['validation_share']}; it must be at least 0 and below 1"
        )
    filters.check(config["filters"])
    for key, (least, most) in BOUNDS.items():
        if not least <= config[key] <= most:
            raise ValueError(f"config.corpus.{key} is {config[key]}; it must be between {least} and {most}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"config.seed is {seed}; it must be at least 0 and below 2^64")
    for key, known in (("exchange", ("files", "shuffle")), ("macrolanguages", codes.POLICIES)):
        if config[key] not in known:
            near = languages.nearest(config[key], known)
            raise ValueError(f"config.corpus.{key} is {config[key]!r}{near} (known: {', '.join(known)})")
    if "Dataflow" in beam_runner.check(config["beam_options"]) and not config["folder"].startswith("gs://"):
        raise ValueError(f"config.corpus.folder is {config['folder']!r}, where Dataflow cannot write; name a gs:// one")


def _num_buckets(parts: Iterable[source_lib.Part]) -> int:
    """How many buckets make one of about BUCKET_BYTES, by the sizes of the files."""
    files = {file.path: file for part in parts for file in part.files}.values()
    num_bytes = sum(file.num_bytes * EXPANSION.get(epath.Path(file.name).suffix, 1) for file in files)
    return min(max(1, -(-num_bytes // BUCKET_BYTES)), MAX_DEFAULT_BUCKETS)


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


def _run_stages(
    settings: stages.Settings, config: Mapping[str, Any], parts: Sequence[source_lib.Part]
) -> tuple[Report, Iterable[Mapping[str, Any]]]:
    """The reports of all stages together, and what was written of each shard."""

    def stage(name: str, pieces: Callable, work: Callable, exchange: workers.Exchange | None = None) -> workers.Stage:
        folder = str(settings.results(name))
        return workers.Stage(name, folder, pieces, functools.partial(work, settings), exchange)

    to_read = functools.partial(list, [(number, (number, part)) for number, part in enumerate(parts)])
    to_deduplicate, to_write = (functools.partial(each, settings) for each in (stages.buckets, stages.make_shards))
    read = stage("read", to_read, stages.read_part)
    deduplicate = stage("deduplicate", to_deduplicate, stages.deduplicate_bucket, settings.by_bucket)
    write = stage("write", to_write, stages.write_shards, settings.by_size)
    shuffle = config["exchange"] == "shuffle"
    workers.run((read, deduplicate, write), shuffle, config["num_workers"], config["beam_options"])

    report = Report()
    for result in itertools.chain(read.results(), deduplicate.results()):
        report.add(Report.of_json(result["report"]))
    return report, [*itertools.chain.from_iterable(write.results())]


def _what_was_lost(report: Report) -> str:
    """Why nothing is left: bad files and refused codes, and what each stage dropped."""
    named = [f"{file} {reason}" for file, reason in sorted(report.bad_files.items())]
    refused = sorted(report.refused_codes.items(), key=lambda item: (-item[1], item[0]))
    named += [f"the code {code!r} of {source} {reason}" for (code, source, reason), _ in refused]
    if named:
        more = f", and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
        return "; ".join(named[:MAX_NAMED]) + more
    lost = {
        stage: [f"{records:,} {reason}" for reason, records in reasons.items() if reason != KEPT]
        for stage, reasons in report.counts.items()
        if stage != clean.NORMALISE
    }
    found = "; ".join(f"{stage} dropped {', '.join(reasons)}" for stage, reasons in lost.items() if reasons)
    return f"{found}; filters are in config.corpus.filters" if found else "all is empty"


def _plain(value: Any) -> Any:
    """A config value as JSON has it."""
    return {key: _plain(item) for key, item in value.items()} if hasattr(value, "items") else value
