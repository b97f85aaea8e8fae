"""The batches of a run are those of its stores, weights, seed and step: on 1, 2 and 4 hosts, and after any restart.

The hosts are processes under jax.distributed, and a batch is what their devices hold together.
"""

import pytest
import synthetic
from input_host import run_hosts

STEPS = 200
RESTARTS = (3, 50, 117)


@pytest.fixture
def config(tiny_config, tmp_path):
    """A run of two components that goes several times through its rows."""
    synthetic.write_run(tmp_path, tiny_config)
    return tiny_config


def test_batches_are_the_same_on_any_number_of_hosts_and_after_restarts(config, tmp_path):
    (alone,) = run_hosts(1, 4, config, tmp_path, parts=[(0, STEPS)])
    assert list(alone) == list(range(STEPS))
    assert len(set(alone.values())) == STEPS
    for hosts in (2, 4):
        whole, *again = run_hosts(
            hosts, 4, config, tmp_path, parts=[(0, STEPS), *((start, start + 5) for start in RESTARTS)]
        )
        assert whole == alone
        assert again == [{step: alone[step] for step in range(start, start + 5)} for start in RESTARTS]


def test_a_run_goes_on_with_the_next_batch_on_another_number_of_hosts(config, tmp_path):
    config.model.num_layers = 1
    config.train.update(steps=80, validate_every_steps=0)
    config.checkpoint.save_every_steps = 40
    (straight,) = run_hosts(2, 2, config, tmp_path, workdir=str(tmp_path / "straight"), end=80)
    (first,) = run_hosts(2, 2, config, tmp_path, workdir=str(tmp_path / "moved"), end=40)
    (second,) = run_hosts(1, 2, config, tmp_path, workdir=str(tmp_path / "moved"), end=80)
    assert (list(first), list(second)) == (list(range(40)), list(range(40, 80)))
    assert first | second == straight
