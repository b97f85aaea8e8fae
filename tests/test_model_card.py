"""The card of an export: what it says is what the run did, and it says nothing where the run left nothing."""

import json
import shutil

import jax
import pytest
import random_model
import synthetic
import yaml

from emma_jax import composition, conversion, metric_writer, model_card, sharding, store, train
from emma_jax.checkpoint import Checkpoints
from emma_jax.program import build

LICENCE = {"license": "other", "license_name": "llama-of-tests", "license_link": "https://example.org/licence"}
CARD_OF_BASE = (
    "---\nlanguage:\n- en\n" + "".join(f"{k}: {v}\n" for k, v in LICENCE.items()) + "---\n# Base\nlicense: x\n"
)


def go(config, workdir):
    program = build(config, sharding.make_mesh(config.sharding, jax.devices()[:1]))
    train.train(config, train.epath.Path(workdir), program)


def export(workdir, target, dtype="bfloat16"):
    """(front matter, text, provenance) of an export."""
    conversion.export_hf(str(workdir), str(target), dtype)
    _, front, text = (target / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text, json.loads((target / "provenance.json").read_text())


def table(text, title):
    """The cells of the lines of the table below a title."""
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line][2:]


def words(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder that `run` fills once: rows in data/, a run in first/, its export hf/, with a licence, and base/."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def run(tiny_config, made, tmp_path):
    """A configuration that starts from an import in base/, whose own folder, hf/, has a licence and a card."""
    if not (made / "base").exists():
        write_base(made, tiny_config.copy_and_resolve_references())
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    tiny_config.corpus.sources.django = dict(reader="gettext", path="package:django", licence="BSD")
    tiny_config.mixture.update(monolingual=26.3, bilingual=32.3)
    tiny_config.pack.folder = str(tmp_path / "data" / "rows")
    tiny_config.run_name = "continual"
    tiny_config.train.base = str(tmp_path / "base")
    tiny_config.tokenizer.folder = str(tmp_path / "base" / "tokenizer")
    tiny_config.checkpoint.save_every_steps = 6
    tiny_config.train.validate_every_steps = 6
    return tiny_config


def write_base(folder, config):
    """A run in first/, its export hf/ with a licence and a card, the import of that in base/."""
    synthetic.write_run(folder / "data", config)
    config.train.steps = 3
    go(config, folder / "first")
    conversion.export_hf(str(folder / "first"), str(folder / "hf"), "float32")
    (folder / "hf" / "README.md").write_text(CARD_OF_BASE)
    (folder / "hf" / "LICENSE").write_text("do as you like\n")
    content = json.loads((folder / "hf" / "config.json").read_text())
    (folder / "hf" / "config.json").write_text(json.dumps({**content, "_name_or_path": "tests/llama-tiny"}))
    conversion.import_hf(str(folder / "hf"), str(folder / "base"))


@pytest.fixture(scope="module")
def trained(made):
    """The folder for a finished run, which is trained once and copied by each test."""
    return made.with_name("trained")


def finished(run, trained, tmp_path):
    """The workdir of `run`, trained to the end."""
    folder = trained / "work"
    if not folder.exists():
        go(run, folder)
    return shutil.copytree(folder, tmp_path / "work")


def test_the_card_of_a_run_says_what_it_did(run, trained, tmp_path):
    finished(run, trained, tmp_path)
    front, text, provenance = export(tmp_path / "work", tmp_path / "out")
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "tests/llama-tiny",
        "language": ["eng", "swh"],
        **LICENCE,
    }
    metadata = Checkpoints(tmp_path / "work").metadata(12)
    assert provenance == {
        "version": 1, "run_name": "continual", "base": "tests/llama-tiny", "step": 12, "dtype": "bfloat16",
        "tokenizer": metadata.tokenizer, "rows": metadata.rows, "validation_rows": metadata.validation_rows,
    }  # fmt: skip
    series = metric_writer.read(tmp_path / "work" / "events")
    counted = int(sum(value for _, value in series["tokens"]))
    for said in (
        "continues [tests/llama-tiny](https://huggingface.co/tests/llama-tiny): step 12 of 12 of the run `continual`",
        f"12 steps of 8 rows of 24 tokens, so at most 2,304 were predicted. {counted:,} of them were;",
        "rises from 0 over 2 steps to 0.01, then falls along a cosine to 0.001 at step 12",
        "2 languages and 1 language pair: English (eng_Latn), Swahili (individual language) (swh_Latn).",
        "rounded to nearest, ties to even",
        metadata.tokenizer,
        metadata.rows,
        "`llama-of-tests`, applies to weights derived from it, and so to these (copied from it: `LICENSE`)",
        "the licences of their sources: django (BSD).",
    ):
        assert said in words(text)
    assert table(text, "Training") == [["bilingual", "55.12 %", "1"], ["monolingual", "44.88 %", "2"]]
    expected = [
        [label, str(step)]
        + [f"{dict(series[f'validation_{what}/{kind}'])[step]:.4f}" for what in ("loss", "bits_per_byte")]
        for kind, label in (("mono", "languages"), ("pair", "directions"))
        for step in (0, 12)
    ]
    assert table(text, "Metrics") == expected
    assert (tmp_path / "out" / "LICENSE").read_text() == "do as you like\n"


