"""Checkpoints: layer by layer, bit for bit, on another mesh, and after a failed or interrupted save."""

import resource
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from emma_jax import checkpoint, sharding
from emma_jax.checkpoint import Checkpoints, Metadata
from emma_jax.program import build


@pytest.fixture
def saved(tiny_config, one_device_mesh, tmp_path):
    program = build(tiny_config, one_device_mesh)
    state = program.init(jax.random.key(0))
    checkpoints = Checkpoints(tmp_path, tiny_config.checkpoint)
    checkpoints.save(3, state.params, state.optimizer, Metadata({"model": {}}, 24, "rows", "validation", "tokenizer"))
    checkpoints.close()
    return state


def assert_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)
    assert jax.tree.structure(left) == jax.tree.structure(right)


def test_state_comes_back_on_another_mesh(saved, tiny_config, tmp_path):
    tiny_config.sharding.update(fsdp=4, tensor=2)
    program = build(tiny_config, sharding.make_mesh(tiny_config.sharding))
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() == 3
    params = checkpoints.restore_params(3, program.state.params)
    assert_equal(params, saved.params)
    assert params["head"].sharding == program.state.params["head"].sharding
    assert_equal(checkpoints.restore_optimizer(3, program.state.optimizer), saved.optimizer)


def test_metadata_comes_back(saved, tmp_path):
    assert Checkpoints(tmp_path).metadata(3) == Metadata({"model": {}}, 24, "rows", "validation", "tokenizer")


def test_no_stored_array_holds_more_than_a_layer(saved, tmp_path):
    import orbax.checkpoint as ocp

    stored = ocp.PyTreeCheckpointer().metadata(tmp_path / "checkpoints" / "3" / "params").item_metadata.tree
    assert stored["layers"]["mlp"]["gate"]["1"].shape == (32, 64)


def test_import_has_no_optimizer(saved, tiny_config, tmp_path):
    checkpoints = Checkpoints(tmp_path / "imported", tiny_config.checkpoint)
    checkpoints.save(0, saved.params, None, Metadata({}))
    checkpoints.close()
    assert Checkpoints(tmp_path / "imported").restore_optimizer(0, None) is None


def test_another_model_is_refused(saved, tiny_config, one_device_mesh, tmp_path):
    tiny_config.model.mlp_dim = 32
    program = build(tiny_config, one_device_mesh)
    with pytest.raises(ValueError, match="does not hold this model"):
        Checkpoints(tmp_path).restore_params(3, program.state.params)


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with pytest.raises(ValueError, match="is no workdir"):
        Checkpoints(tmp_path)


def test_an_interrupted_save_does_not_count(saved, tmp_path):
    step = tmp_path / "checkpoints" / "3"
    step.rename(tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp")
    assert Checkpoints(tmp_path).latest_step() is None


def test_a_save_that_fails_names_the_last_good_step(saved, tiny_config, tmp_path):
    """Writing stops as on a full disk: files may not grow beyond some bytes."""
    checkpoints = Checkpoints(tmp_path, tiny_config.checkpoint)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match="could not be written to .*; step 3 is complete: free space"):
            checkpoints.save(5, saved.params, saved.optimizer, Metadata({}))
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Checkpoints(tmp_path).latest_step() == 3
    checkpoints = Checkpoints(tmp_path, tiny_config.checkpoint)
    checkpoints.save(5, saved.params, saved.optimizer, Metadata({}))
    checkpoints.close()
    assert Checkpoints(tmp_path).latest_step() == 5


def test_a_disk_without_room_is_told_before_anything_is_written(saved, tiny_config, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, tiny_config.checkpoint)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(OSError, match=r"bytes are to be written and the disk has 100,000 left; step 3 is complete"):
        checkpoints.save(5, saved.params, saved.optimizer, Metadata({}))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_unstack_of_a_tied_pair_of_trees():
    tree = ({"layers": {"a": np.arange(6).reshape(2, 3)}}, {"b": np.arange(2)})
    unstacked = checkpoint.unstack(tree)
    np.testing.assert_array_equal(unstacked[0]["layers"]["a"]["1"], [3, 4, 5])
    np.testing.assert_array_equal(unstacked[1]["b"], [0, 1])
