"""Meshes, the rule table, and the batch's parts per host."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from emma_jax import sharding


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
