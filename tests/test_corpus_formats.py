"""One corpus of a dozen sources in all formats, each with some damage: what is in it, and that everyone can read it."""

import collections
import os
import pathlib
import subprocess
import sys

import mixed_sources
import pytest
from mixed_sources import german_english, sentence, serbian
from test_corpus import (  # noqa: F401, the tests run on `built` of this module
    contents,
    rows,
    shuffled_files,
    test_no_held_out_text_is_in_training,
    test_no_record_is_there_twice,
)

import data_tasks
from configs import base
from emma_jax import manifest as manifest_lib
from emma_jax import tokenizer, train_tokenizer
from emma_jax.corpus import build, codes, readers, source, statistics
from emma_jax.corpus.overview import kind_of
from emma_jax.corpus.statistics import Report, plural

ROOT = pathlib.Path(__file__).parent.parent
GERMAN_ENGLISH = "deu_Latn-eng_Latn"
# Tiny's translations have the Portuguese side in one example of six, and the last shard of one split is cut.
TFDS = mixed_sources.HAS_TFDS
BAD = mixed_sources.BAD | (mixed_sources.BAD_OF_TFDS if TFDS else {})
CONFIG = """
import sys
sys.path.insert(0, {tests!r})
import mixed_sources
from configs import base


def get_config():
    config = base.get_config()
    config.run_name = "mixed"
    config.seed = 1
    config.corpus = mixed_sources.config({sources!r}, {folder!r})
    return config
"""


