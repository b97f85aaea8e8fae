"""Rows in a bucket: read as from a disk, without a listing; a lost connection is waited for, then named.

The bucket is Google's storage API on this machine, behind a line that can be cut.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
import time

import bucket_server
import numpy as np
import pytest
import synthetic
from bucket_server import BUCKET, environment

from emma_jax import input_pipeline

pytestmark = pytest.mark.skipif(bool(bucket_server.missing), reason=bucket_server.reason)

ROWS = f"gs://{BUCKET}/rows"
WEIGHTS = {"monolingual": 26.3, "bilingual": 32.3}
PATIENCE_SECONDS, GRACE_SECONDS = 5.0, 0.5

# Opens rows, then prints a digest of the next batch for each line it is given; a mistake is printed instead.
PROGRAM = textwrap.dedent("""
    import hashlib, json, sys
    from emma_jax import input_pipeline, record_reader

    folder, weights, patience, record_reader.GRACE_SECONDS = json.loads(sys.argv[1])
    try:
        rows = input_pipeline.open_rows(folder, weights, num_threads=8, patience_seconds=patience)
        print("open", flush=True)
        batches = rows.batches(8, seed=5)
        for _ in sys.stdin:
            batch = next(batches)
            print(hashlib.sha256(b"".join(batch[name].tobytes() for name in sorted(batch))).hexdigest(), flush=True)
    except (ValueError, OSError) as error:
        print(error, flush=True)
""")


@pytest.fixture(scope="module")
def server(tmp_path_factory, request):
    """A server with rows in ROWS, those of `folder`."""
    server = bucket_server.Server()
    request.addfinalizer(server.stop)
    server.folder = tmp_path_factory.mktemp("rows")
    for seed, component in enumerate(WEIGHTS):
        synthetic.write_rows(server.folder, component, ["a", "b"], "tokenizer", row_length=64, seed=seed)
    for path in server.folder.rglob("*.*"):
        server.put(f"{ROWS}/{path.relative_to(server.folder)}", path.read_bytes())
    return server


class Reader:
    """A process of PROGRAM at the other end of a line."""

    def __init__(self, line, weights=WEIGHTS):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([ROWS, weights, PATIENCE_SECONDS, GRACE_SECONDS])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment(line)},
        )  # fmt: skip
        self.first = self.process.stdout.readline().strip()

    def next(self) -> str:
        """What is printed for one more batch."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> float:
        """Seconds that the process takes to end, when nothing more is asked of it."""
        begun = time.monotonic()
        self.process.communicate(timeout=30)
        return time.monotonic() - begun


def test_batches_come_as_from_a_disk_and_a_lost_connection_is_waited_for_then_named(server):
    line = bucket_server.Line(server, delay_seconds=0.01)
    reader = Reader(line)
    assert reader.first == "open"
    # A look at one name is not a listing.
    assert not [request for request in line.requests if "prefix=" in request and "maxResults=1 " not in request]
    expected = input_pipeline.open_rows(server.folder, WEIGHTS).batches(8, seed=5)

    def digest():
        batch = next(expected)
        return hashlib.sha256(b"".join(np.ascontiguousarray(batch[n]).tobytes() for n in sorted(batch))).hexdigest()

    for _ in range(5):
        assert reader.next() == digest()
    line.cut()
    time.sleep(1)
    line.mend()
    for _ in range(10):
        assert reader.next() == digest()
    line.cut()
    said = next(said for said in iter(reader.next, "") if len(said) != 64)  # some batches were fetched before
    assert said.startswith(f"the shard {ROWS}/") and "look at the disk or the connection" in said
    assert f"could not be read for {PATIENCE_SECONDS:g} s" in said
    assert reader.end() < 60  # by itself, gs:// tries for a quarter of an hour


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: None, "the shard {} is missing"),
        (lambda content: content[:-100], "the shard {} has [0-9]+ bytes and store.json says [0-9]+"),
    ],
)
def test_missing_and_cut_shards_in_a_bucket_are_named_before_a_row_is_read(server, damage, message):
    shard = "rows-00000-of-00001.arrayrecord"
    content = (server.folder / "monolingual" / "store.json").read_text().replace('"monolingual"', '"damaged"')
    server.put(f"{ROWS}/damaged/store.json", content.encode())
    left = damage((server.folder / "monolingual" / shard).read_bytes())
    if left:
        server.put(f"{ROWS}/damaged/{shard}", left)
    reader = Reader(bucket_server.Line(server), {"damaged": 1.0})
    reader.end()
    assert re.match(message.format(f"{ROWS}/damaged/{shard}"), reader.first), reader.first
