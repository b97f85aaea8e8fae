"""Datasets of tensorflow-datasets by name: translations and texts, read shard by shard from what is prepared."""

import os
import pathlib

import pytest

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import tfds as reader
from emma_jax.corpus.statistics import Report

tfds = pytest.importorskip("tensorflow_datasets")
import numpy as np  # noqa: E402

NUM_EXAMPLES = 6
FEATURES = {
    "wmt": lambda: tfds.features.Translation(languages=("de", "en", "pt_BR")),
    "nested": lambda: tfds.features.FeaturesDict(
        {"id": np.int64, "translation": tfds.features.Translation(languages=("de", "en"))}
    ),
    "texts": lambda: tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": np.int64}),
    "tagged": lambda: tfds.features.FeaturesDict({"body": tfds.features.Text(), "language": np.str_}),
    "numbers": lambda: tfds.features.FeaturesDict({"label": np.int64}),
}
EXAMPLES = {
    "wmt": lambda n: {"de": f"Türe {n}", "en": f"door {n}", "pt_BR": "" if n else "porta"},
    "nested": lambda n: {"id": n, "translation": {"de": f"Haus {n}", "en": f"house {n}"}},
    "texts": lambda n: {"text": [f"text {n}", b"l\xe4tin", " ", "s\0x", "x" * 300, "end"][n], "label": n},
    "tagged": lambda n: {"body": f"text {n}", "language": ("fi", "sw")[n % 2]},
    "numbers": lambda n: {"label": n},
}


class Tiny(tfds.core.GeneratorBasedBuilder):
    """A dataset of each form."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in FEATURES]

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=FEATURES[self.builder_config.name]())

    def _split_generators(self, _):
        return dict(train=self._generate_examples(), test=self._generate_examples())

    def _generate_examples(self):
        for number in range(NUM_EXAMPLES):
            yield number, EXAMPLES[self.builder_config.name](number)


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def prepare(folder, config, file_format="tfrecord"):
    Tiny(data_dir=folder, config=config, file_format=file_format).download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=2)
    )


def make_source(path, **fields):
    return source_lib.Source(name="tiny", reader="tfds", path=path, licence="CC0", **fields)


def read_all(path, **fields):
    """Rows and report of all parts of a source."""
    rows, report = [], Report()
    for part in reader.parts(make_source(path, **fields)):
        for batch in reader.read(part, report):
            assert batch.schema in (source_lib.PAIRS, source_lib.DOCUMENTS)
            rows += [tuple(row.values()) for row in batch.to_pylist()]
    return rows, report


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_translation_gives_pairs_of_all_languages(data_dir, file_format):
    prepare(data_dir, "wmt", file_format)
    rows, report = read_all("tiny/wmt:1.2.0")
    pairs = [(f"Türe {n}", f"door {n}", "de", "en") for n in range(NUM_EXAMPLES)]
    with_portuguese = [("Türe 0", "porta", "de", "pt_BR"), ("door 0", "porta", "en", "pt_BR")]
    assert sorted(rows) == sorted(2 * (pairs + with_portuguese))
    assert report.counts["read"] == {"kept": 16, "empty_side": 20} and not report.bad_files


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_translation_among_other_features(data_dir, file_format):
    prepare(data_dir, "nested", file_format)
    rows, _ = read_all("tiny/nested")
    assert sorted(set(rows)) == [(f"Haus {n}", f"house {n}", "de", "en") for n in range(NUM_EXAMPLES)]


def test_parts_are_shards_of_all_splits_and_name_their_files(data_dir):
    prepare(data_dir, "wmt")
    parts = reader.parts(make_source("tiny/wmt"))
    assert [part.name for part in parts] == ["train/0", "train/1", "test/0", "test/1"]
    assert {part.languages for part in parts} == {frozenset(("deu_Latn", "eng_Latn", "por_Latn"))}
    assert parts[0].files[0].name == "tiny/wmt/1.2.0/tiny-train.tfrecord-00000-of-00002"
    before = source_lib.fingerprint(parts)
    pathlib.Path(parts[0].files[0].path).write_bytes(b"")
    assert source_lib.fingerprint(reader.parts(make_source("tiny/wmt"))) != before


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_texts_have_the_language_of_the_source(data_dir, monkeypatch, file_format):
    monkeypatch.setattr(reader, "MAX_RECORD_BYTES", 200)
    prepare(data_dir, "texts", file_format)
    rows, report = read_all("tiny/texts", languages="fi")
    assert sorted(rows) == sorted(2 * [("end", "fi"), ("s\0x", "fi"), ("text 0", "fi")])
    assert report.counts["read"] == {"kept": 6, "undecodable": 2, "empty_text": 2, "too_large": 2}


def test_language_and_text_may_be_features_of_any_name(data_dir):
    prepare(data_dir, "tagged")
    rows, _ = read_all("tiny/tagged", columns="text=body")
    assert set(rows) == {(f"text {n}", ("fi", "sw")[n % 2]) for n in range(NUM_EXAMPLES)}
    with pytest.raises(ValueError, match=r"\['body', 'language'\]; say which one the text is: columns='text=NAME'"):
        reader.parts(make_source("tiny/tagged"))


def test_kind_makes_a_collection_of_texts(data_dir):
    prepare(data_dir, "texts")
    parts = reader.parts(make_source("tiny/texts", kind="book"))
    assert {part.collection for part in parts} == {"book.tiny"}
    assert {lang for part in parts for batch in reader.read(part, Report()) for lang in batch["lang"].to_pylist()} == {
        ""
    }
    with pytest.raises(ValueError, match="does not say its language"):
        reader.parts(make_source("tiny/texts"))


def test_folder_of_a_dataset(data_dir, monkeypatch):
    prepare(data_dir, "nested")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert len(read_all(str(data_dir / "tiny/nested/1.2.0"))[0]) == 2 * NUM_EXAMPLES


@pytest.mark.parametrize("name", ["no_such_set", "tiny/other", "tiny/nested:9.0.0", "huggingface:tiny", "../x", "t y"])
def test_what_is_not_prepared_is_a_mistake_with_the_way_out(data_dir, name):
    prepare(data_dir, "nested")
    with pytest.raises(ValueError, match="is not prepared in .*; make it there"):
        reader.parts(make_source(name))


def test_features_without_text_are_a_mistake(data_dir):
    prepare(data_dir, "numbers")
    with pytest.raises(ValueError, match="neither a translation nor a text"):
        reader.parts(make_source("tiny/numbers", languages="fi"))


def test_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[data\]'"):
        reader.parts(make_source("tiny/wmt"))


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "missing"])
@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_damaged_shard_is_named_and_what_stood_before_is_kept(data_dir, damage, file_format):
    prepare(data_dir, "nested", file_format)
    parts = reader.parts(make_source("tiny/nested"))
    path = pathlib.Path(parts[0].files[0].path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        middle = whole.rfind(b"house") if file_format == "tfrecord" else 64  # in the last record; in the first chunk
        path.write_bytes(whole[:middle] + b"\xff\xfe" + whole[middle + 2 :])
    else:
        path.write_bytes(b"" if damage == "empty" else whole[: len(whole) - 12])
    rows, report = read_all("tiny/nested")
    assert list(report.bad_files) == [f"tiny/{parts[0].files[0].name}"]
    (reason,) = report.bad_files.values()
    assert reason.startswith("is damaged: ") and str(data_dir) not in reason and os.linesep not in reason
    num_before = 2 if file_format == "tfrecord" and damage in ("cut", "changed") else 0
    assert len(rows) == 2 * NUM_EXAMPLES - 3 + num_before
