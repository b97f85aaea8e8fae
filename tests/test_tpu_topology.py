"""Slices by name, what is closed to rings, what a group of chips has of links; and which TPU this machine has."""

import itertools
import subprocess
import sys

import jax
import pytest

from emma_jax import sharding, tpu_topology


@pytest.mark.parametrize(
    ("name", "dims", "wrap"),
    [
        ("v5p:4x4x4", (4, 4, 4), (True, True, True)),
        ("v5p:2x2x1", (2, 2, 1), (False, False, False)),
        ("v4:2x4x4", (2, 4, 4), (False, False, False)),
        ("v4:4x4x12", (4, 4, 12), (True, True, True)),
        ("v5e:16x16", (16, 16), (True, True)),
        ("v6e:8x16", (8, 16), (False, True)),
        ("v5e:4x4", (4, 4), (False, False)),
    ],
)
def test_a_slice_is_closed_where_it_is_in_truth(name, dims, wrap):
    topology = tpu_topology.parse(name)
    assert (topology.dims, topology.wrap, topology.name) == (dims, wrap, name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("v5p", "there is no topology 'v5p'; name chips along each dim, as in v5p:4x4x4"),
        ("v5e-256", "there is no topology 'v5e-256'; name chips along each dim, as in v5e:16x16"),
        ("h100:8", "there is no topology 'h100:8'"),
        ("v5p:4x4", "a slice of v5p has 3 dims, 'v5p:4x4' does not: v5p:4x4x4"),
        ("v5e:4xx4", "there is no topology"),
        ("v6e:0x4", "a slice of v6e has 2 dims"),
        ("v5p:3x4x4", "'v5p:3x4x4' has a dim that is odd, which no slice has"),
    ],
)
def test_what_is_no_slice(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        tpu_topology.parse(name)


def test_links_of_a_group():
    torus, grid = tpu_topology.parse("v5p:4x4x8"), tpu_topology.parse("v5e:4x8")
    everywhere = list(itertools.product(range(4), range(4), range(8)))
    assert torus.links(everywhere) == 6
    assert torus.links([point for point in everywhere if point[2] < 4]) == 2 + 2 + 1  # half of a ring is a line
    assert grid.links(list(itertools.product(range(4), range(8)))) == 2  # of a corner
    assert grid.links([(0, 0)]) == 1


def test_the_machine_without_tpu_has_no_flags(tmp_path):
    assert tpu_topology.attached_generation(tmp_path) is None
    code = [sys.executable, "-m", "emma_jax.tpu_topology"]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout == "\n"


def test_the_tpu_of_a_machine(tmp_path):
    for slot, vendor, device in [("0000:00:04.0", "0x1af4", "0x0062"), ("0000:00:05.0", "0x1ae0", "0x0063")]:
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "vendor").write_text(vendor + "\n")
        (tmp_path / slot / "device").write_text(device + "\n")
    assert tpu_topology.attached_generation(tmp_path).name == "v5e"
    assert tpu_topology.flags_line("v5e").startswith("--xla_tpu_")


@pytest.mark.parametrize("name", ["v5p:2x2x1", "v5e:2x2", "v6e:2x2", "v4:2x2x1"])
def test_the_compiler_knows_all_that_is_said_of_a_slice(name, tiny_config):
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install -e '.[tpu]'")
    topology = tpu_topology.parse(name)
    devices = topology.devices()
    assert [device.platform for device in devices] == ["tpu"] * 4
    where = sharding.replicated(sharding.make_mesh(tiny_config.sharding, devices))
    x = jax.ShapeDtypeStruct((8, 128), "float32", sharding=where)
    jax.jit(lambda x: x + 1).lower(x).compile(compiler_options=dict(topology.generation.flags))