def run_program(*arguments):
    command = [sys.executable, "-m", "emma_jax.corpus", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The folder of all sources."""
    folder = tmp_path_factory.mktemp("formats") / "sources"
    mixed_sources.write(folder)
    return folder


@pytest.fixture(scope="module")
def config_file(sources):
    """A config file that builds a corpus of them."""
    file = sources.parent / "mixed.py"
    tests, folder = str(pathlib.Path(__file__).parent), str(sources.parent / "corpus")
    file.write_text(CONFIG.format(tests=tests, sources=str(sources), folder=folder))
    return file


@pytest.fixture(scope="module")
def program(config_file):
    """The program, when it has run."""
    return run_program(f"--config={config_file}")


@pytest.fixture(scope="module")
def built(program, sources):
    """The manifest of the corpus that the program built."""
    assert program.returncode == 0, program.stderr
    return manifest_lib.load(str(sources.parent / "corpus"))


@pytest.fixture(scope="module")
def yielded(sources):
    """What the readers give without any stage: all batches of each part, and their report."""
    parts, _ = build._open_sources(mixed_sources.config(sources, "").sources)
    report = Report()
    return [(part, [*readers.READERS[part.source.reader].read(part, report)]) for part in parts], report


def both_splits(manifest, name):
    """The rows of a task."""
    return [row for split in manifest_lib.SPLITS for row in rows(manifest, {name: manifest.tasks[name]}, split)[name]]


def total(manifest, stage, *kinds):
    """Records that a stage let pass of languages, pairs or collections."""
    return sum(records for name, records in manifest.records[stage].items() if kind_of(name) in kinds)


def dropped(manifest, stage):
    """Records that a stage dropped, for whatever reason."""
    return sum(records for reason, records in manifest.counts[stage].items() if reason != "kept")


def test_program_says_what_is_there_and_names_bad_files(program, built):
    lines = [line.split("] ", 1)[-1] for line in program.stderr.splitlines()]
    for kind in ("language", "pair", "collection"):
        entries = getattr(built, f"{kind}s")
        splits = [[entry.splits[split] for entry in entries.values()] for split in manifest_lib.SPLITS]
        sizes = [(sum(each.rows for each in split), sum(each.tokens for each in split)) for split in splits]
        said = (f"{plural(found, 'row')} and {plural(tokens, 'token')} for" for found, tokens in sizes)
        of_splits = ", ".join(map(" ".join, zip(said, manifest_lib.SPLITS, strict=True)))
        assert f"{plural(len(entries), kind)}: {of_splits}" in lines
    for bad in built.bad_files:
        assert f"bad file {bad['file']}: {bad['reason']}" in lines
    assert f"{len(BAD)} bad files, 6 refused codes" in lines
    assert "refused as stands for no single language: mul of mala_parquet (1 record)" in lines
    assert lines[-1].endswith(f"corpus in {built.folder!r} is done")
    assert "Traceback" not in program.stderr


def test_a_missing_folder_is_one_sentence_and_status_2(config_file, tmp_path):
    changes = (f"--config.corpus.sources.mono.path={tmp_path}/absent", f"--config.corpus.folder={tmp_path}/corpus")
    result = run_program(f"--config={config_file}", *changes)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        f"error: source 'mono' is not there: '{tmp_path}/absent' is neither a folder nor a file"
    )
    assert "Traceback" not in result.stderr and not (tmp_path / "corpus").exists()


def test_entries(built):
    assert set(built.languages) == {
        "cym_Latn", "deu_Latn", "eng_Latn", "fra_Latn", "jpn_Jpan", "por_Latn", "rus_Cyrl", "srp_Cyrl", "srp_Latn",
        "swh_Latn",
    }  # fmt: skip
    with_english = {"cym_Latn", "deu_Latn", "fra_Latn", "jpn_Jpan", "por_Latn", "rus_Cyrl", "srp_Cyrl", "srp_Latn"}
    of_memories = {"deu_Latn-srp_Cyrl", "deu_Latn-srp_Latn"}
    asked_for = {"srp_Cyrl-srp_Latn"}
    of_tfds = {"deu_Latn-por_Latn"} if TFDS else set()
    assert set(built.pairs) == of_memories | asked_for | of_tfds | {
        "-".join(sorted((code, "eng_Latn"))) for code in with_english
    }
    assert set(built.collections) == {"code.stack", "paper.peS2o", "book.gutenberg"}


def test_sources_licences_and_original_codes(built):
    expected = {name: licence for name, (_, licence, _) in mixed_sources.SOURCES.items()}
    assert built.licences == expected | ({"translations": "CC0"} if TFDS else {})
    assert {name: described["reader"] for name, described in built.sources.items()} == {
        name: reader for name, (reader, _, _) in mixed_sources.SOURCES.items()
    } | ({"translations": "tfds"} if TFDS else {})
    assert built.sources["books"]["kind"] == "book"

    mapped = {(code["source"], code["spelling"]): (code["code"], code["records"]) for code in built.mapped_codes}
    assert mapped["mala_parquet", "deu_Latn"] == ("deu_Latn", 26) and mapped["mala_parquet", "de"] == ("deu_Latn", 1)
    assert mapped["opus_dedup", "sr"] == ("srp_Cyrl", 20)
    assert mapped["table", "srp_Latn"] == ("srp_Latn", 16)
    assert mapped["mono", "srp"] == ("srp_Cyrl", 30) and mapped["mono", "fr"] == ("fra_Latn", 1)
    assert mapped["memories", "en"][0] == "eng_Latn" and mapped["tatoeba", "deu"] == ("deu_Latn", 20)
    refused = {(code["code"], code["source"]): code["records"] for code in built.refused_codes}
    assert refused == mixed_sources.REFUSED | {("qq", "catalogs"): 14, ("en_GB", "catalogs"): 14}


def test_bad_files_are_named(built):
    assert [bad["file"] for bad in built.bad_files] == sorted(BAD)
    for bad in built.bad_files:
        assert BAD[bad["file"]] in bad["reason"]


def test_readers_counts_are_those_of_what_they_yield(built, yielded):
    parts, report = yielded
    found = built.counts["read"]
    assert found == report.counts["read"] | {"bad_file": len(report.bad_files)}
    assert found["kept"] == sum(len(batch) for _, batches in parts for batch in batches)
    assert found["bad_file"] == len(BAD)
    assert {reason: found[reason] for reason in mixed_sources.LEFT_OUT} == mixed_sources.LEFT_OUT | (
        # Of its twelve examples one is cut off, and only the first of each split has a Portuguese side.
        dict(empty_side=1 + 2 * 10) if TFDS else {}
    )
    of_catalogs = {"fuzzy": 1, "no_plural_form": 2, "obsolete": 1, "refused_code": 14, "untranslated": 1}
    assert found.keys() == {"kept", "bad_file"} | mixed_sources.LEFT_OUT.keys() | of_catalogs.keys()
    assert {reason: found[reason] for reason in of_catalogs} == of_catalogs


def code_or_none(spelling):
    try:
        return codes.normalise(spelling)
    except codes.RefusedCode:
        return None


def aligned_by_id(batches, left_out):
    """How many pairs the sentences of a part make by their ids: with English, and those that are asked for."""
    ids = collections.defaultdict(list)
    for row in (row for batch in batches if batch.schema.equals(source.SENTENCES) for row in batch.to_pylist()):
        code = code_or_none(row["lang"])
        if code and (row["text"], code) not in left_out:
            ids[code].append(row["message_id"])
    english = set(ids.pop("eng_Latn", ()))
    with_english = sum(message_id in english for found in ids.values() for message_id in found)
    asked_for = [set(ids[src]) & set(ids[tgt]) for src, tgt in (pair.split("-") for pair in mixed_sources.PAIRS)]
    return with_english + sum(map(len, asked_for))


def test_counts_add_up_stage_by_stage(built, yielded):
    counts, everything = built.counts, ("languages", "pairs", "collections")
    texts = ("languages", "collections")
    # Codes are not looked up for collections; every other record has one, or is dropped for a reason.
    assert sum(counts["codes"].values()) == counts["read"]["kept"] - total(built, "read", "collections")
    refused = sum(code["records"] for code in built.refused_codes)
    assert counts["codes"]["refused_code"] + counts["read"]["refused_code"] == refused
    assert counts["codes"]["one_language"] == 1

    # Clean sentences with one id become pairs, which are then records of their own.
    assert dropped(built, "clean_texts") == 3
    examples = (found for key, found in built.examples.items() if key.startswith("clean_texts/"))
    left_out = {tuple(example) for found in examples for example in found}
    aligned = sum(aligned_by_id(batches, left_out) for _, batches in yielded[0])
    assert total(built, "read", *everything) == (
        counts["codes"]["kept"] + aligned + total(built, "read", "collections")
    )

    lost = sum(dropped(built, f"clean_{records}") for records in ("texts", "sides", "pairs"))
    assert total(built, "clean", *everything) == total(built, "read", *everything) - lost
    assert counts["clean_pairs"]["kept"] == total(built, "clean", "pairs")
    assert counts["clean_pairs"]["identical_sides"] == 1

    for kinds, stage in ((texts, "deduplicate_documents"), (("pairs",), "deduplicate_pairs")):
        assert sum(counts[stage].values()) == total(built, "clean", *kinds)
        assert counts[stage]["kept"] == total(built, "deduplicate", *kinds)
        assert counts[stage]["duplicate"] > 0
    rows_of = {name: sum(split.rows for split in entry.splits.values()) for name, entry in built.tasks.items()}
    assert {name.split(".", 1)[-1] if name[:5] in ("mono.", "pair.") else name: n for name, n in rows_of.items()} == (
        built.records["deduplicate"]
    )
    for name, records in built.records["deduplicate"].items():
        assert records <= built.records["clean"][name] <= built.records["read"][name]
    for entry in built.tasks.values():
        assert sum(entry.sources.values()) == sum(split.rows for split in entry.splits.values())
    of_sources = statistics.of_sources(built)
    assert of_sources.keys() == built.sources.keys()
    assert all(each.left <= each.read - each.dropped for each in of_sources.values())
    assert sum(each.read - each.dropped for each in of_sources.values()) == total(built, "clean", *everything)
    assert sum(each.left for each in of_sources.values()) == sum(rows_of.values())
    assert {key.split("/")[0] for key in built.examples} == {"codes", "clean_texts", "clean_pairs"}


def test_a_pair_in_many_formats_and_both_orders_is_there_once(built):
    offered = collections.defaultdict(list)
    for name in mixed_sources.GERMAN_ENGLISH:
        for pair in german_english(name):
            offered[pair].append(name)
    assert max(map(len, offered.values())) == 3
    found = collections.Counter(
        (row["src_text"], row["tgt_text"]) for row in both_splits(built, f"pair.{GERMAN_ENGLISH}")
    )
    assert set(found.values()) == {1}
    # A memory of three languages may hold out the German of a sentence whose English is not: then no pair may have it.
    may_lack = {(sentence("deu", i), sentence("eng", i)) for i in mixed_sources.THREE_SIDES}
    assert offered.keys() - found.keys() <= may_lack
    assert len(offered.keys() - found.keys()) < built.counts["deduplicate_pairs"]["held_out_text"]
    # Of several sources of a pair, the first by name counts.
    sources = collections.Counter(min(names) for pair, names in offered.items() if pair in found)
    listed = built.pairs[GERMAN_ENGLISH].sources
    assert {name: rows for name, rows in listed.items() if name not in ("catalogs", "translations")} == sources


def test_serbian_has_two_scripts(built):
    cyrillic = set("абвгдђежзијклљмнњопрстћуфхцчџш")
    for code, first in (("srp_Cyrl", 0), ("srp_Latn", 1)):
        texts = {row["text"] for row in both_splits(built, f"mono.{code}")}
        assert texts >= {f"{serbian(i)}. {serbian(i + 2)}." for i in range(first, 30, 2)}
        found = {(row["src_text"], row["tgt_text"]) for row in both_splits(built, f"pair.eng_Latn-{code}")}
        assert found >= {(sentence("eng", i), serbian(i)) for i in range(first, 20, 2)}
        for text in texts | {text for _, text in found}:
            assert bool(cyrillic & set(text)) == (code == "srp_Cyrl"), text


def test_collections_are_kept_as_they_are(built):
    stack = both_splits(built, "code.stack")
    assert sorted(row["text"] for row in stack) == sorted(
        f"def carry_{i}(basket):\n\treturn basket + {i}" for i in range(12)
    )
    assert {row["lang"] for row in stack} == {""}
    books = both_splits(built, "book.gutenberg")
    assert len(books) == 12 and {row["lang"] for row in books} == {"eng_Latn"}


@pytest.mark.usefixtures("shuffled_files")
def test_same_bytes_from_shuffled_files_and_two_workers(built, sources, tmp_path):
    build.build(mixed_sources.config(sources, tmp_path / "again", num_workers=2, num_buckets=5), seed=1)
    assert contents(tmp_path / "again") == contents(pathlib.Path(built.folder))


def test_datasets_opens_it(built, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert sorted(datasets.get_dataset_config_names(built.folder)) == sorted(built.tasks)
    for name in (f"pair.{GERMAN_ENGLISH}", "mono.srp_Latn", "code.stack"):
        found = datasets.load_dataset(built.folder, name, cache_dir=str(tmp_path))
        assert set(found) == {split for split, size in built.tasks[name].splits.items() if size.rows}
        for split, table in found.items():
            assert table.to_list() == rows(built, {name: built.tasks[name]}, split)[name]


def test_duckdb_counts_what_the_manifest_has(built):
    duckdb = pytest.importorskip("duckdb")
    folders = dict(languages=["monolingual"], pairs=["bilingual"], collections=["book", "code", "paper"])
    query = "SELECT filename, count(*) FROM read_parquet(?, filename=true) GROUP BY filename"
    for kind, names in folders.items():
        for split in manifest_lib.SPLITS:
            globs = [f"{built.folder}/{name}/*/{split}-*.parquet" for name in names]
            found = {
                os.path.relpath(file, built.folder): count for file, count in duckdb.execute(query, [globs]).fetchall()
            }
            splits = [entry.splits[split] for entry in getattr(built, kind).values()]
            assert found == {split.files[0]: split.rows for split in splits if split.rows}


@pytest.fixture
def trained(built, tmp_path):
    """A tokenizer for all texts of the corpus."""
    texts = [row["text"] for name in built.tasks for row in both_splits(built, name) if "text" in row]
    lines = [line for text in texts for line in text.splitlines()]
    train_tokenizer.write(tmp_path / "tokenizer", train_tokenizer.train(lines, 600, 1.0), {})
    return tokenizer.load(tmp_path / "tokenizer")


def test_seqio_reads_it(built, trained):
    pytest.importorskip("seqio")
    from data_tasks import tasks

    rendering = base.get_config().rendering
    registered = data_tasks.register(built, trained, rendering, mixture={}, components={})
    assert set(registered.tasks) == set(built.tasks)
    for name in ("mono.srp_Latn", "mono.swh_Latn", "code.stack", "paper.peS2o"):
        for split in manifest_lib.SPLITS:
            found = [trained.decode(example["targets"]) for example in tasks.examples(name, split)]
            assert found == [row["text"] for row in rows(built, {name: built.tasks[name]}, split)[name]]

    name = f"pair.{GERMAN_ENGLISH}"
    examples = list(tasks.examples(name, "train"))
    stored = [(row["src_text"], row["tgt_text"]) for row in rows(built, {name: built.tasks[name]}, "train")[name]]
    for direction, labels in enumerate((("German", "English"), ("English", "German"))):
        documents = [example["targets"] for example in examples if example["direction"] == direction]
        lines = [line for ids in documents for line in trained.decode(ids).splitlines()]
        sides = [
            [f"[{label}]: {text}" for label, text in zip(labels, pair[:: 1 - 2 * direction], strict=True)]
            for pair in stored
        ]
        assert lines == [line for pair in sides for line in pair]
