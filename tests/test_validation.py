"""Validation at the size of the paper: a slice for each language and each direction, from one pass, at little cost."""

import jax
import numpy as np
import pytest

from configs import bilingual
from emma_jax import metric_writer, sharding, validation
from emma_jax.program import build

NUM_SLICES = 546 + 2 * 2507


@pytest.fixture
def program(tiny_config):
    return build(tiny_config, sharding.make_mesh(tiny_config.sharding))


def slice_sums(program, num_slices):
    mesh = program.batch["tokens"].sharding.mesh
    return validation.make_slice_sums(program.score, num_slices, sharding.replicated(mesh))


def batch_of(program, random_batch, seed):
    """A batch whose every token is of any slice; padding is of none."""
    batch = random_batch(seed)
    drawn = np.random.default_rng(seed).integers(0, NUM_SLICES, batch["tasks"].shape, np.int32)
    batch["tasks"] = np.where(batch["segments"] > 0, drawn, -1)
    return {name: jax.device_put(array, program.batch[name].sharding) for name, array in batch.items()}


def test_losses_of_all_slices_come_from_one_pass(program, random_batch):
    params = program.init(jax.random.key(0)).params
    batches = [batch_of(program, random_batch, seed) for seed in range(3)]
    names = {f"mono.{number}": 100 + number for number in range(NUM_SLICES)}
    found = validation.validate(slice_sums(program, NUM_SLICES), params, iter(batches), names)

    nats, tokens = np.zeros(NUM_SLICES), np.zeros(NUM_SLICES)
    for batch in batches:
        used = np.asarray(batch["segments"]) > 0
        np.add.at(nats, np.asarray(batch["tasks"])[used], -np.asarray(program.score(params, batch))[used])
        np.add.at(tokens, np.asarray(batch["tasks"])[used], 1)
    assert list(found) == [name for name, count in zip(names, tokens, strict=True) if count]
    for number, name in enumerate(names):
        if name in found:
            assert found[name].tokens == tokens[number]
            assert found[name].loss == pytest.approx(nats[number] / tokens[number], rel=1e-5)
            assert found[name].bits_per_byte == pytest.approx(nats[number] / np.log(2) / names[name], rel=1e-5)


def test_thousands_of_slices_take_no_more_memory_than_one(program):
    params = program.state.params
    one, all_of_them = (
        slice_sums(program, number).lower(params, program.batch).compile().memory_analysis().temp_size_in_bytes
        for number in (1, NUM_SLICES)
    )
    assert all_of_them - one < 16 * 4 * NUM_SLICES  # some copies of the sums


def test_validation_takes_at_most_a_fiftieth_of_the_time_of_training():
    """Of the paper's run, even if every document fills a row."""
    config = bilingual.get_config()
    rows = NUM_SLICES * config.pack.validation_documents
    share = validation.share_of_time(rows, config.input_pipeline.batch_rows, config.train.validate_every_steps)
    assert share <= 0.02


def test_the_scalars_of_a_pass_are_written_in_no_time(tmp_path):
    slices = {f"pair.{number}": validation.Slice(1.0, 1.0, 10) for number in range(NUM_SLICES)}
    scalars = validation.summary(slices)
    log = metric_writer.RunLog(tmp_path, "run", 0, 1)
    log.validation(0, scalars)
    log.close()
    assert len(metric_writer.read(tmp_path)) == len(scalars) == 2 * NUM_SLICES + 2
