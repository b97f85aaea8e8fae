"""`python tests/benchmarks/corpus.py FOLDER`: how fast pairs become a corpus, against DuckDB on the same files.

DuckDB (pip install duckdb) normalises both sides, puts them in order and takes the distinct ones. Ours is measured
without filters, which is the same work and writing, and with the filters of the config. Each turn is a process of
its own; they take turns, and the best of all counts. Memory is that of the process and its workers together. With
several numbers of pairs, it is shown how memory grows.
"""

import argparse
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import psutil
import synthetic_pairs

NUM_CORES = 2
SAMPLES_PER_SECOND = 20
BARS = {"no filters": 0.4, "all filters": 0.1}  # of DuckDB's speed; and of memory, from the least pairs to the most:
MEMORY_BAR = 1.3
# What a user of DuckDB would write; \s alone is ASCII there, and leaves no-break spaces.
NORMALISED = r"trim(regexp_replace(nfc_normalize({}), '[\s\pZ]+', ' ', 'g'))"
DISTINCT = f"""
    SELECT DISTINCT if(swapped, tgt, src) AS src_text, if(swapped, src, tgt) AS tgt_text,
        if(swapped, tgt_lang, src_lang) AS src_lang, if(swapped, src_lang, tgt_lang) AS tgt_lang
    FROM (
        SELECT {NORMALISED.format("src_text")} AS src, {NORMALISED.format("tgt_text")} AS tgt, src_lang, tgt_lang,
            src_lang > tgt_lang AS swapped
        FROM '{{files}}'
    )
"""
DUCKDB = {
    "DuckDB": f"CREATE TEMP TABLE result AS {DISTINCT}",
    "DuckDB to Parquet": f"COPY ({DISTINCT}) TO '{{output}}' (FORMAT parquet, COMPRESSION zstd)",
}
# The reason by which what was planted is counted.
FOUND_AS = dict(
    duplicates="duplicate", identical="identical_sides", wrong_script="wrong_script", length_ratio="length_ratio",
    mojibake="repaired", numbers="number_mismatch", placeholders="placeholder_mismatch", repeated="repeated_ngrams",
    empty="empty",
)  # fmt: skip
WORK = (
    *((name, 1) for name in DUCKDB),
    ("no filters", 1),
    ("no filters", 2),
    ("all filters", 1),
    ("all filters", 2),
)


