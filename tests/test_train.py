"""The run as a user meets it: exact continuation after a kill, the start from a base, and what it refuses."""

import dataclasses
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest
import synthetic

from configs import base
from emma_jax import metric_writer, pack_plan, sharding, store, train
from emma_jax.checkpoint import Checkpoints
from emma_jax.program import build

STEPS = 60


@pytest.fixture
def run(tiny_config, tmp_path):
    """A configuration with tokenizer and rows, to be trained in this process on one device."""
    synthetic.write_run(tmp_path / "data", tiny_config)
    tiny_config.checkpoint.save_every_steps = 5
    tiny_config.train.validate_every_steps = 6
    return tiny_config


def go(config, workdir, devices=1):
    program = build(config, sharding.make_mesh(config.sharding, jax.devices()[:devices]))
    train.train(config, train.epath.Path(workdir), program)
    return program


def final_params(config, workdir):
    program = build(config, sharding.make_mesh(config.sharding, jax.devices()[:1]))
    checkpoints = Checkpoints(workdir)
    assert checkpoints.latest_step() == config.train.steps
    return checkpoints.restore_params(config.train.steps, program.state.params)


def event_bytes(workdir):
    return (workdir / "events" / metric_writer.FILE_NAME).read_bytes()


def test_a_run_logs_validates_and_ends(run, tmp_path):
    go(run, tmp_path / "work")
    series = metric_writer.read(tmp_path / "work" / "events")
    assert [step for step, _ in series["loss"]] == list(range(1, 13))
    assert [step for step, _ in series["validation_loss/mono"]] == [0, 6, 12]
    assert series["validation_loss/pair.eng_Latn-swh_Latn"][0][1] == pytest.approx(np.log(96), abs=0.2)
    bits = series["validation_bits_per_byte/mono.swh_Latn"][-1][1]
    # The synthetic rows claim two bytes per token.
    assert bits == pytest.approx(series["validation_loss/mono.swh_Latn"][-1][1] / np.log(2) / 2, rel=1e-5)
    metadata = Checkpoints(tmp_path / "work").metadata(12)
    assert metadata.position_rows == 96
    assert metadata.config["model"]["num_kv_heads"] == 2


def test_a_profile_is_a_trace_of_so_many_steps(run, tmp_path):
    run.train.validate_every_steps = 0
    program = build(run, sharding.make_mesh(run.sharding, jax.devices()[:1]))
    train.train(run, train.epath.Path(tmp_path / "work"), program, profile_steps=3)
    assert list((tmp_path / "work" / "profile").rglob("*.xplane.pb"))
    assert Checkpoints(tmp_path / "work").latest_step() == run.train.steps


@pytest.mark.parametrize("steps", ["0", "-1", "many"])
def test_a_profile_of_no_number_of_steps(run, tmp_path, steps):
    with pytest.raises(ValueError, match=f"--profile={steps} is no number of steps"):
        train.main(run, str(tmp_path / "work"), steps)


def test_a_finished_run_is_left_alone(run, tmp_path, caplog):
    go(run, tmp_path / "work")
    before = event_bytes(tmp_path / "work")
    caplog.set_level("INFO", logger="absl")
    go(run, tmp_path / "work")
    assert event_bytes(tmp_path / "work") == before
    assert "tiny is done: 12 steps" in caplog.text


KILLED = """
import os, signal, sys, threading, time
from absl import logging
import jax
sys.path.insert(0, {tests!r})
from configs import base
from emma_jax import sharding, train, checkpoint
from emma_jax.program import build
from ml_collections import ConfigDict
import json
config = base.get_config()
config.update(json.load(open({config!r})))
kill_in_save = int(sys.argv[2])
if kill_in_save:
    save = checkpoint.Checkpoints.save
    def save_and_die(self, step, *rest):
        save(self, step, *rest)
        if step >= kill_in_save:
            # The save returned; its files are being written by other threads.
            pending = [p.name for p in self.folder.iterdir() if "tmp" in p.name]
            print("killed during an asynchronous save", step, pending, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    checkpoint.Checkpoints.save = save_and_die
print("ready", flush=True)
program = build(config, sharding.make_mesh(config.sharding, jax.devices()[:1]))
train.train(config, train.epath.Path(sys.argv[1]), program)
print("finished", flush=True)
"""


