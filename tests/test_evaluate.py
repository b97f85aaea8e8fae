"""The program evaluate: what it writes, what it does not do twice, what it refuses."""

import json
import os
import shutil

import huggingface_hub
import pytest
import tiny_evaluation

from emma_jax import conversion, evaluate, text_model
from emma_jax.evaluation import results, translation


@pytest.fixture
def config(tiny_config, tmp_path):
    return tiny_evaluation.configure(tiny_config, tiny_evaluation.write_corpus(tmp_path / "corpus").folder)


@pytest.fixture
def run(config, tmp_path):
    """A function that evaluates the models "one" and "two", and the folder of the results."""
    for seed, name in enumerate(("one", "two")):
        tiny_evaluation.write_model(tmp_path / name, config, seed)
    models = ",".join(f"{name}={tmp_path / name}" for name in ("one", "two"))
    return lambda tasks="": evaluate.main(config, models, str(tmp_path / "out"), tasks)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_models_are_evaluated_once(run, config, tmp_path, caplog):
    run()
    rows = lines(tmp_path / "out" / results.RESULTS)
    fields = {"model", "benchmark", "language", "metric", "value", "n", "shots", "prompt_hash", "seed"}
    assert all(row.keys() == fields | {"harness_version"} for row in rows)
    assert len(rows) == 2 * (6 * 4 + 4)  # models, directions, metrics, languages
    assert len({row["prompt_hash"] for row in rows}) == 2
    values = {(row["model"], row["language"], row["metric"]): row["value"] for row in rows}
    alone, given = (values["one", "eng_Latn-swh_Latn", f"bits_per_byte_{form}"] for form in ("alone", "given_source"))
    assert values["one", "eng_Latn-swh_Latn", "translation_gain"] == pytest.approx(1 - given / alone)
    assert alone != values["two", "eng_Latn-swh_Latn", "bits_per_byte_alone"]
    generations = lines(tmp_path / "out" / results.GENERATIONS)
    assert [g["language"] for g in generations[:3]] == ["eng_Latn-hin_Deva", "rus_Cyrl-eng_Latn", "eng_Latn-swh_Latn"]
    assert [g["model"] for g in generations] == ["one"] * 3 + ["two"] * 3
    assert generations[0]["prompt"].endswith("\n[Hindi]:")

    caplog.set_level("INFO", logger="absl")
    before = (tmp_path / "out" / results.RESULTS).read_bytes()
    run()
    assert caplog.text.count("is done already") == 6
    assert "begins" not in caplog.text

    caplog.clear()
    config.evaluation.sentences_per_direction = 3
    run("translation_gain")
    assert caplog.text.count("is done anew") == 2
    assert (tmp_path / "out" / results.RESULTS).read_bytes() != before
    assert len(lines(tmp_path / "out" / results.RESULTS)) == len(rows)
    assert lines(tmp_path / "out" / results.GENERATIONS) == generations


def test_another_checkpoint_under_the_same_name_is_another_model(config, tmp_path):
    tiny_evaluation.write_model(tmp_path / "model", config, seed=0)
    before = conversion.files_fingerprint(str(tmp_path / "model"))
    assert conversion.files_fingerprint(str(tmp_path / "model")) == before
    (tmp_path / "model" / "events").mkdir()
    assert conversion.files_fingerprint(str(tmp_path / "model")) == before
    (tmp_path / "model" / "checkpoints" / "0" / "later").write_text("")
    assert conversion.files_fingerprint(str(tmp_path / "model")) != before


def test_other_weights_are_another_model_whatever_their_times(tmp_path):
    fingerprints = set()
    for content in (b"weights", b"WEIGHTS"):
        (tmp_path / "model.safetensors").write_bytes(content)
        os.utime(tmp_path / "model.safetensors", (10**9, 10**9))
        fingerprints.add(conversion.files_fingerprint(str(tmp_path)))
    assert len(fingerprints) == 2


def test_an_answer_ends_at_its_line(config, tmp_path, monkeypatch):
    tiny_evaluation.write_model(tmp_path / "model", config, seed=0)
    model = tiny_evaluation.load(config, tmp_path / "model")
    encode = tiny_evaluation.write_tokenizer(tmp_path / "tokenizer").encode
    answers = [(1, encode(" mtu")), (0, encode(" mbwa wawili\n[English]: and"))]
    monkeypatch.setattr(text_model.decoding, "generate", lambda *arguments: answers)
    assert model.generate(["one", "two"]) == ["mbwa wawili", "mtu"]


def test_samples_are_of_as_many_scripts_as_there_are(config):
    corpus = evaluate.manifest.load(config.corpus.folder)
    config.evaluation.num_samples = 2
    items = translation.SampleTranslations(config, corpus)._items
    assert [language for language, _, _ in items] == ["eng_Latn-hin_Deva", "rus_Cyrl-eng_Latn"]
    (_, prompt, reference), _ = items
    assert prompt == "[English]: a fourth sentence\n[Hindi]:"
    assert reference == "चौथा वाक्य"


