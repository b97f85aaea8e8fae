"""The whole way, program by program, on catalogs of a few messages: what the quickstart does, smaller still."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import sentencepiece  # noqa: F401 - a missing extra fails here, by name
from conftest import ONE_DEVICE
from safetensors.numpy import load_file

from emma_jax import metric_writer

WORDS = {
    "en": "the lake boat friend blue four quiet tomorrow open close file page red send".split(),
    "de": "der See Boot Freund blau vier still morgen öffnen schließen Datei Seite rot senden".split(),
    "fr": "le lac bateau ami bleu quatre calme demain ouvrir fermer fichier page rouge envoyer".split(),
    "ru": "это озеро лодка друг синий четыре тихий завтра открыть закрыть файл страница красный послать".split(),
    "ja": "その 湖 船 友達 青い 四つ 静か 明日 開く 閉じる ファイル ページ 赤い 送る".split(),
}
CONFIG = """
from configs import base, quickstart
from ml_collections import ConfigDict

def get_config(arm="bilingual"):
    config = quickstart.get_config(arm)
    config.corpus.folder = "{root}/corpus"
    config.corpus.sources = ConfigDict(dict(words=base.source("gettext", "{root}/catalogs", licence="none")))
    config.corpus.pairs = ("deu_Latn-fra_Latn", "jpn_Jpan-rus_Cyrl")
    config.corpus.validation_share = 0.2
    config.tokenizer.update(folder="{root}/tokenizer", vocab_size=400)
    config.pack.update(folder="{root}/rows", row_length=64, num_workers=1)
    for component, tokens in dict(english=6000, monolingual=8000, bilingual=8000).items():
        config.pack.components[component].update(tokens=tokens, max_epochs=64.0)
    config.input_pipeline.batch_rows = 8
    config.model.update(vocab_size=400, num_layers=2, model_dim=32, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64)
    config.optimizer.warmup_steps = 2
    config.train.update(steps=8, validate_every_steps=4, validation_batch_rows=8)
    config.train.base = "" if arm == "base" else "{root}/base_imported"
    config.checkpoint.save_every_steps = 4
    config.evaluation.update(sentences_per_direction=3, row_length=64, slots=8, max_new_tokens=8)
    return config
"""


def write_catalogs(folder: pathlib.Path) -> None:
    """Four catalogs of the same 60 messages, each three words, numbered so that no two are alike."""
    for code in ("de", "fr", "ru", "ja"):
        path = folder / code / "LC_MESSAGES" / "words.po"
        path.parent.mkdir(parents=True)
        entries = ['msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n']
        for i in range(60):
            english, other = (
                " ".join(WORDS[language][(i * step + step) % 14] for step in (1, 3, 5)) + f" {i}"
                for language in ("en", code)
            )
            entries.append(f'msgid "{english}"\nmsgstr "{other}"\n')
        path.write_text("\n".join(entries))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("end_to_end")
    write_catalogs(root / "catalogs")
    (root / "config.py").write_text(CONFIG.format(root=root))
    return root


@pytest.fixture(scope="module")
def run(root):
    environment = os.environ | ONE_DEVICE | {"TF_CPP_MIN_LOG_LEVEL": "3"}

    def run_program(module, *flags):
        command = [sys.executable, "-m", module, *(str(flag).replace("CONFIG", f"{root}/config.py") for flag in flags)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr[-4000:]}"
        return result.stderr

    return run_program


@pytest.fixture(scope="module")
def finished(root, run):
    run("emma_jax.corpus", "--config=CONFIG")
    run("emma_jax.train_tokenizer", "--config=CONFIG")
    run("emma_jax.pack", "--config=CONFIG")
    run("emma_jax.train", "--config=CONFIG:base", f"--workdir={root}/base")
    run("emma_jax.hf", "export", f"--from={root}/base", f"--to={root}/hf/base", "--dtype=float32")
    run("emma_jax.hf", "import", f"--from={root}/hf/base", f"--to={root}/base_imported")
    for arm in ("monolingual", "bilingual"):
        run("emma_jax.train", f"--config=CONFIG:{arm}", f"--workdir={root}/{arm}")
        run("emma_jax.hf", "export", f"--from={root}/{arm}", f"--to={root}/hf/{arm}", "--dtype=float32")
    models = ",".join(f"{name}={root}/{name}" for name in ("base", "monolingual", "bilingual"))
    run("emma_jax.evaluate", "--config=CONFIG", f"--model={models}", f"--output={root}/results")
    run(
        "emma_jax.report",
        f"--results={root}/results",
        f"--runs={models}",
        f"--corpus={root}/corpus",
        f"--output={root}/report",
    )
    return root


def test_the_arms_start_from_the_base_bit_for_bit(finished):
    """Base to Hugging Face and back: the validation losses before the first step are those after the base's last."""
    ends = metric_writer.read(finished / "base" / "events")
    for arm in ("monolingual", "bilingual"):
        starts = metric_writer.read(finished / arm / "events")
        losses = [tag for tag in ends if tag.startswith("validation_loss/")]
        assert len(losses) == 2 + 5 + 2 * 6
        for tag in losses:
            assert starts[tag][0] == (0, ends[tag][-1][1])


def test_the_exported_folders_are_complete(finished):
    for name in ("base", "monolingual", "bilingual"):
        folder = finished / "hf" / name
        assert {path.name for path in folder.iterdir()} >= {
            "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        }  # fmt: skip
        assert json.loads((folder / "config.json").read_text())["rope_scaling"]["rope_type"] == "llama3"
        assert load_file(folder / "model.safetensors")["model.embed_tokens.weight"].shape == (400, 32)


def test_training_learns(finished):
    losses = [value for _, value in metric_writer.read(finished / "base" / "events")["loss"]]
    assert losses[-1] < losses[0] - 0.2


def test_results_and_report(finished):
    rows = [json.loads(line) for line in (finished / "results" / "results.jsonl").read_text().splitlines()]
    assert {row["model"] for row in rows} == {"base", "monolingual", "bilingual"}
    assert {row["language"] for row in rows} >= {"eng_Latn-deu_Latn", "jpn_Jpan-eng_Latn"}
    page = (finished / "report" / "report.html").read_text()
    assert "rus_Cyrl" in page
    assert "http-equiv" not in page
    assert 'src="http' not in page


def test_every_program_again_finds_its_work_done(finished, run):
    root = finished
    before = {path: path.stat().st_mtime_ns for path in sorted(root.glob("*/checkpoints/*/metadata/metadata"))}
    shards = {path: path.stat().st_mtime_ns for path in sorted(root.glob("rows/*/*.arrayrecord"))}
    assert before and shards
    assert "is done" in run("emma_jax.corpus", "--config=CONFIG")
    run("emma_jax.train_tokenizer", "--config=CONFIG")
    assert "is packed already" in run("emma_jax.pack", "--config=CONFIG")
    assert "is done: 8 steps" in run("emma_jax.train", "--config=CONFIG:bilingual", f"--workdir={root}/bilingual")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
