"""A corpus from catalogs: the same bytes however it is made, nothing held out leaks, nothing goes missing unsaid."""

import errno
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import polib
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ml_collections import ConfigDict

from configs import base
from emma_jax import manifest as manifest_lib
from emma_jax.corpus import __main__ as program
from emma_jax.corpus import build, deduplicate, exchange, groups, readers, source, stages
from emma_jax.corpus.statistics import Report

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "gettext"
PAIRS = ("fra_Latn-deu_Latn", "deu_Latn-jpn_Jpan", "fra_Latn-por_Latn", "srp_Cyrl-srp_Latn")


def make_config(folder, path=FIXTURES, **changes):
    """The section `corpus` with one source, two buckets and three of ten messages held out."""
    config = base.get_config().corpus
    config.sources.catalogs = base.source("gettext", str(path), licence="CC0")
    config.update(folder=str(folder), pairs=PAIRS, validation_share=0.3, num_buckets=2)
    config.update(changes)
    return config


def contents(folder):
    """Name -> bytes of all files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(manifest, entries, split):
    """Name -> rows of a split of all languages or pairs."""
    return {
        name: [row for batch in manifest.read(entry, split) for row in batch.to_pylist()]
        for name, entry in entries.items()
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The manifest of the fixtures' corpus."""
    manifest, was_there = build.build(make_config(tmp_path_factory.mktemp("built") / "corpus"), seed=1)
    assert not was_there
    return manifest


@pytest.fixture
def shuffled_files(monkeypatch):
    """Makes sources list their files, and builds their parts, in random order."""
    files, open_sources = source.files, build._open_sources

    def shuffled(*arguments):
        return random.Random(3).sample(found := files(*arguments), len(found))

    def opened(sections):
        parts, described = open_sources(sections)
        return random.Random(4).sample(parts, len(parts)), described

    monkeypatch.setattr(source, "files", shuffled)
    monkeypatch.setattr(build, "_open_sources", opened)


def test_layout_and_records(built):
    assert set(built.languages) == {
        "cym_Latn", "deu_Latn", "eng_Latn", "fra_Latn", "jpn_Jpan", "por_Latn", "rus_Cyrl", "srp_Cyrl", "srp_Latn",
    }  # fmt: skip
    asked_for = {"deu_Latn-fra_Latn", "deu_Latn-jpn_Jpan", "fra_Latn-por_Latn", "srp_Cyrl-srp_Latn"}
    with_english = {"-".join(sorted((code, "eng_Latn"))) for code in built.languages if code != "eng_Latn"}
    assert set(built.pairs) == asked_for | with_english
    entry = built.pairs["deu_Latn-eng_Latn"]
    assert entry.splits["train"].files == ("bilingual/deu_Latn-eng_Latn/train-00000-of-00001.parquet",)
    table = pq.read_table(built.path(entry.splits["train"].files[0]))
    assert table.column_names == ["src_text", "tgt_text", "src_lang", "tgt_lang"]
    assert set(table["src_lang"].to_pylist()) == {"deu_Latn"} and set(table["tgt_lang"].to_pylist()) == {"eng_Latn"}
    metadata = pq.ParquetFile(built.path(entry.splits["train"].files[0])).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert built.languages["srp_Latn"].name == "Serbian (Latin)" and built.licences == {"catalogs": "CC0"}
    assert not (pathlib.Path(built.folder) / "exchange").exists()


