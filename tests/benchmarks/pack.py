"""`python tests/benchmarks/pack.py`: how fast `pack` makes rows of text, against what the tokenizer alone takes.

The text is what the catalogs of Django, Sphinx and wagtail say: documents of some messages, and documents of ten pairs
of them. Both stages of `pack` run in one process as a worker runs them, from Parquet through the tasks' own SeqIO
pipelines to finished shards. The bare `encode_batch_fast` of the library gets the same documents, rendered, in one
call. Both take turns, on one core and on all; the best of all turns counts, by the clock and in processor seconds,
which do not tell what else the machine does. The vocabulary is Llama 3's.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import llama3_vocabulary
import many_scripts
import synthetic_pairs
import tiny_corpus

from configs import base

CATALOGS = {package: "**/LC_MESSAGES/*.po" for package in ("django", "sphinx", "wagtail")}
LINES = (8, 16, 32)  # of a document; the messages come once with each
COMPONENTS = {"documents": "mono.*", "pairs": "pair.*"}  # of one task each
NUM_PAIRS = 24_000
TURNS = 3


def main() -> None:
    """Prints the table. With the name of a folder, takes turns in it and prints the seconds of both."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--component", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(seconds(arguments.folder, arguments.component, arguments.cores)))
        return
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            llama3_vocabulary.write(pathlib.Path(folder, "tokenizer"))
        except importlib.metadata.PackageNotFoundError:
            parser.error(f"the vocabulary of Llama 3 is not installed: {llama3_vocabulary.INSTALL}")
        write_corpus(pathlib.Path(folder, "corpus"))
        for component in COMPONENTS:
            report(pathlib.Path(folder), component)


def write_corpus(folder: pathlib.Path) -> None:
    """Writes a corpus of two tasks: documents, which are of many languages, and pairs of two."""
    lines = many_scripts.messages(CATALOGS)
    texts = ["\n".join(lines[i : i + size]) for size in LINES for i in range(0, len(lines), size)]
    pair = synthetic_pairs.make_pairs()[0]
    records = pair.records(np.arange(NUM_PAIRS))
    sides = {
        code: records[column].to_pylist() for code, column in zip(pair.languages, ("src_text", "tgt_text"), strict=True)
    }
    name = "-".join(sorted(sides))
    tiny_corpus.write(
        folder, {"eng_Latn": {"train": texts}}, {name: {"train": tuple(sides[code] for code in sorted(sides))}}
    )


def report(folder: pathlib.Path, component: str) -> None:
    """Prints the megabytes a second of both on one core and on all, and their ratios."""
    cores = len(os.sched_getaffinity(0))
    for number in dict.fromkeys((1, cores)):
        command = [sys.executable, __file__, f"--folder={folder}", f"--component={component}", f"--cores={number}"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for unit in ("second", "processor second"):
            bare, exchange, pack = (found[f"{what} {unit}"] for what in ("bare", "exchange", "pack"))
            speeds = f"bare {found['megabytes'] / bare:.2f}, pack {found['megabytes'] / pack:.2f}"
            ratios = f"pack / bare {bare / pack:.2f}, stage one / bare {bare / exchange:.2f}"
            print(f"{component}, {number} of {cores} cores: MB a {unit}: {speeds}; {ratios}", flush=True)


def seconds(folder: pathlib.Path, component: str, cores: int) -> dict[str, float]:
    """The least time of both stages, of the first alone, and of the library's own call for the same documents."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])  # before any library starts its threads
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from emma_jax import pack, pack_draws, pack_plan, pack_stages, packing, record_reader, store

    config = base.get_config()
    config.corpus.folder, config.tokenizer.folder = str(folder / "corpus"), str(folder / "tokenizer")
    config.pack.components[component] = base.component(COMPONENTS[component], tokens=10**12, max_epochs=0.95)
    config.pack.update(folder=str(folder / "rows"), validation_documents=0)
    job = pack_draws.Job(
        config.pack.folder, config.corpus.folder, config.tokenizer.folder, sections=pack.sections(config)
    )
    opened = pack_draws.open_tasks(job)
    values = pack.dependencies(config, opened)[component]

    best = {}

    def now() -> dict[str, float]:
        return {"second": time.perf_counter(), "processor second": time.process_time()}

    def took(what: str, begun: dict[str, float]) -> None:
        for unit, ended in now().items():
            best[f"{what} {unit}"] = min(best.get(f"{what} {unit}", float("inf")), ended - begun[unit])

    texts = None
    for _ in range(TURNS):
        shutil.rmtree(job.folder(component), ignore_errors=True)
        plan = pack.plan_of(job, config, component, values)
        begun = now()
        for numbers in plan.draws_by_task():
            pack_stages.exchange_task(job, plan, numbers)
        took("exchange", begun)
        for number in range(plan.num_shards):
            pack_stages.pack_shard(job, plan, number)
        took("pack", begun)
        if texts is None:
            pack.finish(job, plan, opened.tokenizer, pack_plan.settings(config, component))
            found = store.load(config.pack.folder, component)
            records = record_reader.RecordReader(config.pack.folder, [found], num_threads=1, patience_seconds=0.0)
            rows = map(packing.decode_row, records.read([0] * found.rows, range(found.rows)))
            texts = [opened.tokenizer.decode(ids) for row in rows for _, ids in row.documents()]
            library = opened.tokenizer.engine.tokenizer
        begun = now()
        encoded = [encoding.ids for encoding in library.encode_batch_fast(texts, add_special_tokens=False)]
        took("bare", begun)
        assert sum(map(len, encoded)) + len(texts) == found.tokens
    return {**best, "megabytes": sum(len(text.encode()) for text in texts) / 1e6}


if __name__ == "__main__":
    main()
