"""Conversion on several hosts: processes under jax.distributed, each of which reads and writes its own part."""

import math
import shutil

import jax
import numpy as np
import pytest
import random_model
from conversion_host import run_hosts
from random_model import model_config, parameters
from safetensors.numpy import load_file, save_file

from emma_jax import conversion, conversion_table, safetensors_folder

SHARD_BYTES = 100_000
WHOLE = 10**9


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with the sharded Hugging Face folder hf/ and its import run/, both made by this one process."""
    folder = tmp_path_factory.mktemp("hosts")
    config = model_config()
    random_model.write_workdir(folder / "first", config, parameters(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors_folder, "SHARD_BYTES", SHARD_BYTES)
        conversion.export_hf(str(folder / "first"), str(folder / "hf"), "float32")
    conversion.import_hf(str(folder / "hf"), str(folder / "run"))
    return folder


def import_to(workdir, source):
    return {"verb": "import", "from": str(source), "to": str(workdir), "shard_bytes": SHARD_BYTES}


def export_to(folder, source, shard_bytes):
    return {
        "verb": "export", "from": str(source), "to": str(folder), "dtype": "float32", "shard_bytes": shard_bytes
    }  # fmt: skip


def tensors_in(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@pytest.mark.parametrize(("hosts", "devices"), [(2, 2), (4, 1)])
def test_each_host_reads_and_writes_its_own_part(original, tmp_path, hosts, devices):
    done = run_hosts(
        hosts,
        devices,
        import_to(tmp_path / "run", original / "hf"),
        export_to(tmp_path / "hf", tmp_path / "run", SHARD_BYTES),
        export_to(tmp_path / "whole", tmp_path / "run", WHOLE),
    )
    assert [status for status, _, _ in done] == [0] * hosts, done[0][2]
    imports, exports, whole = zip(*(seen for _, seen, _ in done), strict=True)

    theirs = tensors_in(original / "hf")
    for folder in (tmp_path / "hf", tmp_path / "whole"):
        ours = tensors_in(folder)
        assert theirs.keys() == ours.keys()
        for name in theirs:
            assert theirs[name].dtype == ours[name].dtype and theirs[name].tobytes() == ours[name].tobytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "run", "whole"]
    alone, together = (
        conversion.load_model(str(folder / "run"), random_model.mesh()) for folder in (original, tmp_path)
    )
    jax.tree.map(np.testing.assert_array_equal, alone.params, together.params)
    assert alone.config == together.config and alone.tokenizer.fingerprint == together.tokenizer.fingerprint

    num_bytes = sum(tensor.nbytes for tensor in theirs.values())
    largest = max(tensor.nbytes for tensor in theirs.values())
    for seen in imports:
        assert seen["num_bytes_read"] == num_bytes // hosts  # the dims divide by hosts, so that nothing is read twice
        assert abs(seen["num_bytes_checked"] - num_bytes // hosts) <= largest
        assert seen["written"] == []
    assert sum(seen["num_bytes_checked"] for seen in imports) == num_bytes
    files = sorted(path.name for path in (tmp_path / "hf").glob("*.safetensors"))
    assert len(files) == 10
    for host, seen in enumerate(exports):
        assert seen["written"] == files[host::hosts]
        assert seen["num_bytes_read"] == sum(
            tensor.nbytes for file in seen["written"] for tensor in load_file(tmp_path / "hf" / file).values()
        )

    # Fewer files than hosts: some have nothing to do.
    assert [seen["written"] for seen in whole] == [["model.safetensors"]] + [[]] * (hosts - 1)


def test_a_bad_tensor_stops_all_hosts_before_anything_is_written(original, tmp_path):
    shutil.copytree(original / "hf", tmp_path / "hf")
    file = sorted((tmp_path / "hf").glob("*.safetensors"))[3]
    tensors = load_file(file)
    name = min(tensors)
    tensors[name].reshape(-1)[5] = np.nan
    save_file(tensors, file)
    done = run_hosts(2, 1, import_to(tmp_path / "run", tmp_path / "hf"))
    for status, _, stderr in done:
        assert status == 2, stderr
        assert stderr.splitlines()[-1] == f"error: {tmp_path}/hf: {name} holds values that are infinite or not a number"
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize("num_devices", [2, 4, 8])
def test_dims_that_devices_do_not_divide_are_read_right_by_all(num_devices):
    sizes = {**conversion_table.sizes_of(model_config()), "V": 321, "H": 6, "C": 10, "F": 162}
    for tensor in conversion_table.TABLE:
        where = conversion_table.row_sharding(tensor, sizes, jax.devices()[:num_devices])
        theirs = np.arange(math.prod(tensor.shape(sizes))).reshape(tensor.their_shape(sizes))
        ours = tensor.to_ours(theirs, sizes)
        first = sizes[tensor.theirs[0]]
        for index in where.devices_indices_map(ours.shape).values():
            rows = theirs[conversion_table.rows_of(tensor, sizes, index)]
            extents = {dim: len(range(*cut.indices(sizes[dim]))) for dim, cut in zip(tensor.ours, index, strict=True)}
            np.testing.assert_array_equal(tensor.to_ours(rows, extents), ours[index])
            assert len(rows) <= len(theirs) // math.gcd(first, num_devices), tensor.name