def test_manifest_counts_what_is_in_the_shards(built):
    for entries, columns in ((built.languages, ["text"]), (built.pairs, ["src_text", "tgt_text"])):
        for name, entry in entries.items():
            assert set(entry.splits) == {"train", "validation"}
            for split_name, split in entry.splits.items():
                found = rows(built, {name: entry}, split_name)[name]
                texts = [row[column] for row in found for column in columns]
                assert split.rows == len(found)
                assert split.tokens == sum(len(text.split()) for text in texts)
                assert split.bytes == sum(len(text.encode()) for text in texts)
            assert sum(entry.sources.values()) == sum(split.rows for split in entry.splits.values())
    counts = built.counts
    kept = {stage: reasons["kept"] for stage, reasons in counts.items() if stage != "normalise"}
    assert (
        sum(split.rows for entry in built.pairs.values() for split in entry.splits.values())
        == (kept["deduplicate_pairs"])
    )
    assert sum(counts["deduplicate_pairs"].values()) == kept["clean_pairs"]
    assert sum(counts["deduplicate_documents"].values()) == kept["clean_texts"]
    assert counts["clean_texts"]["untranslated"] == 1 and counts["clean_texts"]["few_letters"] == 2


def test_same_bytes_again_and_from_shuffled_files(built, tmp_path, shuffled_files):
    build.build(make_config(tmp_path / "again"), seed=1)
    assert contents(tmp_path / "again") == contents(pathlib.Path(built.folder))


@pytest.mark.parametrize("exchange_by", ["files", "shuffle"])
def test_same_bytes_from_two_workers_and_other_buckets(built, tmp_path, exchange_by):
    config = make_config(tmp_path / "other", num_workers=2, num_buckets=5, exchange=exchange_by)
    build.build(config, seed=1)
    assert contents(tmp_path / "other") == contents(pathlib.Path(built.folder))


def test_same_shards_from_files_of_other_names(built, tmp_path):
    shutil.copytree(FIXTURES / "shop", tmp_path / "catalogs" / "a")
    shutil.copytree(FIXTURES / "library", tmp_path / "catalogs" / "z" / "library")
    build.build(make_config(tmp_path / "renamed", tmp_path / "catalogs"), seed=1)
    for file, content in contents(tmp_path / "renamed").items():
        assert not file.endswith(".parquet") or content == (pathlib.Path(built.folder) / file).read_bytes()


def test_a_message_is_held_out_in_every_language_and_pair(built):
    english = {split: {row["text"] for row in found} for split, found in english_rows(built).items()}
    assert english["validation"] and not english["train"] & english["validation"]
    for split in ("train", "validation"):
        for pair, found in rows(built, built.pairs, split).items():
            for row in found:
                if "eng_Latn" in pair:
                    side = "src_text" if row["src_lang"] == "eng_Latn" else "tgt_text"
                    assert row[side] in english[split], (pair, row)
    # Translations of one message stand in one split, through pairs without English too.
    german = {row["src_text"] for row in rows(built, built.pairs, "validation")["deu_Latn-eng_Latn"]}
    assert german & {row["src_text"] for row in rows(built, built.pairs, "validation")["deu_Latn-fra_Latn"]}


def test_no_held_out_text_is_in_training(built):
    validation, train = set(), set()
    for texts, split in ((validation, "validation"), (train, "train")):
        texts |= {(row["lang"], row["text"]) for found in rows(built, built.languages, split).values() for row in found}
        for found in rows(built, built.pairs, split).values():
            texts |= {(row[f"{side}_lang"], row[f"{side}_text"]) for row in found for side in ("src", "tgt")}
    assert validation and not validation & train


def test_a_text_of_two_messages_goes_to_validation_only(tmp_path):
    """German has one word for two English ones: whichever of them is held out takes it along."""
    outcomes = set()
    for seed in (0, 3, 5):
        manifest, _ = build.build(make_config(tmp_path / str(seed), pairs=()), seed=seed)
        held_out = {row["text"] for row in english_rows(manifest)["validation"]} & {"Save", "Store"}
        german = {split: rows(manifest, manifest.languages, split)["deu_Latn"] for split in ("train", "validation")}
        where = [split for split, found in german.items() if "Speichern" in {row["text"] for row in found}]
        assert where == (["validation"] if held_out else ["train"])
        pairs = rows(manifest, manifest.pairs, "train")["deu_Latn-eng_Latn"]
        assert len([row for row in pairs if row["src_text"] == "Speichern"]) == (0 if held_out else 2)
        outcomes.add(len(held_out))
    assert outcomes == {0, 1, 2}


