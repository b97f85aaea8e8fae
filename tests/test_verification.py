"""verify: the same model passes, each planted fault is found in its config or tensors, and in the logits alone."""

import json
import shutil

import numpy as np
import pytest
import random_model
from random_model import model_config, needs_torch, parameters
from safetensors.numpy import load_file, save_file

from emma_jax import conversion, logit_comparison, reference_loss, verification

LAYER = "model.layers.{}.{}.weight"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with a workdir run/ and its float32 and bfloat16 exports hf/ and half/."""
    folder = tmp_path_factory.mktemp("original")
    config = model_config(num_layers=2, max_length=2048)
    random_model.write_workdir(folder / "run", config, parameters(config), step=0)
    for name, dtype in (("hf", "float32"), ("half", "bfloat16")):
        conversion.export_hf(str(folder / "run"), str(folder / name), dtype)
    return folder


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, change):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swap(tensors, left, right):
    tensors[left], tensors[right] = tensors[right], tensors[left]


def permute_query_and_key(folder):
    """From the half-split rotation to the interleaved one of Meta's own files."""

    def change(tensors):
        for name in ("q_proj", "k_proj"):
            for layer in range(2):
                weight = tensors[LAYER.format(layer, f"self_attn.{name}")]
                halves = weight.reshape(-1, 2, 8, weight.shape[1])
                tensors[LAYER.format(layer, f"self_attn.{name}")] = np.ascontiguousarray(
                    halves.transpose(0, 2, 1, 3)
                ).reshape(weight.shape)

    change_tensors(folder, change)


def drop_scaling(folder):
    def change(content):
        content["rope_scaling"] = None
        content["rope_parameters"] = {"rope_type": "default", "rope_theta": content["rope_theta"]}

    change_config(folder, change)


def set_theta(folder):
    def change(content):
        content["rope_theta"] = content["rope_parameters"]["rope_theta"] = 10_000.0

    change_config(folder, change)


def swap_gate_and_up(folder):
    names = [LAYER.format(1, f"mlp.{name}_proj") for name in ("gate", "up")]
    change_tensors(folder, lambda tensors: swap(tensors, *names))


def change_epsilon(folder):
    change_config(folder, lambda content: content.update(rms_norm_eps=1e-6))


def swap_layers(folder):
    def change(tensors):
        for name in [name for name in tensors if ".layers.0." in name]:
            swap(tensors, name, name.replace(".layers.0.", ".layers.1."))

    change_tensors(folder, change)


def tie_head(folder):
    change_config(folder, lambda content: content.update(tie_word_embeddings=True))
    change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))


FAULTS = {
    permute_query_and_key: "4 of 21 tensors differ",
    drop_scaling: "rope_scaling_factor is 8.0 and 1.0",
    set_theta: "rope_theta is 500000.0 and 10000.0",
    swap_gate_and_up: "2 of 21 tensors differ, among them layers/mlp/gate/1",
    change_epsilon: "norm_epsilon is 1e-05 and 1e-06",
    swap_layers: "18 of 21 tensors differ",
    tie_head: "tie_embeddings is False and True",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_without_transformers(original, tmp_path, fault):
    folder = shutil.copytree(original / "hf", tmp_path / "copy")
    fault(folder)
    for sides in ((original / "run", folder), (folder, original / "run"), (original / "hf", folder)):
        with pytest.raises(ValueError, match="are not the same model: ") as raised:
            verification.verify(*map(str, sides), with_logits=False)
    assert FAULTS[fault] in str(raised.value)


@needs_torch
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_in_the_logits_alone(original, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(logit_comparison, "ROW_TOKENS", 512)
    folder = shutil.copytree(original / "hf", tmp_path / "copy")
    fault(folder)
    ours, theirs = verification.open_side(str(original / "run")), verification.open_side(str(folder))
    logits, _ = verification.compare_logits(ours, theirs)
    assert not logits.is_same, logits


@needs_torch
@pytest.mark.parametrize("export", ["hf", "half"])
def test_the_same_model_passes_and_leaves_a_reference(original, tmp_path, capsys, export):
    run = shutil.copytree(original / "run", tmp_path / "run")
    verification.verify(str(original / export), str(run))
    assert "the same\nlogits: 10240 positions" in capsys.readouterr().out
    ours, theirs = verification.open_side(str(run)), verification.open_side(str(original / export))
    logits, computed = verification.compare_logits(ours, theirs)
    assert logits.is_same and logits.deviation >= 1
    assert logits.max_difference <= 1e-4 and logits.divergence < 1e-10 and logits.agreement == 1
    reference = reference_loss.read(run)
    assert reference == computed and len(reference.rows) == logit_comparison.NUM_TEXT_ROWS
    # The last rows are not in the reference: a random row is no text.
    config = model_config(num_layers=2, max_length=2048)
    for row, logs in zip(reference.rows, reference.log_probabilities, strict=True):
        exact = random_model.logits(config, parameters(config), [row])[0].astype(np.float64)
        exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
        expected = exact[np.arange(len(row) - 1), row[1:]]
        if export == "hf":
            np.testing.assert_allclose(logs, expected, atol=1e-4)
        assert 0 < np.abs(np.array(logs) - expected).max() < 0.5


def test_rows_hold_many_scripts():
    import unicodedata

    lines = [next(iter_) for iter_ in map(logit_comparison.sample_lines, range(60))]
    scripts = {unicodedata.name(letter).split()[0] for line in lines for letter in line if letter.isalpha()}
    assert len(scripts) >= 30


def test_two_workdirs_and_other_shapes_are_compared(original, tmp_path):
    verification.verify(str(original / "run"), str(original / "run"))
    config = model_config(num_layers=1, mlp_dim=96)
    random_model.write_workdir(tmp_path / "other", config, parameters(config))
    with pytest.raises(ValueError, match=r"mlp_dim is 160 and 96; num_layers is 2 and 1; only .*run has layers/.*/1"):
        verification.verify(str(original / "run"), str(tmp_path / "other"))


def test_a_model_that_gives_nan_does_not_pass():
    sums = logit_comparison._Sums()
    theirs = np.random.default_rng(0).normal(size=(4, 8))
    sums.add(theirs, theirs)
    ours = theirs.copy()
    ours[1, 2] = np.nan
    sums.add(theirs, ours)
    assert not sums.result().is_same


@needs_torch
def test_models_that_do_not_fit_are_refused(original, monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(logit_comparison.psutil, "virtual_memory", Memory)
    with pytest.raises(ValueError, match="comparing logits holds both models .* --logits=no"):
        verification.verify(str(original / "run"), str(original / "hf"))


def test_a_damaged_reference_is_named(tmp_path):
    assert reference_loss.read(tmp_path) is None
    reference = reference_loss.Reference([[1, 2]], [[-1.5]], "test")
    reference_loss.write(tmp_path, reference)
    assert reference_loss.read(tmp_path) == reference
    for content in (
        "{",
        '{"version": 2}',
        '{"version": 1, "rows": [[1, 2]], "log_probabilities": [], "computed_by": ""}',
    ):
        (tmp_path / reference_loss.FILE).write_text(content)
        with pytest.raises(ValueError, match="reference_loss.json is damaged"):
            reference_loss.read(tmp_path)
