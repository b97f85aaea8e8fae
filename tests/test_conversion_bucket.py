"""Conversion from and to a bucket: the whole program against a server of Google's storage API on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap

import bucket_server
import pytest
import random_model
from bucket_server import BUCKET, environment
from conftest import ONE_DEVICE
from conversion_host import run_hosts
from random_model import model_config, parameters
from safetensors.numpy import load

from emma_jax import conversion, safetensors_folder

SHARD_BYTES = 100_000
HF, RUN, EXPORT = (f"gs://{BUCKET}/models/{name}" for name in ("hf", "run", "export"))

pytestmark = pytest.mark.skipif(bool(bucket_server.missing), reason=bucket_server.reason)

# Verbs of hf, each stopped HOW@MOMENT: after so many readings of a tensor, in the third file of an export, or when only
# the last step is left. Prints for each how it ended.
PROGRAM = textwrap.dedent("""
    import json, os, signal, sys
    from emma_jax import hf, safetensors_file, safetensors_folder

    read, write, finish, num_read = safetensors_file.read, safetensors_file.write, safetensors_folder.finish, 0

    def stop_at(here):
        if here == moment and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if here == moment:
            raise OSError("stopped here")

    def counted_read(*arguments):
        global num_read
        num_read += 1
        stop_at(str(num_read))
        return read(*arguments)

    def cut_write(path, shapes, dtype, blocks, metadata):
        def some(name):
            for block in blocks(name):
                yield block
                stop_at(f"file {path.name[6:11]}")
        write(path, shapes, dtype, some, metadata)

    def late_finish(target):
        stop_at("finish")
        finish(target)

    safetensors_folder.SHARD_BYTES = int(sys.argv[1])
    safetensors_file.read, safetensors_file.write, safetensors_folder.finish = counted_read, cut_write, late_finish
    for verb, source, target, stop in json.loads(sys.argv[2]):
        how, moment = stop.split("@")
        try:
            hf.main(verb, **{"from": source, "to": target, "dtype": "float32" if verb == "export" else ""})
            print("complete", flush=True)
        except (ValueError, OSError) as error:
            print(error, flush=True)
""")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the sharded Hugging Face folder HF, whose files are `expected`."""
    folder = tmp_path_factory.mktemp("bucket")
    config = model_config(num_layers=2)
    random_model.write_workdir(folder / "run", config, parameters(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors_folder, "SHARD_BYTES", SHARD_BYTES)
        conversion.export_hf(str(folder / "run"), str(folder / "hf"), "float32")
    server = bucket_server.Server()
    try:
        server.expected = {path.name: path.read_bytes() for path in (folder / "hf").iterdir()}
        for name, content in server.expected.items():
            server.put(f"{HF}/{name}", content)
        yield server
    finally:
        server.stop()


def run(server, *commands):
    """(exit status, line that each command ended with) of a process of PROGRAM; a command that was killed has none."""
    commands = [(*command, "no@never")[:4] for command in commands]
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SHARD_BYTES), json.dumps(commands)],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment(server), **ONE_DEVICE},
    )  # fmt: skip
    print(process.stderr)
    return process.returncode, *process.stdout.splitlines()


def assert_complete(server, folder, expected):
    """`folder` has the files of `expected`, the same but for what is told of where they come from."""
    found = server.contents(folder)
    assert found.keys() == expected.keys()
    for name in found.keys() - {"README.md", "provenance.json"}:
        assert found[name] == expected[name], name


def test_what_was_interrupted_never_looks_complete_is_repeated_and_every_byte_travels(server):
    import_it, export_it = ("import", HF, RUN), ("export", RUN, EXPORT)
    import_export = ("import", EXPORT, f"{RUN}-of-export")

    num_tensors = len(json.loads(server.expected["model.safetensors.index.json"])["weight_map"])
    assert run(server, (*import_it, f"kill@{num_tensors + 5}")) == (-signal.SIGKILL,)  # each is read twice
    assert any(name.startswith("checkpoints/") for name in server.contents(RUN))
    assert run(server, export_it, import_it) == (0, f"{RUN} holds no complete checkpoint", "complete")
    tokenizer = {name for name in server.expected if name.startswith("tokenizer")}
    assert len(tokenizer) == 2
    for name in tokenizer:
        assert server.contents(f"{RUN}/tokenizer")[name] == server.expected[name]

    assert server.contents(EXPORT) == {}
    status, sentence = run(server, (*export_it, "raise@file 00003"))
    assert status == 0
    assert re.fullmatch(rf"{EXPORT}/model-00003-of-\d+.safetensors could not be written: stopped here", sentence)
    assert server.contents(EXPORT) == {}

    assert run(server, (*export_it, "kill@file 00003")) == (-signal.SIGKILL,)
    left = server.contents(EXPORT)
    assert "UNFINISHED" in left and "config.json" not in left and any(".safetensors" in name for name in left)
    refused = run(server, import_export, (*export_it, "kill@finish"))
    assert refused == (-signal.SIGKILL, f"there is no file {EXPORT}/config.json")
    assert server.contents(EXPORT).keys() == server.expected.keys() | {"UNFINISHED"}
    assert run(server, import_export, export_it, export_it) == (
        0,
        f"{EXPORT} is an export that was not finished (UNFINISHED is there); export again",
        "complete",
        f"{EXPORT} exists already; name a new folder, or remove it first",
    )
    assert server.contents(f"{RUN}-of-export") == {}
    assert_complete(server, EXPORT, server.expected)


def test_hosts_see_in_a_bucket_what_others_have_written_since_they_looked(server):
    """Both find the remains of an export; then the first writes its only file anew, and the second reads its header."""
    workdir, folder = (f"gs://{BUCKET}/hosts/{name}" for name in ("run", "hf"))
    for name in ("UNFINISHED", "model.safetensors"):
        server.put(f"{folder}/{name}", b"remains")
    done = run_hosts(
        2,
        1,
        {"verb": "import", "from": HF, "to": workdir, "shard_bytes": SHARD_BYTES},
        {"verb": "export", "from": workdir, "to": folder, "dtype": "float32", "shard_bytes": 10**9},
        **environment(server),
    )
    assert [status for status, _, _ in done] == [0, 0], done[1][2]
    assert [seen[1]["written"] for _, seen, _ in done] == [["model.safetensors"], []]
    found, expected = (
        {
            name: tensor.tobytes()
            for file, content in server.contents(uri).items()
            if file.endswith(".safetensors")
            for name, tensor in load(content).items()
        }
        for uri in (folder, HF)
    )
    assert found == expected
