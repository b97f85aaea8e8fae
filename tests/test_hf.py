"""The command lines of conversion and generation, on files, as a user meets them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import random_model
from conftest import ONE_DEVICE
from random_model import model_config, needs_torch, parameters

from emma_jax import conversion, decoding, generate, hf
from emma_jax.text_model import Prompt, TextModel

ROOT = pathlib.Path(__file__).parent.parent
PROMPTS = ["Hello,", "two\nlines and\u2028more", "x"]


def command(*arguments):
    environment = os.environ | ONE_DEVICE
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, env=environment
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a workdir run/, exported to hf/ and imported back to back/ by the program."""
    folder = tmp_path_factory.mktemp("hf")
    config = model_config(num_layers=2)
    random_model.write_workdir(folder / "run", config, parameters(config))
    for verb, source, target, *dtype in (("export", "run", "hf", "--dtype=float32"), ("import", "hf", "back")):
        done = command("emma_jax.hf", verb, f"--from={folder / source}", f"--to={folder / target}", *dtype)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_programs_carry_every_bit(folder):
    models = [conversion.load_model(str(folder / name), random_model.mesh()) for name in ("run", "hf", "back")]
    for other in models[1:]:
        for name in ("embedding", "final_norm", "head"):
            np.testing.assert_array_equal(models[0].params[name], other.params[name])
        assert other.tokenizer.fingerprint == models[0].tokenizer.fingerprint


@needs_torch
def test_transformers_loads_the_folder_with_its_tokenizer_and_generates_the_same(folder):
    import torch
    import transformers

    theirs = transformers.LlamaForCausalLM.from_pretrained(folder / "hf")
    vocabulary = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    ours = conversion.load_model(str(folder / "hf"), random_model.mesh())
    prompt = [ours.tokenizer.bos_id, *ours.tokenizer.encode("Hello,")]
    assert prompt[1:] == vocabulary.encode("Hello,", add_special_tokens=False)
    assert (vocabulary.bos_token_id, vocabulary.eos_token_id) == (ours.tokenizer.bos_id, ours.tokenizer.eos_id)
    assert theirs.generation_config.eos_token_id == ours.tokenizer.eos_id
    found = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=10)[0, len(prompt) :].tolist()
    request = decoding.Request(prompt, 10)
    [(_, expected)] = decoding.generate(ours.config, ours.params, [request], [ours.tokenizer.eos_id])
    assert found[: len(expected)] == expected
    assert len(found) == len(expected) or found[len(expected)] == ours.tokenizer.eos_id


def test_generate_writes_a_line_per_prompt(folder, tmp_path):
    lines = [json.dumps({"prompt": prompt, "language": "eng_Latn"}, ensure_ascii=False) for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = command(
        "emma_jax.generate", f"--model={folder / 'back'}", f"--prompts={tmp_path / 'prompts.jsonl'}",
        f"--output={tmp_path / 'out.jsonl'}", "--max_new_tokens=6",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [record["prompt"] for record in records] == PROMPTS
    alone = TextModel(str(folder / "run"))
    assert [record["output"] for record in records] == [alone.complete([Prompt(text, 6)])[0] for text in PROMPTS]
    assert {(record["model"], record["language"]) for record in records} == {("back", "eng_Latn")}
    assert {path.name for path in tmp_path.iterdir()} == {"prompts.jsonl", "out.jsonl"}


def test_generate_goes_on_where_it_was_killed(folder, tmp_path, monkeypatch):
    (tmp_path / "prompts.txt").write_text("one\ntwo\nthree\none\n")

    def run(output):
        flags = dict(max_new_tokens="9", temperature="1.5", top_p="0.9", seed="7", stop="a,\\n", slots="2")
        generate.main(str(folder / "hf"), str(tmp_path / "prompts.txt"), str(tmp_path / output), **flags)
        return [json.loads(line)["output"] for line in (tmp_path / output).read_text().splitlines()]

    expected, whole = run("whole.jsonl"), decoding.generate
    assert expected[0] != expected[3] and not {"a", "\n"} & set("".join(expected))

    def dies(*arguments):
        yield next(whole(*arguments))
        raise KeyboardInterrupt

    asked = []
    monkeypatch.setattr(decoding, "generate", dies)
    with pytest.raises(KeyboardInterrupt):
        run("out.jsonl")
    monkeypatch.setattr(decoding, "generate", lambda *arguments: asked.append(arguments[2]) or whole(*arguments))
    assert run("out.jsonl") == expected
    assert [len(requests) for requests in asked] == [3]
    assert {path.name for path in tmp_path.iterdir()} == {"prompts.txt", "whole.jsonl", "out.jsonl"}


def test_prompts_are_lines_or_objects(tmp_path):
    (tmp_path / "prompts.txt").write_text("one\ntwo\u2028too\n", encoding="utf-8")
    assert generate.read_prompts(str(tmp_path / "prompts.txt")) == [{"prompt": "one"}, {"prompt": "two\u2028too"}]
    for content, message in (
        ('{"prompt": "a"}\n{"text": "b"}\n', ":2 is no object"),
        ('{"prompt"\n', ":1 is no valid"),
    ):
        (tmp_path / "prompts.jsonl").write_text(content)
        with pytest.raises(ValueError, match=message):
            generate.read_prompts(str(tmp_path / "prompts.jsonl"))
    (tmp_path / "prompts.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="prompts.txt is not UTF-8: .* at byte 3"):
        generate.read_prompts(str(tmp_path / "prompts.txt"))


def test_a_mistake_is_one_sentence_and_status_2(folder):
    done = command("emma_jax.hf", "export", f"--from={folder / 'run'}", f"--to={folder / 'hf'}")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("I", "W"))]
    assert len(errors) == 1 and errors[0].startswith("error: ") and "exists already" in errors[0]


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("exprot", dict(to="x"), "'exprot' is no verb; known are import, export"),
        ("export", dict(to=""), "export needs both --from=FOLDER and --to=FOLDER"),
        ("import", dict(to="x", dtype="float32"), "--dtype belongs to export"),
        ("import", dict(to="x"), "there is no file nowhere/config.json"),
    ],
)
def test_wrong_arguments(verb, flags, message):
    with pytest.raises(ValueError, match=message):
        hf.main(verb, **{"from": "nowhere", "dtype": "", **flags})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(model=""), "generate needs --model=DIR"),
        (dict(max_new_tokens="many"), "--max_new_tokens is 'many'; expected a number, such as 128"),
        (dict(temperature="hot"), "--temperature is 'hot'; expected a number, such as 0.0"),
        (dict(seed="-1"), "--seed is -1; it must be 0 or more"),
        (dict(prompts="o"), "--output is the file of --prompts, o: name another"),
    ],
)
def test_wrong_arguments_of_generate(changes, message):
    with pytest.raises(ValueError, match=message):
        generate.main(**{**dict(model="m", prompts="p", output="o", max_new_tokens="1"), **changes})