def test_killed_at_three_moments_ends_as_the_undisturbed_run(run, tmp_path):
    """kill -9 at two random moments and during an asynchronous save: same losses, parameters and event files."""
    run.train.steps = STEPS
    (tmp_path / "config.json").write_text(run.to_json_best_effort())
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(tests=os.path.dirname(__file__), config=str(tmp_path / "config.json")))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-u", str(script)]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}

    def start(workdir, kill_in_save=0):
        return subprocess.Popen(
            [*command, str(workdir), str(kill_in_save)], stdout=subprocess.PIPE, text=True, env=environment
        )

    def reached(step):
        return any(s >= step for s, _ in metric_writer.read(killed / "events").get("loss", []))

    assert start(whole).wait() == 0
    moments = sorted(random.SystemRandom().sample(range(3, 50), 2))
    for moment in moments:
        process = start(killed)
        while not reached(moment) and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"the run ended before it could be killed at step {moment}"
    process = start(killed, kill_in_save=55)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert re.search(r"killed during an asynchronous save 55 \['55\.orbax", output), output
    assert Checkpoints(killed).latest_step() == 50
    assert start(killed).wait() == 0

    print("killed at steps", moments)
    assert event_bytes(killed) == event_bytes(whole), f"killed at {moments}"
    jax.tree.map(np.testing.assert_array_equal, final_params(run, killed), final_params(run, whole))


def test_the_continual_run_starts_at_the_loss_of_its_base(run, tmp_path):
    go(run, tmp_path / "base")
    program = build(run, sharding.make_mesh(run.sharding, jax.devices()[:1]))
    data = train.TrainingData(run, program)
    batch = next(iter(data.training_batches(0)))
    expected = program.score(final_params(run, tmp_path / "base"), batch)
    run.train.base = str(tmp_path / "base")
    step, state = train.begin(run, program, Checkpoints(tmp_path / "arm", run.checkpoint), data)
    assert step == 0
    np.testing.assert_array_equal(program.score(state.params, batch), expected)


def test_batches_do_not_depend_on_where_a_run_continues(run, tmp_path):
    program = build(run, sharding.make_mesh(run.sharding, jax.devices()[:1]))
    data = train.TrainingData(run, program)
    batches = data.training_batches(0)
    fourth = [next(batches) for _ in range(5)][4]
    jax.tree.map(np.testing.assert_array_equal, next(data.training_batches(4)), fourth)


def test_the_workdir_of_another_config(run, tmp_path):
    go(run, tmp_path / "work")
    run.optimizer.learning_rate = 0.5
    with pytest.raises(ValueError, match=r"is of another run: its optimizer.learning_rate is 0.01, .* 0.5"):
        go(run, tmp_path / "work")


def stop_after(monkeypatch, steps):
    """From now on a run in this process gets batches for so many steps and then ends, as if it were told to."""
    batches = train.TrainingData.training_batches
    monkeypatch.setattr(
        train.TrainingData, "training_batches", lambda self, step: itertools.islice(batches(self, step), steps)
    )


def test_a_continuation_may_have_other_devices_and_another_policy(run, tmp_path, monkeypatch):
    go(run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        go(run, tmp_path / "work")
    assert Checkpoints(tmp_path / "work").latest_step() == 5
    run.checkpoint.keep = 5
    run.sharding.update(fsdp=2, tensor=2)
    go(run, tmp_path / "work", devices=4)
    whole, continued = (metric_writer.read(tmp_path / name / "events")["loss"] for name in ("whole", "work"))
    assert [step for step, _ in continued] == list(range(1, 13))
    assert continued[:5] == whole[:5]
    np.testing.assert_allclose(continued, whole, rtol=1e-4)


@pytest.mark.parametrize(
    ("section", "key"), [("train", "steps"), ("checkpoint", "save_every_steps"), ("input_pipeline", "num_threads")]
)
def test_numbers_that_no_run_can_have(run, section, key):
    run[section][key] = 0
    with pytest.raises(ValueError, match=f"config.{section}.{key} is 0; it must be 1 or more"):
        train.check_ranges(run)


def test_a_refused_start_leaves_the_workdir_as_it_was(run, tmp_path):
    go(run, tmp_path / "work")
    (tmp_path / "work" / "config.json").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()}
    settings = tmp_path / "data" / "tokenizer" / "tokenizer_config.json"
    settings.write_text(settings.read_text() + " ")
    run.seed = 5
    with pytest.raises(ValueError, match="is at row 96 with seed 0, this config would be at 96 with 5"):
        go(run, tmp_path / "work")
    assert {path: path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()} == before