def test_an_earlier_step_is_told_with_its_own_metrics(run, trained, tmp_path):
    finished(run, trained, tmp_path)
    _, text, provenance = export(f"{tmp_path / 'work'}@6", tmp_path / "out", "float32")
    assert provenance["step"] == 6 and provenance["dtype"] == "float32"
    assert "step 6 of 12" in text and "at most 1,152" in words(text)
    assert [step for _, step, _, _ in table(text, "Metrics")] == ["0", "6", "0", "6"]


def test_a_continuation_names_the_same_base_when_that_is_gone(run, tmp_path, monkeypatch):
    batches = train.TrainingData.training_batches
    with monkeypatch.context() as patch:
        seven = lambda self, step: (batch for batch, _ in zip(batches(self, step), range(7), strict=False))  # noqa: E731
        patch.setattr(train.TrainingData, "training_batches", seven)
        go(run, tmp_path / "work")
    run.tokenizer.folder = str(tmp_path / "data" / "tokenizer")
    shutil.rmtree(tmp_path / "base")
    data = (tmp_path / "work" / "data.json").read_bytes()
    go(run, tmp_path / "work")
    checkpoints = Checkpoints(tmp_path / "work")
    assert checkpoints.metadata(6).base == checkpoints.metadata(12).base == "tests/llama-tiny"
    assert (tmp_path / "work" / "data.json").read_bytes() == data


def test_what_a_run_names_as_its_base(run, tmp_path):
    checkpoints = Checkpoints(tmp_path / "work", run.checkpoint)
    assert train.base_name(run, checkpoints) == "tests/llama-tiny"
    run.train.base = str(tmp_path / "first")  # began with random parameters
    assert train.base_name(run, checkpoints) == "tiny"
    random_model.write_workdir(tmp_path / "nameless", run.model, random_model.parameters(run.model))
    run.train.base = str(tmp_path / "nameless")
    assert train.base_name(run, checkpoints) == "nameless"
    run.train.base = ""
    assert train.base_name(run, checkpoints) == ""


def test_the_card_of_an_import_says_that_nothing_was_trained(run, tmp_path):
    front, text, provenance = export(tmp_path / "base", tmp_path / "out")
    assert front == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "base_model": "tests/llama-tiny", **LICENCE
    }  # fmt: skip
    assert "unchanged conversion of [tests/llama-tiny]" in words(text) and "nothing was trained" in words(text)
    assert "## Training" not in text and "## Languages" not in text and "trained on" not in text
    assert (provenance["run_name"], provenance["base"], provenance["step"]) == ("", "tests/llama-tiny", 0)


def test_a_run_from_random_parameters_takes_no_licence_from_its_tokenizer(run, tmp_path):
    run.train.base = ""
    go(run, tmp_path / "work")
    front, text, _ = export(tmp_path / "work", tmp_path / "out")
    assert "base_model" not in front and "license" not in front
    assert "began with random parameters" in text and "These files came with the tokenizer: `LICENSE`." in text


