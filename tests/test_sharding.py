"""Meshes, the rule table, and the batch's parts per host."""

import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from emma_jax import sharding
from emma_jax.program import build


def mesh(data=1, fsdp=-1, tensor=1):
    return sharding.make_mesh(ConfigDict(dict(data=data, fsdp=fsdp, tensor=tensor)))


def test_the_open_axis_takes_the_remaining_devices():
    assert dict(mesh(tensor=2).shape) == {"data": 1, "fsdp": 4, "tensor": 2}


def test_a_mesh_that_does_not_fit_says_so():
    with pytest.raises(ValueError, match="data 1 x fsdp 3 x tensor 2 does not fit 8 devices"):
        mesh(fsdp=3, tensor=2)


def test_unknown_logical_axis():
    with pytest.raises(ValueError, match="'widht' has no rule"):
        sharding.spec(("widht",))


def test_a_dim_that_does_not_divide_names_the_nearest():
    with pytest.raises(ValueError, match="embed of 30 does not divide over 8 devices; nearest are 24 and 32"):
        sharding.named(mesh(), ("embed",), (30,))


def test_one_host_holds_the_whole_batch():
    rows = sharding.named(mesh(data=2, tensor=2), ("batch", "length"), (16, 4))
    assert sharding.host_block(rows, 16) == (0, 1)


def test_hosts_with_interleaved_shards_read_disjoint_blocks():
    """As on a v5p torus of 2x2x4, where the four chips of a host are every fourth of the mesh."""
    starts = {host: {host + 4 * chip for chip in range(4)} for host in range(4)}
    assert [sharding.block_of(host, starts) for host in range(4)] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_hosts_that_share_some_rows_are_refused():
    with pytest.raises(ValueError, match="hosts share some rows of a batch but not all"):
        sharding.block_of(0, {0: {0, 4}, 1: {4, 8}})


def test_the_batch_on_the_devices_is_the_host_batch():
    rows = sharding.named(mesh(data=2, tensor=2), ("batch", "length"), (16, 3))
    block = np.arange(48).reshape(16, 3)
    np.testing.assert_array_equal(sharding.from_host(block, rows, 1), block)


def test_a_batch_that_does_not_divide():
    rows = sharding.named(mesh(), ("batch", "length"), (16, 4))
    with pytest.raises(ValueError, match="batch of 12 rows does not divide over 8 devices"):
        sharding.host_block(rows, 12)


def test_constrain_is_nothing_without_a_mesh():
    x = jax.numpy.ones((2, 2))
    assert sharding.constrain(x, ("batch", "length")) is x


def collectives(config, **axes):
    """kind -> shapes of the results of all collectives of the compiled step on 8 devices."""
    config.sharding.update(axes)
    program = build(config, sharding.make_mesh(config.sharding))
    text = program.step.lower(program.state, program.batch).compile().as_text()
    found = {}
    for result, kind in re.findall(r" = (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all)(?:-start)?\(", text):
        shapes = [tuple(map(int, dims.split(","))) for dims in re.findall(r"\[([\d,]+)\]", result)]
        found.setdefault(kind, []).extend(shapes)
    return found


def test_fsdp_gathers_weights_and_sums_gradients_only(tiny_config):
    """Activations alone have a dim of the row's length."""
    tiny_config.model.remat, tiny_config.loss.vocab_chunks = "full", 1
    found = collectives(tiny_config, fsdp=8)
    config = tiny_config.model
    D, H, K, C, F, V = (
        config[name] for name in ("model_dim", "num_heads", "num_kv_heads", "head_dim", "mlp_dim", "vocab_size")
    )

    def sizes(kind):
        return {tuple(sorted(dim for dim in shape if dim > 1)) for shape in found.get(kind, ())}

    weights = {tuple(sorted(shape)) for shape in ((D, H, C), (D, K, C), (D, F), (D, V))}
    assert sizes("all-gather") >= weights
    of_activations = {shape for kind in ("all-reduce", "reduce-scatter") for shape in sizes(kind) if 24 in shape}
    assert not of_activations
    # Besides weights, the token ids are gathered: the embedding is looked up where its parts are.
    assert {shape for shape in sizes("all-gather") if 24 in shape} == {(8, 24)}


def test_a_tensor_axis_sums_activations(tiny_config):
    """So that the test above could fail."""
    found = collectives(tiny_config, fsdp=4, tensor=2)
    assert any(24 in shape for shape in found["all-reduce"])