def test_a_damaged_record_of_the_config_is_named(run, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        go(run, tmp_path / "work")


def test_rows_packed_again_with_other_content(run, tmp_path):
    go(run, tmp_path / "work")
    fingerprint = synthetic.tokenizer.load(run.tokenizer.folder).fingerprint
    for name in ("monolingual",):
        (tmp_path / "data" / "rows" / name / "store.json").unlink()
        for shard in (tmp_path / "data" / "rows" / name).iterdir():
            shard.unlink()
        (tmp_path / "data" / "rows" / name).rmdir()
        synthetic.write_rows(tmp_path / "data" / "rows", name, ["mono.swh_Latn"], fingerprint, 24, seed=9)
    with pytest.raises(ValueError, match="the checkpoint has seen the rows"):
        go(run, tmp_path / "work")


def test_a_store_of_another_tokenizer(run, tmp_path):
    settings = tmp_path / "data" / "tokenizer" / "tokenizer.json"
    settings.write_text(settings.read_text() + " ")
    with pytest.raises(ValueError, match="were packed with the tokenizer"):
        go(run, tmp_path / "work")


@pytest.mark.parametrize(
    ("key", "there", "here"),
    [
        ("rendering.direction", "random", "both"),
        ("pack.packing", "concatenate", "best_fit"),
        ("pack.components.monolingual.max_epochs", 2.0, 4.0),
        ("pack.components.monolingual.multipliers.very_low", 5.0, 1.0),
    ],
)
def test_rows_that_were_packed_otherwise_than_the_config_says(run, tmp_path, key, there, here):
    run.pack.components.monolingual = base.component("mono.*", tokens=1000, policy="resource_class")
    found = store.load(run.pack.folder, "monolingual")
    settings = pack_plan.settings(run, "monolingual")
    assert settings[key] == here
    store.write(run.pack.folder, dataclasses.replace(found, settings=settings | {key: there}))
    with pytest.raises(ValueError, match=f"packed with config.{key} of {there!r}, and this config says {here!r}"):
        go(run, tmp_path / "work")


def test_a_tokenizer_larger_than_the_model(run, tmp_path):
    run.model.vocab_size = 80
    with pytest.raises(ValueError, match="has 96 ids, model.vocab_size is 80"):
        go(run, tmp_path / "work")


def test_a_base_that_is_not_there(run, tmp_path):
    run.train.base = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nowhere is no workdir"):
        go(run, tmp_path / "work")


def test_a_base_with_another_rope(run, tmp_path):
    go(run, tmp_path / "base")
    run.train.base, run.model.rope_theta = str(tmp_path / "base"), 10000.0
    with pytest.raises(ValueError, match="base is another model: its rope_theta is 500000.0"):
        go(run, tmp_path / "work")


def test_a_component_that_is_not_packed(run, tmp_path):
    run.mixture.code = 15.0
    with pytest.raises(ValueError, match="no rows of the component 'code' .* packed there: bilingual, monolingual"):
        go(run, tmp_path / "work")


def test_8b_on_a_small_machine_is_refused_with_bytes_and_the_way_out():
    command = [sys.executable, "-m", "emma_jax.train", "--config=configs/bilingual.py", "--workdir=nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert re.search(r"need 128,[\d,]+ bytes \(119\.7 GiB\), this machine has free [\d,]+ \(", result.stderr)
    assert "bash launch/tpu_vm.sh" in result.stderr
    assert not os.path.exists("nowhere")


DISK_FULL = textwrap.dedent("""
    import resource, sys
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
    import runpy
    runpy.run_module("emma_jax.train", run_name="__main__")
""")


def test_a_full_disk_leaves_the_last_good_checkpoint(run, tmp_path):
    """The whole program, with a limit on file size in place of a full disk; then again without it."""
    run.checkpoint.save_every_steps = 50
    go(run, tmp_path / "work")
    checkpoints = tmp_path / "work" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir() if path.name.isdigit()] == ["12"]

    run.train.steps = 24
    (tmp_path / "config.json").write_text(run.to_json_best_effort())
    (tmp_path / "work" / "config.json").write_text(run.to_json_best_effort())
    (tmp_path / "run_config.py").write_text(
        "import json\nfrom configs import base\n\ndef get_config():\n    config = base.get_config()\n"
        f"    config.update(json.load(open({str(tmp_path / 'config.json')!r})))\n    return config\n"
    )
    flags = [f"--config={tmp_path}/run_config.py", f"--workdir={tmp_path}/work"]
    failed = subprocess.run(
        [sys.executable, "-c", DISK_FULL, "20000", *flags],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert failed.returncode == 2, failed.stderr
    assert "step 12 is complete: free space and run again" in failed.stderr
    sentences = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1 and sentences[0].startswith("error: a checkpoint could not be written"), failed.stderr
    assert Checkpoints(tmp_path / "work").latest_step() == 12
    go(run, tmp_path / "work")
    assert Checkpoints(tmp_path / "work").latest_step() == 24
    assert json.loads((tmp_path / "work" / "config.json").read_text())["train"]["steps"] == 24
