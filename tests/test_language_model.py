"""Our model in lm-evaluation-harness: what the harness's own backend says of the same folder, request by request."""

import json
import subprocess
import sys

import numpy as np
import pytest
import random_model
import tiny_evaluation
from lm_eval.api.instance import Instance
from random_model import needs_torch

from emma_jax import conversion, text_model
from emma_jax.evaluation.language_model import LanguageModel

WORDS = [
    word for texts in (tiny_evaluation.ENGLISH, *tiny_evaluation.SENTENCES.values()) for word in " ".join(texts).split()
]
WINDOW = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder whose window is short, with a tokenizer that begins texts with BOS, as Llama's does."""
    folder = tmp_path_factory.mktemp("language_model")
    config = random_model.model_config(vocab_size=400, num_layers=2, max_length=WINDOW, rope_original_length=32)
    tiny_evaluation.write_tokenizer(folder / "run" / "tokenizer")
    path = folder / "run" / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    begins = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begins, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [begins, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    path.write_text(json.dumps(content, ensure_ascii=False))
    random_model.write_workdir(folder / "run", config, random_model.parameters(config), tokenizer=False)
    conversion.export_hf(str(folder / "run"), str(folder / "hf"), "float32")
    return folder


def requests(kind, arguments):
    return [Instance(kind, {}, one, 0, ("task", number // 3, 1)) for number, one in enumerate(arguments)]


@pytest.fixture(scope="module")
def asked():
    """Arguments of requests: choices after contexts of all lengths, also beyond the window; texts; prompts."""
    rng = np.random.default_rng(0)

    def text(most):
        return " ".join(rng.choice(WORDS, rng.integers(1, most)))

    contexts = ["", "one man ", "two\n", text(3), text(8), text(12), " ".join(WORDS)]
    pairs = [(context, delimiter + text(6)) for context in contexts for delimiter in (" ", "", "\n")]
    return {
        "loglikelihood": pairs,
        "loglikelihood_rolling": [("one man",), (text(10) + " mbwa",), (" ".join(text(8) for _ in range(8)),)],
        "generate_until": [
            (context, {"until": until, "max_gen_toks": 12, "do_sample": False, "temperature": 0.0})
            for context in (text(2), text(4), text(8), " ".join(WORDS))
            for until in ([" "], [], ["o", "m"])
        ],
    }


def ask(model, kind, arguments):
    return getattr(model, kind)(requests(kind, arguments))


@needs_torch
def test_the_harness_says_the_same_through_transformers(folder, asked):
    """Log-likelihoods within 1e-3 and the same judgement of greedy decoding; the same text, letter by letter."""
    from lm_eval.models.huggingface import HFLM

    options = dict(pretrained=str(folder / "hf"), device="cpu", batch_size=1, dtype="float32")
    ours, theirs = LanguageModel(str(folder / "hf")), HFLM(**options)
    found, expected = (ask(model, "loglikelihood", asked["loglikelihood"]) for model in (ours, theirs))
    np.testing.assert_allclose([log_p for log_p, _ in found], [log_p for log_p, _ in expected], atol=1e-3, rtol=0)
    assert [is_greedy for _, is_greedy in found] == [is_greedy for _, is_greedy in expected]
    assert len({round(log_p, 2) for log_p, _ in found}) == len(found)
    found, expected = (ask(model, "generate_until", asked["generate_until"]) for model in (ours, theirs))
    assert found == expected
    assert len(set(found)) > 6
    theirs = HFLM(**options, add_bos_token=False)  # else BOS stands twice and is counted once
    found, expected = (ask(model, "loglikelihood_rolling", asked["loglikelihood_rolling"]) for model in (ours, theirs))
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


def test_what_is_longer_than_the_window_is_cut_and_counted(folder, asked, caplog):
    caplog.set_level("WARNING", logger="absl")
    model = LanguageModel(str(folder / "hf"))
    ask(model, "loglikelihood", asked["loglikelihood"][-3:])
    assert f"of 3 requests the beginning was cut off: they are longer than the window of {WINDOW} tokens" in caplog.text
    with pytest.raises(ValueError, match=f"does not fit the window of {WINDOW}"):
        ask(model, "loglikelihood", [("a", " x" * 2 * WINDOW)])


class Killed(Exception):
    """Stands for the end of a process."""


def test_a_run_that_was_killed_computes_nothing_twice_and_ends_the_same(folder, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(text_model.scoring, "ROW_TOKENS", 64)
    whole = LanguageModel(str(folder / "hf"), batch_size=2)
    expected = {kind: ask(whole, kind, arguments) for kind, arguments in asked.items()}
    path, computed = tmp_path / "responses.jsonl", []

    def dies_after(function, count):
        def dying(*arguments):
            for number, one in enumerate(function(*arguments)):
                if number == count:
                    raise Killed
                yield one

        return dying

    for module, name in ((text_model.scoring, "score"), (text_model.decoding, "generate")):
        with monkeypatch.context() as context:
            context.setattr(module, name, dies_after(getattr(module, name), 2))
            killed = LanguageModel(str(folder / "hf"), responses=str(path), batch_size=2)
            with pytest.raises(Killed):
                for kind, arguments in asked.items():
                    ask(killed, kind, arguments)
            computed.append(killed.text_model.num_computed)
    with path.open("a") as file:
        file.write('{"key": "cut o')
    again = LanguageModel(str(folder / "hf"), responses=str(path), batch_size=2)
    assert {kind: ask(again, kind, arguments) for kind, arguments in asked.items()} == expected
    computed.append(again.text_model.num_computed)
    assert min(computed) >= 2 and sum(computed) == whole.text_model.num_computed
    third = LanguageModel(str(folder / "hf"), responses=str(path))
    assert {kind: ask(third, kind, arguments) for kind, arguments in asked.items()} == expected
    assert third.text_model.num_computed == 0


def test_draws_are_of_the_seed_and_the_repetition(folder):
    options = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0, "top_p": 0.95}
    once, twice = (LanguageModel(str(folder / "hf"), seed=seed) for seed in (1, 1))
    asked = [("one", options), ("two dogs", options), ("one", options)]
    first = ask(once, "generate_until", asked)
    assert first[0] != first[2]
    assert ask(twice, "generate_until", asked[:1]) == first[:1]
    assert ask(LanguageModel(str(folder / "hf"), seed=2), "generate_until", asked) != first
    with pytest.raises(ValueError, match="emma_jax cannot generate with num_beams=4"):
        ask(once, "generate_until", [("one", {**options, "num_beams": 4})])


def test_a_folder_without_a_tokenizer_and_wrong_arguments_are_refused(folder, tmp_path):
    for file in (folder / "hf").iterdir():
        if "token" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="has no tokenizer: text can neither be read nor written"):
        LanguageModel(str(tmp_path))
    with pytest.raises(ValueError, match="has no argument 'dtype'; it has pretrained, max_length"):
        LanguageModel(str(folder / "hf"), dtype="float32")


HIDE = """
import importlib.machinery, runpy, sys
find_spec = importlib.machinery.PathFinder.find_spec
def without_torch(name, path=None, target=None):
    return None if name.split(".")[0] in ("torch", "transformers") else find_spec(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(without_torch)
sys.argv = ["emma_jax.evaluation", *sys.argv[1:]]
try:
    runpy.run_module("emma_jax.evaluation", run_name="__main__")
finally:
    assert not {"torch", "transformers"} & set(sys.modules)
"""


def test_the_command_line_of_the_harness_runs_without_torch(folder, tmp_path):
    data = "tests/fixtures/benchmarks"
    command = [
        sys.executable, "-c", HIDE, "run", "--model", "emma_jax", "--model_args", f"pretrained={folder / 'hf'}",
        "--tasks", "sib200_robust_swh_Latn", "--metadata", f"data={data}", "--output_path", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (written,) = tmp_path.glob("**/results_*.json")
    assert 0 <= json.loads(written.read_text())["results"]["sib200_robust_swh_Latn"]["acc_norm,none"] <= 1
