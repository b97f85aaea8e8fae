"""The manifest says the same wherever the corpus is, and a damaged one never loads."""

import dataclasses
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emma_jax import manifest as manifest_lib

SHARDS = ("monolingual/swa_Latn/train-00000-of-00002.parquet", "monolingual/swa_Latn/train-00001-of-00002.parquet")


@pytest.fixture
def written(tmp_path):
    """A manifest of one language with two shards of training text, written with its shards."""
    split = manifest_lib.Split(files=SHARDS, rows=3, tokens=4, bytes=20)
    manifest = manifest_lib.Manifest(
        folder=str(tmp_path / "corpus"),
        version=manifest_lib.VERSION,
        seed=7,
        config_hash="c0ffee",
        languages={"swa_Latn": manifest_lib.Entry({"train": split}, "very low", {"books": 3}, "Swahili")},
        pairs={},
        counts={"read": {"kept": 3}},
        refused_codes=(dict(code="qq", source="books", reason="not a language code", records=2),),
        bad_files=(dict(file="books/a.po", reason="is empty"),),
        licences={"books": "CC0"},
        source_records={"books": {"kept": 3, "read": 5}},
    )
    for file, texts in zip(SHARDS, (["moja", "mbili tatu"], ["ñ"]), strict=True):
        path = tmp_path / "corpus" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(dict(text=texts, lang=["swa_Latn"] * len(texts))), path)
    manifest_lib.write(manifest)
    return manifest


def test_what_is_written_is_loaded(written):
    loaded = manifest_lib.load(written.folder)
    assert loaded == written
    assert loaded.fingerprint == written.fingerprint


def test_rows_are_read_in_order_of_the_shards(written):
    batches = list(written.read(written.languages["swa_Latn"], "train"))
    assert [text for batch in batches for text in batch["text"].to_pylist()] == ["moja", "mbili tatu", "ñ"]
    assert list(written.read(written.languages["swa_Latn"], "validation")) == []


def test_corpus_can_be_moved(written, tmp_path):
    shutil.move(written.folder, tmp_path / "elsewhere")
    moved = manifest_lib.load(tmp_path / "elsewhere")
    assert moved.fingerprint == written.fingerprint
    assert moved.path(SHARDS[0]) == str(tmp_path / "elsewhere" / SHARDS[0])
    assert sum(len(batch) for batch in moved.read(moved.languages["swa_Latn"], "train")) == 3


def test_fingerprint_changes_with_the_content(written):
    assert dataclasses.replace(written, seed=8).fingerprint != written.fingerprint


def test_missing_manifest_names_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="no corpus in .*run emma_jax.corpus first"):
        manifest_lib.load(tmp_path)


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (1, r"holds a corpus of an older version \(1\) .* reads \(3\); delete the folder and build the corpus again$"),
        (99, r"holds a corpus of a newer version \(99\) .* reads \(3\); update emma_jax$"),
    ],
)
def test_other_version_is_refused(written, tmp_path, version, sentence):
    path = tmp_path / "corpus" / "manifest.json"
    content = json.loads(path.read_text()) | {"version": version}
    del content["source_records"]  # as older ones do not have it
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=sentence):
        manifest_lib.load(written.folder)


@pytest.mark.parametrize("content", [{"name": "site", "version": 3, "languages": []}, {}, [], None, "corpus"])
def test_a_manifest_of_something_else_is_left_alone(tmp_path, content):
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="manifest.json is no manifest of emma_jax; name the folder") as error:
        manifest_lib.load(tmp_path)
    assert "delete" not in str(error.value)


def test_manifest_cut_anywhere_is_refused(written, tmp_path):
    path = tmp_path / "corpus" / "manifest.json"
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 17), len(whole) - 2]:  # the last two are the closing brace and a line break
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged or cut short"):
            manifest_lib.load(written.folder)


@pytest.mark.parametrize("key", ["languages", "config_hash", "version"])
def test_missing_field_is_refused(written, tmp_path, key):
    path = tmp_path / "corpus" / "manifest.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"damaged or cut short.*{key}"):
        manifest_lib.load(written.folder)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:40])])
def test_missing_or_damaged_shard_is_named(written, tmp_path, damage):
    damage(tmp_path / "corpus" / SHARDS[1])
    with pytest.raises(ValueError, match="train-00001-of-00002.parquet is missing or damaged"):
        list(written.read(written.languages["swa_Latn"], "train"))
