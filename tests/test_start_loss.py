"""A run that starts from a base is held to the loss that another implementation found for it."""

import jax
import numpy as np
import pytest
import random_model
import synthetic

from emma_jax import reference_loss, sharding, train
from emma_jax.checkpoint import Checkpoints
from emma_jax.program import build
from emma_jax.training_data import TrainingData

LENGTHS = (30, 12, 24)  # of the reference's rows; those of the run predict 24 ids


@pytest.fixture
def run(tiny_config, tmp_path):
    """A short run from a base with random parameters, whose reference is its own exact loss."""
    synthetic.write_run(tmp_path / "data", tiny_config)
    tiny_config.train.update(steps=3, validate_every_steps=0, base=str(tmp_path / "base"))
    program = build(tiny_config, sharding.make_mesh(tiny_config.sharding, jax.devices()[:1]))
    params = program.init(jax.random.key(7)).params
    random_model.write_workdir(tmp_path / "base", tiny_config.model, params, step=0)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 90, length).tolist() for length in LENGTHS]
    reference_loss.write(tmp_path / "base", reference_loss.Reference(rows, scores(params, tiny_config, rows), "test"))
    return tiny_config


def scores(params, config, rows):
    logs = []
    for row in rows:
        logits = random_model.logits(config.model, params, [row])[0].astype(np.float64)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        logs.append(logits[np.arange(len(row) - 1), row[1:]].tolist())
    return logs


def go(config, workdir):
    program = build(config, sharding.make_mesh(config.sharding, jax.devices()[:1]))
    train.train(config, train.epath.Path(workdir), program)


@pytest.mark.parametrize(
    ("devices", "axes", "batch_rows"), [(1, {}, 8), (1, {}, 2), (8, dict(fsdp=4, tensor=2), 8)], ids=str
)
def test_the_right_start_passes_on_every_mesh_and_with_every_batch(run, caplog, devices, axes, batch_rows):
    caplog.set_level("INFO", logger="absl")
    run.sharding.update(axes)
    run.train.validation_batch_rows = batch_rows
    program = build(run, sharding.make_mesh(run.sharding, jax.devices()[:devices]))
    params = Checkpoints(run.train.base).restore_params(0, program.state.params)
    TrainingData(run, program).check_start(program, params, run.train.base)
    (line,) = [record.message for record in caplog.records if record.message.startswith("loss at the start")]
    words = line.split()
    assert float(words[4].rstrip(",")) == pytest.approx(float(words[-1]), abs=2e-4)


def test_another_start_is_refused_before_the_first_step(run, tmp_path):
    reference = reference_loss.read(tmp_path / "base")
    other = [[log - 0.1 for log in logs] for logs in reference.log_probabilities]
    reference_loss.write(tmp_path / "base", reference_loss.Reference(reference.rows, other, "test"))
    with pytest.raises(ValueError, match=r"the loss of .*base is 4\.\d+ here and 4\.\d+ by test, more than"):
        go(run, tmp_path / "work")
    assert Checkpoints(tmp_path / "work").latest_step() is None
    run.train.start_loss_tolerance = 0.2
    go(run, tmp_path / "work")
    assert Checkpoints(tmp_path / "work").latest_step() == 3


def test_a_loss_that_is_no_number_is_refused(run, tmp_path):
    reference = reference_loss.read(tmp_path / "base")
    nan = [[float("nan")] * len(logs) for logs in reference.log_probabilities]
    reference_loss.write(tmp_path / "base", reference_loss.Reference(reference.rows, nan, "test"))
    with pytest.raises(ValueError, match="here and nan by test"):
        go(run, tmp_path / "work")


def test_a_base_without_reference_is_told(run, tmp_path, caplog):
    (tmp_path / "base" / reference_loss.FILE).unlink()
    program = build(run, sharding.make_mesh(run.sharding, jax.devices()[:1]))
    TrainingData(run, program).check_start(program, None, run.train.base)
    assert "its loss at the start is not checked" in caplog.text