def test_what_the_run_did_not_leave_is_left_out(run, trained, tmp_path):
    finished(run, trained, tmp_path)
    shutil.rmtree(tmp_path / "work" / "events")
    (tmp_path / "work" / "data.json").unlink()
    for name in ("README.md", "LICENSE"):
        (tmp_path / "work" / "tokenizer" / name).unlink()
    front, text, _ = export(tmp_path / "work", tmp_path / "out")
    assert "language" not in front and "license" not in front
    assert "## Languages" not in text and "## Metrics" not in text and "of them were" not in text
    assert table(text, "Training") == [["bilingual", "55.12 %", ""], ["monolingual", "44.88 %", ""]]
    assert "no licence file came with it" in words(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "data.json is damaged"),
        ('{"version": 2}', "data.json is damaged .version 2 instead of 1"),
        ('{"version": 1, "components": [{"name": "a", "share": 1}]}', "data.json is damaged .'tasks'"),
        ("[]", "data.json is damaged"),
        (
            '{"version": 1, "components": [{"name": "a", "share": 1, "tasks": [{"name": "mono.x", "share": 1}]}]}',
            "data.json is damaged .'x' is not a language code",
        ),
    ],
    ids=["cut", "version", "key", "list", "language"],
)
def test_a_damaged_record_of_the_data_is_named(tmp_path, content, message):
    assert composition.read(tmp_path) is None
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        composition.read(tmp_path)


def test_damaged_metrics_are_named_and_leave_no_export(run, trained, tmp_path):
    finished(run, trained, tmp_path)
    events = tmp_path / "work" / "events" / metric_writer.FILE_NAME
    content = bytearray(events.read_bytes())
    content[12:20] = b"\xff" * 8
    events.write_bytes(content)
    with pytest.raises(ValueError, match="tfevents.0 is damaged"):
        export(tmp_path / "work", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_composition_is_that_of_the_rows(run, trained, tmp_path):
    finished(run, trained, tmp_path)
    bilingual, monolingual = composition.read(tmp_path / "work").components
    assert bilingual.share == pytest.approx(32.3 / 58.6) and monolingual.share == pytest.approx(26.3 / 58.6)
    assert [task.name for task in bilingual.tasks] == ["pair.eng_Latn-swh_Latn"]
    tasks = store.load(run.pack.folder, "monolingual").tasks
    total = sum(task.tokens for task in tasks)
    assert [(task.name, task.share) for task in monolingual.tasks] == [(t.name, t.tokens / total) for t in tasks]


@pytest.mark.parametrize(
    ("source", "named", "expected"),
    [
        ("gs://models/llama-8b", {}, "llama-8b"),
        ("gs://models/llama-8b/", {"_name_or_path": None}, "llama-8b"),
        ("models/llama", {"_name_or_path": "./llama"}, "llama"),
        ("models/llama", {"_name_or_path": "a/b/c"}, "llama"),
        ("models/llama", {"_name_or_path": "emma_jax/model_card.py"}, "llama"),  # a path on this disk
        ("models/llama", {"_name_or_path": "org/Llama-3.1"}, "org/Llama-3.1"),
    ],
)
def test_the_name_of_a_base(source, named, expected):
    assert model_card.base_name(source, named) == expected


def test_languages_that_yaml_takes_for_something_else():
    text = model_card.front_matter("", ["yes_Latn", "nan_Hani"], {"license_name": 'a "b": c', "license": "no"})
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["language"] == ["nan", "yes"]
    assert (front["license_name"], front["license"]) == ('a "b": c', "no")


@pytest.mark.parametrize(
    "card", ["", "# no front matter\nlicense: mit\n", "---\nlicense: mit\n", "---\nlicense: >-\n---\n"]
)
def test_cards_without_a_licence(card):
    assert model_card.licence_fields(card) == {}


def test_hugging_face_reads_the_card(run, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    export(tmp_path / "base", tmp_path / "out")
    data = hub.ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.base_model, data.license, data.library_name) == ("tests/llama-tiny", "other", "transformers")
