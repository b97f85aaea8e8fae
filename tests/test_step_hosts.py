"""Training on 1, 2 and 4 hosts, processes under jax.distributed: the same batches and, but for rounding, losses."""

import numpy as np
import pytest
import synthetic
from input_host import run_hosts

from emma_jax import metric_writer

STEPS = 10


@pytest.fixture
def config(tiny_config, tmp_path):
    """A run of two components that ends after ten steps."""
    synthetic.write_run(tmp_path, tiny_config)
    tiny_config.model.num_layers = 1
    tiny_config.train.update(steps=STEPS, validate_every_steps=0)
    tiny_config.checkpoint.save_every_steps = STEPS
    return tiny_config


def test_losses_are_the_same_from_run_to_run_and_close_to_those_of_one_host(config, tmp_path):
    def train(hosts, name):
        (hashes,) = run_hosts(hosts, 4, config, tmp_path, workdir=str(tmp_path / name), end=STEPS)
        events = tmp_path / name / "events"
        losses = [loss for _, loss in metric_writer.read(events)["loss"]]
        return hashes, losses, (events / metric_writer.FILE_NAME).read_bytes()

    hashes, losses, _ = train(1, "alone")
    assert len(losses) == len(hashes) == STEPS
    for hosts in (2, 4):
        first, second = train(hosts, f"first_of_{hosts}"), train(hosts, f"second_of_{hosts}")
        assert first == second
        assert first[0] == hashes
        np.testing.assert_allclose(first[1][0], losses[0], rtol=1e-6)
        np.testing.assert_allclose(first[1][-1], losses[-1], rtol=1e-4)
