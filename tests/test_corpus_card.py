"""The card of a corpus: the folder as a Hugging Face dataset, and what the text says."""

import dataclasses
import re

import paper_manifest
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_corpus

from emma_jax import manifest
from emma_jax.corpus import card

PAIR = "deu_Latn-eng_Latn"
STRANGE = 'no "quotes"\n| and <b>'  # Norwegian, and what Markdown and YAML could stumble over


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two languages in shards of two, one of them without validation; a pair, and a collection of code."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = {
        "deu_Latn": {"train": tiny_corpus.sentences("deu_Latn", 5), "validation": ["Ja"]},
        "swh_Latn": {"train": tiny_corpus.sentences("swh_Latn", 3), "validation": []},
    }
    sides = tuple(tiny_corpus.sentences(code, 4) for code in PAIR.split("-"))
    pairs = {PAIR: {"train": sides, "validation": (["Nein"], ["No"])}}
    plain = tiny_corpus.write(folder, texts, pairs, rows_per_file=2)
    file = "code/stack/train-00000-of-00001.parquet"
    (folder / file).parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["if x:\n\tpass"], "lang": [""]}), folder / file)
    collection = manifest.Entry({"train": manifest.Split((file,), 1, 3, 12)}, "", {"test": 1})
    whole = dataclasses.replace(
        plain,
        collections={"code.stack": collection},
        licences={"test": "CC BY 4.0"},
        sources={"test": {"reader": STRANGE}},
    )
    manifest.write(whole)
    card.write(whole)
    return whole


@pytest.fixture
def load(corpus, tmp_path, monkeypatch):
    """A function of a config and a split: the rows that `datasets` loads of it, without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return lambda config, split: datasets.load_dataset(
        corpus.folder, config, split=split, cache_dir=str(tmp_path)
    ).to_list()


def front_matter(text):
    yaml = pytest.importorskip("yaml")
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


@pytest.mark.parametrize("task", ["mono.deu_Latn", "mono.swh_Latn", f"pair.{PAIR}"])
@pytest.mark.parametrize("split", manifest.SPLITS)
def test_datasets_loads_what_the_manifest_has(corpus, load, task, split):
    expected = [row for batch in corpus.read(corpus.tasks[task], split) for row in batch.to_pylist()]
    if expected:
        assert load(task, split) == expected
    else:
        with pytest.raises(ValueError, match="validation"):
            load(task, split)
    assert bool(expected) == ((task, split) != ("mono.swh_Latn", "validation"))


def test_datasets_loads_collections_and_knows_all_configs(corpus, load):
    import datasets

    assert load("code.stack", "train") == [{"text": "if x:\n\tpass", "lang": ""}]
    assert sorted(datasets.get_dataset_config_names(corpus.folder)) == sorted(corpus.tasks)
    assert datasets.get_dataset_split_names(corpus.folder, "mono.swh_Latn") == ["train"]
    assert datasets.get_dataset_split_names(corpus.folder, "mono.deu_Latn") == ["train", "validation"]


def test_duckdb_counts_what_the_card_says(corpus):
    duckdb = pytest.importorskip("duckdb")
    query = re.search(r"```sql\n(.*)\n```", card.markdown(corpus))[1]
    found = duckdb.connect().execute(query.replace("path/to/this/folder", corpus.folder)).fetchall()
    assert "bilingual/*/train-*.parquet" in query
    assert found == [(corpus.pairs[PAIR].splits["train"].rows,)]


def test_the_example_in_python_runs(corpus, load):
    config, split = re.search(
        r'load_dataset\("path/to/this/folder", "(.*)", split="(.*)"\)', card.markdown(corpus)
    ).groups()
    assert (config, split) == (f"pair.{PAIR}", "train")
    assert len(load(config, split)) == 4


def test_front_matter(corpus):
    head, _ = front_matter(card.markdown(corpus))
    assert head["language"] == ["de", "en", "swh", "code"]
    assert head["license"] == "cc-by-4.0"
    assert head["size_categories"] == ["n<1K"]
    assert head["task_categories"] == ["text-generation", "translation"]
    assert [config["config_name"] for config in head["configs"]] == list(corpus.tasks)
    assert head["configs"][0]["data_files"][0] == {"split": "train", "path": "monolingual/deu_Latn/train-*.parquet"}


def test_front_matter_is_what_the_hub_library_reads(corpus):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.DatasetCard.load(f"{corpus.folder}/{card.FILE_NAME}").data
    assert data.language == ["de", "en", "swh", "code"]
    assert data.license == "cc-by-4.0"


def test_languages_that_yaml_takes_for_truth_values():
    entry = manifest.Entry({}, "low", {})  # of which nothing can be loaded
    found = manifest.Manifest("", manifest.VERSION, 0, "", {"nor_Latn": entry}, {}, {}, (), (), {"a": "no"})
    head, _ = front_matter(card.markdown(found))
    assert head["language"] == ["no"]
    assert head["license"] == "other"
    assert head["multilinguality"] == ["monolingual"]
    assert not head["configs"]


def test_strange_names_stay_in_their_cells(corpus):
    _, body = front_matter(card.markdown(corpus))
    assert r'| test | no "quotes" \| and &lt;b> | CC BY 4.0 |' in body


def test_paper_size():
    written = card.markdown(paper_manifest.make())
    head, body = front_matter(written)
    assert len(head["configs"]) == 546 + 2507 + 3
    assert len(written) < 1_000_000
    assert "| clean: pairs | length ratio |" in body and "| 40,000,000 |" in body
    assert "| mala | parquet | cc-by-nc-sa-4.0 |" in body
    assert "3 spellings of languages refused, 2 files not read to the end" in body


def test_equal_corpora_have_equal_cards(corpus, tmp_path):
    moved = dataclasses.replace(corpus, folder=str(tmp_path))
    card.write(moved)
    assert (tmp_path / card.FILE_NAME).read_bytes() == card.markdown(corpus).encode()
    assert str(tmp_path) not in card.markdown(moved)
