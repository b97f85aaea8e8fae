"""A corpus from and in a bucket: the same bytes as on a disk, also after it was killed, against a server of buckets."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import bucket_server
import mixed_sources
import pytest
from bucket_server import BUCKET
from test_corpus import contents

from emma_jax.corpus import build

pytestmark = pytest.mark.skipif(bool(bucket_server.missing), reason=bucket_server.reason)

SOURCES = f"gs://{BUCKET}/data/sources"
NAMES = tuple(mixed_sources.SOURCES)

# Builds corpora one after the other, each with changes to its config, and is killed in a stage after some pieces of it.
# Prints the name of a stage for each piece that it begins, and for each corpus whether it was there before.
PROGRAM = textwrap.dedent("""
    import json, os, signal, sys
    import mixed_sources
    from emma_jax import manifest
    from emma_jax.corpus import build, stages

    corpora, (killed_stage, num_pieces) = map(json.loads, sys.argv[1:])

    def told(name, work, calls):
        def run(*arguments, **keywords):
            calls.append(name)
            if name == killed_stage and len(calls) > num_pieces:
                os.kill(os.getpid(), signal.SIGKILL)
            print(name, flush=True)
            return work(*arguments, **keywords)
        return run

    for name in ("read_part", "deduplicate_bucket", "write_shards"):
        setattr(stages, name, told(name, getattr(stages, name), []))
    for root, folder, changes in corpora:
        _, was_there = build.build(mixed_sources.config(root, folder, mixed_sources.SOURCES, **changes), seed=1)
        found = manifest.load(folder)
        rows = {name: sum(map(len, found.read(entry, "train"))) for name, entry in found.tasks.items()}
        assert rows == {name: entry.splits["train"].rows for name, entry in found.tasks.items()}
        print("was there" if was_there else "built", flush=True)
""")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The folder of all sources, and the files of the corpus that is built of them on a disk."""
    folder = tmp_path_factory.mktemp("bucket")
    mixed_sources.write(folder / "sources", with_tfds=False)
    build.build(mixed_sources.config(folder / "sources", folder / "corpus", NAMES), seed=1)
    return folder / "sources", contents(folder / "corpus")


@pytest.fixture(scope="module")
def server(sources):
    """A server with all sources."""
    server = bucket_server.Server()
    try:
        for name, content in contents(sources[0]).items():
            server.put(f"{SOURCES}/{name}", content)
        yield server
    finally:
        server.stop()


def run(server, *corpora, kill=("", 0), **changes):
    """Exit status of a process of PROGRAM, and how often it prints what."""
    environment = os.environ | bucket_server.environment(server)
    environment["PYTHONPATH"] += os.pathsep + str(pathlib.Path(__file__).parent)
    corpora = json.dumps([(*corpus, changes) for corpus in corpora])
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, corpora, json.dumps(kill)],
        capture_output=True, text=True, timeout=180, env=environment,
    )  # fmt: skip
    print(process.stderr[-3000:])  # gcsfs complains of each renaming, for which this server has no call of its own
    return process.returncode, collections.Counter(process.stdout.splitlines())


def test_sources_in_a_bucket(server, sources, tmp_path):
    status, printed = run(server, (SOURCES, str(tmp_path / "corpus[1]")))
    assert (status, printed["built"]) == (0, 1)
    assert contents(tmp_path / "corpus[1]") == sources[1]


def test_what_others_wrote_since_is_seen(server):
    """A worker on another machine: between two looks at a folder, a file is there."""
    folder = f"gs://{BUCKET}/corpora/shared/exchange"
    code = textwrap.dedent("""
        import sys
        from etils import epath
        from emma_jax.corpus import exchange

        folder = epath.Path(sys.argv[1])
        for _ in range(3):
            print([path.name for path in exchange.list_files(folder, ".json")], flush=True)
            sys.stdin.readline()
        print((folder / "000001.json").read_text())
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | bucket_server.environment(server),
    )  # fmt: skip
    with process:
        found = [process.stdout.readline()]
        for number in range(2):
            server.put(f"{folder}/{number:06}.json", b"of another worker")
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(process.stdout.readline())
        found.append(process.communicate("\n", timeout=60)[0])
    assert found == ["[]\n", "['000000.json']\n", "['000000.json', '000001.json']\n", "of another worker\n"]


def test_killed_again_and_again_it_goes_on_and_ends_the_same(server, sources):
    """Killed by -9 in two stages; batches go through files at first, and through the runner's shuffle at last."""
    folder = f"gs://{BUCKET}/corpora/killed"
    status, printed = run(server, (SOURCES, folder), kill=("read_part", 20))
    assert (status, printed) == (-signal.SIGKILL, {"read_part": 20})
    left = server.contents(folder)
    assert "manifest.json" not in left and all(name.startswith("exchange/") for name in left)
    assert sum(name.startswith("exchange/results_read/0") for name in left) == 20

    status, printed = run(server, (SOURCES, folder), kill=("deduplicate_bucket", 3))
    num_parts = len(build._open_sources(mixed_sources.config(sources[0], "", NAMES).sources)[0])
    assert (status, printed) == (-signal.SIGKILL, {"read_part": num_parts - 20, "deduplicate_bucket": 3})
    assert not any(name.endswith(".parquet") for name in server.contents(folder))

    status, printed = run(server, (SOURCES, folder), (str(sources[0]), folder), exchange="shuffle")
    assert (status, printed) == (0, {"deduplicate_bucket": 1, "write_shards": 2, "built": 1, "was there": 1})
    assert server.contents(folder) == sources[1]