def test_pairs_without_english_are_translations_of_one_message(built):
    found = [row for split in ("train", "validation") for row in rows(built, built.pairs, split)["fra_Latn-por_Latn"]]
    assert {(row["src_text"], row["tgt_text"]) for row in found} >= {
        ("Bonjour", "Bom dia"),
        ("Enregistrer", "Guardar"),
        ("Un jour", "Um dia"),
        ("%(count)s articles", "%(count)s artigos"),
    }
    # Of two catalogs of one language the first gives the pairs; with English both do.
    assert "Salvar" not in {row["tgt_text"] for row in found}
    both = [row for split in ("train", "validation") for row in rows(built, built.pairs, split)["eng_Latn-por_Latn"]]
    assert {row["tgt_text"] for row in both} >= {"Salvar", "Guardar"}


def test_no_record_is_there_twice(built):
    for entries in (built.languages, built.pairs):
        for split in ("train", "validation"):
            for found in rows(built, entries, split).values():
                assert len({tuple(row.values()) for row in found}) == len(found)


def test_large_splits_have_several_shards(built, tmp_path):
    whole = built.languages["deu_Latn"].splits["train"]
    assert len(whole.files) == 1
    manifest, _ = build.build(make_config(tmp_path / "corpus", shard_bytes=whole.bytes // 3, num_buckets=4), seed=1)
    split = manifest.languages["deu_Latn"].splits["train"]
    assert len(split.files) == 4 and split.rows == whole.rows
    assert all(0 < pq.read_metadata(manifest.path(file)).num_rows < whole.rows for file in split.files)
    assert rows(manifest, manifest.languages, "train") == rows(built, built.languages, "train")
    assert rows(manifest, manifest.pairs, "train") == rows(built, built.pairs, "train")


def test_records_have_one_order_however_they_come():
    numbers = np.random.default_rng(0).permutation(5000)
    # Hashes that meet, within a language and across, so that order must be settled by text.
    table = pa.table(
        dict(
            name=[("swa_Latn", "deu_Latn", "code.stack")[number % 3] for number in numbers],
            text=[f"{number} {'word ' * (number % 7)}" for number in numbers],
            hash=pa.array(numbers % 500, pa.uint64()),
            validation=numbers % 5 == 0,
        )
    )
    ordered, found = groups.sort("documents", table)
    again, same = groups.sort("documents", table.take(pa.array(np.random.default_rng(1).permutation(5000))))
    assert ordered.equals(again) and found == same and len(found) == 6
    key = [(row["name"], row["validation"], row["hash"], row["text"]) for row in ordered.to_pylist()]
    assert key == sorted(key)
    assert sum(group.num_bytes for group in found) == sum(len(text) for text in table["text"].to_pylist())


def test_equal_hashes_do_not_make_equal_records():
    texts = ["a", "b", "a", "c", "b", "a"]
    table = pa.table(
        dict(
            name=["deu_Latn"] * 6,
            lang=["deu_Latn"] * 6,
            text=texts,
            hash=pa.array([7] * 6, pa.uint64()),
            source=["z", "y", "x", "y", "x", "y"],
            validation=[False, False, True, False, False, False],
        )
    )
    report = Report()
    found = deduplicate.deduplicate(table, ["name", "text"], ["hash"], np.empty(0, np.uint64), report)
    assert sorted((row["text"], row["source"], row["validation"]) for row in found.to_pylist()) == [
        ("a", "x", True), ("b", "x", False), ("c", "y", False),
    ]  # fmt: skip
    assert report.counts["deduplicate_documents"] == {"duplicate": 3, "kept": 3}


@pytest.mark.parametrize("pieces", ["gathered", "scattered"])
def test_buckets_are_read_from_all_rounds_of_all_files(tmp_path, pieces):
    schema = pa.schema([("number", pa.int64())])
    by_bucket = exchange.ByBucket(str(tmp_path), 3)
    for part in range(2):
        with exchange.open_writer(by_bucket.path("pairs", part), schema) as writer:
            for start in (100 * part, 100 * part + 50):
                numbers = np.arange(start, start + 50)
                exchange.write_round(writer, pa.table([numbers], schema=schema), numbers % 3, 3)
    found = {bucket: [] for bucket in range(3)}
    if pieces == "gathered":
        for bucket, numbers in found.items():
            batches = by_bucket.gather("pairs", bucket, 2)
            numbers += [number for batch in batches for number in batch["number"].to_pylist()]
    else:
        numbers = {number: bucket for number, (_, bucket, _) in by_bucket.pieces()}
        for file in by_bucket.files():
            for number, batch in by_bucket.scatter(*file):
                found[numbers[number]] += batch["number"].to_pylist()
    assert found == {bucket: [number for number in range(200) if number % 3 == bucket] for bucket in found}


def test_what_is_shipped_does_not_drag_its_batch_along():
    batch = pa.record_batch([pa.array([f"text {number}" for number in range(100_000)])], names=["text"])
    shipped = exchange.to_bytes(batch.slice(5, 10))
    assert len(shipped) < 2000
    assert [*exchange.from_bytes([shipped])][0].equals(batch.slice(5, 10))


def test_done_is_said_and_nothing_is_touched(built, caplog):
    config = base.get_config()
    config.seed, config.corpus = 1, make_config(built.folder)
    before = {file: file.stat().st_mtime_ns for file in pathlib.Path(built.folder).rglob("*")}
    with caplog.at_level("INFO"):
        program.main(config)
    assert "as it was before" in caplog.text and "9 languages" in caplog.text
    assert "qq of catalogs (14 records)" in caplog.text
    assert before == {file: file.stat().st_mtime_ns for file in pathlib.Path(built.folder).rglob("*")}


@pytest.mark.parametrize("changes", [dict(seed=2), dict(validation_share=0.2), dict(pairs=PAIRS[:1])])
def test_folder_of_another_config_is_left_alone(built, changes):
    changes = dict(changes)
    seed = changes.pop("seed", 1)
    with pytest.raises(
        ValueError, match="from another (seed|config.corpus.*) .*; choose another config.corpus.folder, or delete"
    ):
        build.build(make_config(built.folder, **changes), seed=seed)


def test_folder_of_other_sources_is_left_alone(built, tmp_path):
    shutil.copytree(FIXTURES, tmp_path / "gettext")
    (tmp_path / "gettext" / "library" / "de.po").write_text((FIXTURES / "library" / "de.po").read_text() + "# edited\n")
    with pytest.raises(ValueError, match="made from other files of catalogs; choose"):
        build.build(make_config(built.folder, tmp_path / "gettext"), seed=1)


def test_unfinished_work_of_another_config_is_left_alone(tmp_path, monkeypatch):
    folder = tmp_path / "corpus"
    monkeypatch.setattr(stages, "buckets", lambda settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build.build(make_config(folder), seed=1)
    before = contents(folder)
    with pytest.raises(ValueError, match="holds an unfinished corpus of another seed .1, now 2.; run it with those"):
        build.build(make_config(folder), seed=2)
    assert contents(folder) == before and any("results_read" in file for file in before)


@pytest.mark.parametrize("stage", ["read_part", "deduplicate_bucket", "write_shards"])
def test_killed_run_goes_on_where_it_was(built, tmp_path, stage):
    """Killed by -9 in the middle of each stage, and run again: what was finished is not done again."""
    folder = tmp_path / "corpus"
    code = (
        "import os, signal, pathlib\n"
        "from tests import test_corpus as t\n"
        f"from emma_jax.corpus import build, stages\n"
        f"work, calls = stages.{stage}, []\n"
        "def killed(*arguments, **keywords):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return work(*arguments, **keywords)\n"
        f"killed.__name__ = {stage!r}\n"
        f"stages.{stage} = killed\n"
        f"build.build(t.make_config(pathlib.Path({str(folder)!r}), shard_bytes=2000, num_buckets=5), seed=1)\n"
    )
    root = pathlib.Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True).returncode == -signal.SIGKILL
    assert not (folder / "manifest.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in folder.rglob("results_*/*.json")}
    name = dict(read_part="read", deduplicate_bucket="deduplicate", write_shards="write")[stage]
    assert any(path.parent.name == f"results_{name}" for path in finished)
    shards = {path: path.stat() for path in folder.rglob("*.parquet")} if stage == "write_shards" else {}
    done = {
        file: shards[folder / file]
        for path in finished
        if path.parent.name == "results_write"
        for file in (shard["file"] for shard in json.loads(path.read_text()))
    }
    assert done or stage != "write_shards"
    manifest, _ = build.build(make_config(folder, shard_bytes=2000, num_buckets=1), seed=1)
    for file, before in done.items():
        now = (folder / file).stat()
        assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    build.build(make_config(tmp_path / "at_once", shard_bytes=2000), seed=1)
    assert contents(folder) == contents(tmp_path / "at_once")


@pytest.mark.parametrize("name", ["monolingual", "exchange", "notes"])
def test_files_that_are_not_ours_are_not_removed(tmp_path, name):
    mine = tmp_path / name / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(ValueError, match=f"{name} is in the way, and of no corpus; choose another"):
        build.build(make_config(tmp_path), seed=1)
    assert mine.read_text() == "mine"


def test_finished_corpus_with_a_missing_shard_is_not_called_done(tmp_path):
    manifest, _ = build.build(make_config(tmp_path / "corpus"), seed=1)
    pathlib.Path(manifest.path(manifest.languages["deu_Latn"].splits["train"].files[0])).unlink()
    with pytest.raises(ValueError, match="is missing from a finished corpus; delete its folder and build it again"):
        build.build(make_config(tmp_path / "corpus"), seed=1)


@pytest.mark.parametrize("policy", ["members", "macro"])
def test_pairs_are_named_by_the_codes_of_the_policy(tmp_path, policy):
    for language, text in (("sw", "Ziwa tulivu"), ("zu", "Ichibi elithule")):
        file = tmp_path / "table" / language / "test.tsv"
        file.parent.mkdir(parents=True)
        file.write_text("id\ttext\n" + "".join(f"{number}\t{text} {number}\n" for number in range(5)))
    pair = dict(members="swh_Latn-zul_Latn", macro="swa_Latn-zul_Latn")[policy]
    config = make_config(tmp_path / "corpus", pairs=(pair,), macrolanguages=policy)
    config.sources = ConfigDict(dict(table=base.source("table", str(tmp_path / "table"), licence="CC0")))
    assert set(build.build(config, seed=1)[0].pairs) == {pair}


def test_a_second_build_in_a_folder_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "corpus"

    def build_again(settings):
        build.build(make_config(folder), seed=1)

    monkeypatch.setattr(stages, "buckets", build_again)
    with pytest.raises(ValueError, match="another build is at work in .*corpus'; wait for it, or choose another"):
        build.build(make_config(folder), seed=1)


def test_builds_in_one_process_hold_out_each_its_own(built, tmp_path):
    folder = tmp_path / "corpus"
    build.build(make_config(folder), seed=7)
    shutil.rmtree(folder)
    build.build(make_config(folder), seed=1)
    assert contents(folder) == contents(pathlib.Path(built.folder))


def test_a_late_second_attempt_at_a_bucket_writes_nothing(tmp_path):
    by_bucket = exchange.ByBucket(str(tmp_path), 1)
    with exchange.open_writer(by_bucket.path("pairs", 0), schema := pa.schema([("number", pa.int64())])) as writer:
        exchange.write_round(writer, pa.table([[1]], schema=schema), np.zeros(1, np.int64), 1)
    ((_, piece),) = by_bucket.pieces()
    assert len([*by_bucket.gather(*piece)]) == 1
    shutil.rmtree(tmp_path / "pairs")
    with pytest.raises(OSError, match="bucket 0 of pairs is in 0 files, not in 1"):
        next(by_bucket.gather(*piece))


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "shard")

    monkeypatch.setattr(stages.write, "write_shard", full)
    with pytest.raises(OSError, match=r"^write failed: \[Errno 28\] No space left on device: 'shard'$"):
        build.build(make_config(tmp_path / "corpus"), seed=1)
    assert not (tmp_path / "corpus" / "manifest.json").exists()


def test_bad_catalogs_are_named_and_the_others_used(tmp_path, caplog):
    shutil.copytree(FIXTURES, tmp_path / "gettext")
    german = tmp_path / "gettext/shop/locale/de/LC_MESSAGES/shop.po"
    german.write_bytes(german.read_bytes()[:700])
    french = tmp_path / "gettext/shop/locale/fr/LC_MESSAGES/shop.po"
    french.write_bytes(french.read_text().encode("latin-1", "replace"))
    russian = tmp_path / "gettext/shop/locale/ru/LC_MESSAGES/shop.po"
    polib.pofile(str(russian)).save_as_mofile(str(russian.with_suffix(".mo")))
    russian.with_suffix(".mo").write_bytes(russian.with_suffix(".mo").read_bytes()[:500])
    russian.unlink()
    config = base.get_config()
    config.corpus = make_config(tmp_path / "corpus", tmp_path / "gettext", pairs=("srp_Cyrl-srp_Latn",))
    with caplog.at_level("INFO"):
        program.main(config)
    manifest = manifest_lib.load(tmp_path / "corpus")
    assert [bad["file"] for bad in manifest.bad_files] == [
        f"catalogs/shop/locale/{code}/LC_MESSAGES/shop.{suffix}"
        for code, suffix in (("de", "po"), ("fr", "po"), ("ru", "mo"))
    ]
    assert manifest.counts["read"]["bad_file"] == 3
    for bad in manifest.bad_files:
        assert f"bad file {bad['file']}: {bad['reason']}" in caplog.text
    assert set(manifest.languages) == {
        "cym_Latn",
        "deu_Latn",
        "eng_Latn",
        "jpn_Jpan",
        "por_Latn",
        "srp_Cyrl",
        "srp_Latn",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(pairs=("deu_Latn-frr_Latin",)), r"'frr_Latin' is not a language code .*; is fra_Latn meant\?"),
        (dict(pairs=("deu_Latn-swe_Latn",)), "no source provides swe_Latn"),
        (dict(pairs=("cym_Latn-fra_Latn",)), "no source has both languages; texts are aligned by the ids"),
        (dict(pairs=("deu_Latn",)), "is not a pair of two languages"),
        (dict(pairs=("deu_Latn-deu_Latn",)), "is not a pair of two languages"),
        (dict(validation_share=1.5), "validation_share is 1.5; it must be at least 0 and below 1"),
        (dict(num_buckets=-1), "num_buckets is -1; it must be between 0 and 65536"),
        (dict(exchange="file"), "exchange is 'file'; is files meant"),
        (dict(macrolanguages="maal"), "macrolanguages is 'maal'; is mala meant"),
        (dict(filters=dict(documents=dict(few_letters=30.0))), "few_letters is 30.0; it is a share, from 0 to 1"),
        (dict(sources={}), "config.corpus.sources is empty"),
        (
            dict(sources=dict(a=dict(reader="getext", path="x", licence="CC0"))),
            "unknown reader 'getext'; is gettext meant",
        ),
        (dict(sources=dict(a=dict(reader="gettext", path="x"))), "has the keys .*it needs"),
        (
            dict(sources=dict(a=dict(reader="gettext", path="package:no-such-package", licence="CC0"))),
            r"needs the package 'no-such-package', which is not installed: pip install -e '.\[quickstart\]'",
        ),
        (
            dict(sources=dict(a=dict(reader="gettext", path="/no/such/folder", licence="CC0"))),
            "is neither a folder nor a file",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_made(tmp_path, changes, message):
    config = make_config(tmp_path / "corpus")
    if "sources" in changes:
        config.sources = ConfigDict(changes["sources"])
    config.update({key: value for key, value in changes.items() if key != "sources"})
    with pytest.raises(ValueError, match=message):
        build.build(config, seed=1)
    assert not (tmp_path / "corpus").exists()


def test_source_without_good_text_is_an_error(tmp_path):
    (tmp_path / "po").mkdir()
    (tmp_path / "po" / "de.po").write_text("")
    with pytest.raises(ValueError, match="no text is left of the sources catalogs: catalogs/de.po is empty"):
        build.build(make_config(tmp_path / "corpus", tmp_path / "po", pairs=()), seed=1)


def test_command_line_ends_with_one_sentence_and_status_2(tmp_path):
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-m", "emma_jax.corpus", "--config=configs/quickstart.py"]
    command += [f"--config.corpus.folder={tmp_path}/corpus", f"--config.corpus.sources.django.path={tmp_path}/empty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: source 'django' is empty: there is no .po or .mo file in")
    assert "Traceback" not in result.stderr


def test_readers_of_pairs_and_documents(tmp_path, monkeypatch):
    pairs = [("Hund", "Dog", "deu_Latn", "eng_Latn"), ("Dog", "Hund", "eng_Latn", "deu_Latn"), ("Ya", "Ya", "x", "y")]
    pairs += [(f"Satz {word}", f"Sentence {word}", "deu_Latn", "eng_Latn") for word in "abcdefghijkl"]
    documents = [
        ("One line.\n\n\n\nAnother  line.", "eng_Latn"),
        ("Sentence a", "eng_Latn"),
        ("Sentence b", "eng_Latn"),
    ]

    def read(part, report):
        yield pa.record_batch([list(column) for column in zip(*documents, strict=True)], schema=source.DOCUMENTS)
        yield pa.record_batch([list(column) for column in zip(*pairs, strict=True)], schema=source.PAIRS)

    def parts(of):
        return [source.Part(of, "all", (), frozenset(["deu_Latn", "eng_Latn"]))]

    pairs[2] = ("Ja", "Ja", "deu_Latn", "eng_Latn")
    monkeypatch.setitem(readers.READERS, "invented", types.SimpleNamespace(parts=parts, read=read))
    config = make_config(tmp_path / "corpus", pairs=(), validation_share=0.5)
    config.sources.catalogs.reader = "invented"
    manifest, _ = build.build(config, seed=1)
    assert set(manifest.pairs) == {"deu_Latn-eng_Latn"}
    found = {split: rows(manifest, manifest.pairs, split)["deu_Latn-eng_Latn"] for split in ("train", "validation")}
    both = [(row["src_text"], row["tgt_text"]) for split in found.values() for row in split]
    assert both.count(("Hund", "Dog")) == 1 and len(both) == 13
    assert manifest.counts["clean_pairs"]["identical_sides"] == 1
    english = {split: {row["text"] for row in found} for split, found in english_rows(manifest).items()}
    assert "One line.\n\nAnother line." in english["train"] | english["validation"]
    held_out = {row["tgt_text"] for row in found["validation"]}
    assert held_out and not held_out & english["train"]


def english_rows(manifest):
    """Split -> rows of English."""
    english = {"eng_Latn": manifest.languages["eng_Latn"]}
    return {split: rows(manifest, english, split)["eng_Latn"] for split in ("train", "validation")}
