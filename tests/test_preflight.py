"""A step compiled for slices that are not there: what the report says, and what the step may need of memory."""

import json
import subprocess
import sys

import pytest

from emma_jax import preflight, tpu_topology

KEYS = {
    "compiles", "topology", "num_chips", "hbm_gib_per_chip", "fits", "static_step_seconds", "kernel_seconds",
    "exposed_collective_seconds", "step_seconds_bound", "flops_per_token", "collectives",
    "tokens_per_second_per_chip_bound", "mfu_bound",
}  # fmt: skip


@pytest.fixture
def small_config(tiny_config):
    """A model whose heads, rows and dims are those that kernels for TPUs take."""
    tiny_config.model.update(
        vocab_size=2048, num_layers=2, model_dim=512, num_heads=4, num_kv_heads=2, head_dim=128, mlp_dim=1024,
        compute_dtype="bfloat16", remat="full",
    )  # fmt: skip
    tiny_config.pack.row_length = 1024
    tiny_config.input_pipeline.batch_rows = 8
    return tiny_config


def compiled(config, name):
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install -e '.[tpu]'")
    topology = tpu_topology.parse(name)
    return preflight.compile_step(config, topology, topology.devices()), topology


@pytest.mark.parametrize(("name", "microbatches", "budget_mib"), [("v5p:2x2x1", 1, 80), ("v5e:2x2", 2, 40)])
def test_the_step_stays_within_its_memory(small_config, name, microbatches, budget_mib):
    small_config.train.microbatches = microbatches
    result, topology = compiled(small_config, name)
    report = result.report
    assert report["compiles"]
    assert report["fits"]
    assert report.keys() >= KEYS
    assert report["hbm_gib_per_chip"]["total"] * 1024 <= budget_mib
    parts = ("static_step_seconds", "kernel_seconds", "exposed_collective_seconds")
    assert report["step_seconds_bound"] == pytest.approx(sum(report[part] for part in parts))
    # All that the model needs is executed, and its forward pass once more.
    assert 1.0 < report["flops_per_token"]["hardware"] / report["flops_per_token"]["model"] < 1.8
    assert report["collectives"]["all-gather"]["bytes"] > 0
    assert json.loads(json.dumps(report)) == report
    text = preflight.table(result, topology)
    assert "step, at least" in text
    assert "MFU, at most" in text


def test_a_step_that_does_not_fit_says_what_it_needs(small_config):
    small_config.model.update(vocab_size=2**21, model_dim=2048)  # 16 GiB a matrix, and its moments
    result, topology = compiled(small_config, "v5e:2x2")
    assert not result.report["fits"]
    assert result.report["hbm_gib_per_chip"]["total"] > result.report["hbm_gib_per_chip"]["limit"] == 15.75
    assert "a way out" in preflight.table(result, topology)


def fake_compile(seconds, gib):
    """A stand-in for `compile_step`: seconds and GiB are functions of remat, rows at a time and tensor."""
    tried = []

    def compile_step(config, topology, devices):
        mesh = dict(config.sharding)
        what = preflight._what(config, topology, {axis: mesh[axis] for axis in ("data", "fsdp", "tensor")})
        key = (what["remat"], what["rows_at_a_time"], what["mesh"]["tensor"])
        tried.append(key)
        total = gib(*key)
        fits = total <= 16
        memory = dict(arguments=1.0, temporaries=total - 1, total=total, limit=16.0)
        speed = dict(step_seconds_bound=seconds(*key), mfu_bound=0.5)
        return preflight.Compiled(what | dict(compiles=fits, why_not="", fits=fits, hbm_gib_per_chip=memory) | speed)

    return compile_step, tried


def test_a_sweep_names_the_fastest_that_fits(small_config, monkeypatch):
    small_config.input_pipeline.batch_rows = 32
    compile_step, tried = fake_compile(
        seconds=lambda remat, rows, tensor: (2.0 if remat == "full" else 1.5) - 0.1 * rows + 0.2 * (tensor - 1),
        gib=lambda remat, rows, tensor: 4 * rows if remat == "full" else 9 * rows,
    )
    monkeypatch.setattr(preflight, "compile_step", compile_step)
    monkeypatch.setattr(preflight.model, "REMAT_SAVES", {"full": None, "dots": None})
    report = preflight.best(small_config, tpu_topology.parse("v5p:2x2x1"), [None] * 4).report
    assert (report["remat"], report["rows_at_a_time"], report["mesh"]["tensor"]) == ("dots", 1, 1)
    assert ("full", 8, 1) in tried
    assert ("dots", 2, 1) in tried
    assert ("dots", 4, 1) not in tried  # more of what did not fit
    assert ("dots", 2, 2) in tried
    assert len(report["sweep"]) == len(tried)


def test_a_sweep_without_a_variant_that_fits(small_config, monkeypatch):
    compile_step, _ = fake_compile(seconds=lambda *_: 1.0, gib=lambda remat, rows, tensor: 20.0 * rows)
    monkeypatch.setattr(preflight, "compile_step", compile_step)
    report = preflight.best(small_config, tpu_topology.parse("v5p:2x2x1"), [None] * 4).report
    assert not report["fits"]
    assert report["hbm_gib_per_chip"]["total"] == 20.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "error: for which slice? name its chips along each dim: --topology=v5p:4x4x4"),
        (["--topology=v5p-128"], "error: there is no topology 'v5p-128'"),
        (
            ["--topology=v5p:4x4x4", "--config.input_pipeline.batch_rows=100"],
            "error: batch of 100 rows does not divide",
        ),
    ],
)
def test_mistakes(arguments, sentence):
    command = [sys.executable, "-m", "emma_jax.preflight", "--config=configs/bilingual.py", *arguments]
    if "batch_rows" in "".join(arguments):
        pytest.importorskip("libtpu", reason="libtpu is not installed: pip install -e '.[tpu]'")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