@pytest.mark.parametrize(
    ("models", "tasks", "complaint"),
    [
        ("", "", "which models, and where to"),
        ("one=nowhere", "", "there is no model in 'nowhere'"),
        ("one=.,one=..", "", "two models are named 'one'"),
        (
            "x=.",
            "translation_gain,flores",
            "there is no task 'flores'; there are bits_per_byte, translation_gain, sample_translations; and sib200",
        ),
        ("one=", "", "'one=' is no model"),
    ],
)
def test_what_is_refused_before_anything_is_loaded(config, tmp_path, models, tasks, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate.main(config, models, str(tmp_path / "out"), tasks)


def test_a_model_of_the_hub_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns: str(tmp_path / name))
    assert evaluate.local_folder("some/model") == str(tmp_path / "some" / "model")

    def fails(name, allow_patterns):
        raise OSError("no such model\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(
        ValueError, match="'some/model' is neither a folder nor a model that the Hub gives: no such mod"
    ):
        evaluate.local_folder("some/model")


def test_a_model_without_tokenizer_is_refused(config, tmp_path):
    tiny_evaluation.write_model(tmp_path / "model", config, seed=0)
    for file in (tmp_path / "model" / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="has no tokenizer"):
        evaluate.main(config, f"tiny={tmp_path / 'model'}", str(tmp_path / "out"))


def test_a_corpus_without_english_pairs_is_refused(config, tmp_path):
    corpus = evaluate.manifest.load(config.corpus.folder)
    empty = evaluate.manifest.Manifest(**{**vars(corpus), "folder": str(tmp_path / "empty"), "pairs": {}})
    evaluate.manifest.write(empty)
    config.corpus.folder = empty.folder
    with pytest.raises(ValueError, match="no held-out sentence pairs with English"):
        evaluate.main(config, f"tiny={tmp_path}", str(tmp_path / "out"), "translation_gain")


def test_damaged_files_are_named(tmp_path):
    (tmp_path / results.RESULTS).write_text('{"model": "one"\n')
    with pytest.raises(ValueError, match="results.jsonl line 1 is no result"):
        results.read_results(tmp_path)
    (tmp_path / results.DONE).write_text('{"version": 7}')
    with pytest.raises(ValueError, match="not of version 1"):
        results.read_done(tmp_path)


def test_benchmarks_of_two_models_and_one_that_fails(config, tmp_path, monkeypatch):
    """What fails is named, the rest is done and averaged; a second run computes nothing."""
    for seed, name in enumerate(("one", "two")):
        tiny_evaluation.write_model(tmp_path / name, config, seed)
    shutil.copytree("tests/fixtures/benchmarks", tmp_path / "data")
    with (tmp_path / "data" / "sib200" / "eng_Latn" / "test.tsv").open("a") as file:
        file.write("99\tcooking\tSalt it.\n")
    models = ",".join(f"{name}={tmp_path / name}" for name in ("one", "two"))
    arguments = (config, models, str(tmp_path / "out"), "sib200,xcopa,mgsm_direct", "", str(tmp_path / "data"), "3")

    with pytest.raises(ValueError) as error:
        evaluate.main(*arguments)
    assert "4 failed, and what else there was is done: sib200_eng_Latn of one (ValueError: " in str(error.value)
    assert "test.tsv line 10: category is 'cooking'" in str(error.value)
    rows = results.read_results(tmp_path / "out")
    assert {row[:4] for row in rows if row.model == "one"} == {
        ("one", "sib200", "swh_Latn", "acc"), ("one", "sib200", "swh_Latn", "acc_robust"),
        ("one", "xcopa", "swh_Latn", "acc"), ("one", "mgsm_direct", "swh_Latn", "acc"),
        ("one", "mgsm_direct", "swh_Latn", "acc_robust"), ("one", "mgsm_direct", "jpn_Jpan", "acc"),
        ("one", "mgsm_direct", "jpn_Jpan", "acc_robust"),
    }  # fmt: skip
    assert {row.n for row in rows} <= {1, 2, 3} and {row.harness_version for row in rows} == {"lm_eval 0.4.13"}
    generations = results.read_generations(tmp_path / "out")
    assert {(g.model, g.benchmark) for g in generations} == {("one", "mgsm_direct"), ("two", "mgsm_direct")}
    table = (tmp_path / "out" / "tables" / "mgsm_direct_acc.csv").read_text().splitlines()
    assert table[0] == "language,resource,languages,one,two"
    assert [line.split(",")[:3] for line in table[1:]] == [
        ["jpn_Jpan", "medium-high", "1"], ["swh_Latn", "low", "1"],
        ["average", "low", "1"], ["average", "medium-high", "1"], ["average", "all", "2"],
    ]  # fmt: skip

    monkeypatch.setattr(text_model.scoring, "_score", None)
    monkeypatch.setattr(text_model.decoding, "_decode", None)
    with pytest.raises(ValueError, match="4 failed, and what else there was is done"):
        evaluate.main(*arguments)
    assert results.read_results(tmp_path / "out") == rows
    assert results.read_generations(tmp_path / "out") == generations


@pytest.mark.parametrize(
    ("tasks", "languages", "limit", "complaint"),
    [
        ("sib200", "fin_Latn", "", "sib200 has no language 'fin_Latn'"),
        ("sib200", "", "few", "--limit is 'few'; expected a number of items"),
        ("sib200", "", "0", "--limit is '0'; expected a number of items, at least 1"),
        ("", "swh_Latn", "", "which benchmarks. --data and --languages are for those, and --tasks names none"),
    ],
)
def test_what_is_refused_of_benchmarks(config, tmp_path, tasks, languages, limit, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate.main(
            config, f"x={tmp_path}", str(tmp_path / "out"), tasks, languages, "tests/fixtures/benchmarks", limit
        )