def main() -> None:
    """Prints the table. With --work, does one piece of it and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="for the pairs, which stay, and what is made of them")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--sib200", default="", help="the folder of SIB-200")
    parser.add_argument("--suffix", default="parquet", choices=("parquet", "jsonl", "jsonl.gz"))
    parser.add_argument("--mixed", action="store_true", help="files of all pairs, not a folder for each")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, num_workers = arguments.work
        print(json.dumps(do(arguments.folder, name, int(num_workers))))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])
    memory = collections.defaultdict(list)
    for num_pairs in sorted(arguments.pairs):
        kind = f"{num_pairs}{'-mixed' if arguments.mixed else ''}-{arguments.suffix.replace('.', '-')}"
        folder = arguments.folder / kind
        if not (folder / synthetic_pairs.PLANTED).exists():
            synthetic_pairs.write(folder, num_pairs, arguments.sib200, arguments.suffix, arguments.mixed)
        planted = json.loads((folder / synthetic_pairs.PLANTED).read_text())
        print(f"{num_pairs:,} pairs in {folder}; load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
        best = measure_all(folder, arguments.turns)
        report(best, num_pairs, planted)
        for work, found in best.items():
            memory[work].append(found["bytes"])
        compare_counts(best["all filters", 1]["counts"], planted)
    if len(arguments.pairs) > 1:
        for (name, num_workers), sizes in memory.items():
            bar = "" if name in DUCKDB else f" (bar: {MEMORY_BAR})"
            print(
                f"{name}, {num_workers} workers: memory of the most pairs / the least {sizes[-1] / sizes[0]:.2f}{bar}"
            )
    filters = pathlib.Path(__file__).with_name("corpus_filters.py")
    print(f"\nmicroseconds of each filter: {filters.name}", flush=True)
    sib200 = [f"--sib200={arguments.sib200}"] if arguments.sib200 else []
    subprocess.run([sys.executable, str(filters), *sib200], check=True)


def measure_all(folder: pathlib.Path, turns: int) -> dict[tuple[str, int], dict]:
    """For each piece of work the least seconds, the most memory, and what it reported."""
    best = {}
    for work in WORK * turns:
        found = measure(folder, *work)
        for key, choose in (("seconds", min), ("with_start", min), ("bytes", max)):
            found[key] = choose(found[key], best.get(work, found)[key])
        best[work] = found
    return best


def measure(folder: pathlib.Path, name: str, num_workers: int) -> dict:
    """What a piece of work reports, with its seconds from the start of its process, and its memory in bytes."""
    command = [sys.executable, __file__, str(folder), "--work", name, str(num_workers)]
    start, most = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        root = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, _tree_bytes(root))
            time.sleep(1 / SAMPLES_PER_SECOND)
        seconds = time.perf_counter() - start
        output = process.stdout.read()
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{errors.read()}failed: {' '.join(command)}")
    return json.loads(output.splitlines()[-1]) | dict(with_start=seconds, bytes=most)


def do(folder: pathlib.Path, name: str, num_workers: int) -> dict:
    """Does one piece of work on the pairs in `folder`: its seconds, the records that are left, and counts."""
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    try:
        return _query(folder, DUCKDB[name], output) if name in DUCKDB else _build(folder, name, num_workers, output)
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _query(folder: pathlib.Path, query: str, output: pathlib.Path) -> dict:
    import duckdb

    output.mkdir()
    connection = duckdb.connect()
    connection.execute(f"SET threads = {NUM_CORES}")
    start = time.perf_counter()
    suffix = next(path for path in (folder / synthetic_pairs.RECORDS).rglob("*.*")).name.split(".", 1)[1]
    files = f"{folder / synthetic_pairs.RECORDS}/**/*.{suffix}"
    connection.execute(query.format(files=files, output=output / "result.parquet"))
    seconds = time.perf_counter() - start
    result = "result" if query.startswith("CREATE") else f"'{output / 'result.parquet'}'"
    return dict(seconds=seconds, records=connection.execute(f"SELECT count(*) FROM {result}").fetchone()[0])


def _build(folder: pathlib.Path, name: str, num_workers: int, output: pathlib.Path) -> dict:
    from configs import base
    from emma_jax.corpus import build

    config = base.get_config().corpus
    config.sources.pairs = base.source("records", str(folder / synthetic_pairs.RECORDS), "CC BY-SA 4.0")
    config.update(folder=str(output), num_workers=num_workers)
    if name == "no filters":
        config.validation_share = 0.0
        for section in config.filters.values():
            for key in section:
                section[key] = type(section[key])(0)
    start = time.perf_counter()
    manifest, _ = build.build(config, seed=0)
    seconds = time.perf_counter() - start
    records = sum(split.rows for entry in manifest.pairs.values() for split in entry.splits.values())
    return dict(seconds=seconds, records=records, counts=manifest.counts)


def report(best: dict[tuple[str, int], dict], num_pairs: int, planted: dict[str, int]) -> None:
    """Prints a line for each piece of work; the ratio is that of its speed to DuckDB's without writing."""
    print("| | workers | s | s with start | pairs/s | of DuckDB | bar | MiB | records left |\n" + "|---" * 9 + "|")
    for (name, num_workers), found in best.items():
        ratio = best["DuckDB", 1]["seconds"] / found["seconds"]
        cells = [
            name, num_workers, f"{found['seconds']:.2f}", f"{found['with_start']:.2f}",
            f"{num_pairs / found['seconds']:,.0f}", f"{ratio:.2f}", BARS.get(name, ""),
            f"{found['bytes'] / 2**20:,.0f}", f"{found['records']:,}",
        ]  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")
    for (name, num_workers), found in best.items():
        if name != "all filters" and found["records"] != planted["distinct"]:
            print(f"WRONG: {name} with {num_workers} workers leaves {found['records']}, not {planted['distinct']}")


def compare_counts(counts: dict[str, dict[str, int]], planted: dict[str, int]) -> None:
    """Prints what was planted beside what was found, and what else was dropped.

    A filter may find more than was planted for it, and then a later one less: an English text as its own translation
    into Russian is in the wrong script before it is identical.
    """
    found = collections.Counter()
    for reasons in counts.values():
        found.update(reasons)
    planted = collections.Counter(planted)
    for kind in synthetic_pairs.DUPLICATES:
        planted["duplicates"] += planted[kind]
    print("\n| planted | records | reason | records |\n|---|---|---|---|")
    for kind, reason in FOUND_AS.items():
        print(f"| {kind} | {planted[kind]:,} | {reason} | {found.pop(reason, 0):,} |")
    others = (f"{reason} {number:,}" for reason, number in found.items() if reason not in ("kept", "unchanged"))
    print("besides:", ", ".join(others))


def _tree_bytes(root: psutil.Process) -> int:
    """Resident bytes of a process and all below it."""
    total = 0
    try:
        for process in (root, *root.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended meanwhile; the next sample has all that are left
    return total


if __name__ == "__main__":
    main()
