"""`python tests/benchmarks/tokenizer.py`: how fast both kinds of tokenizer encode, against what they are made of.

The text is what the catalogs of Django say in a hundred languages; the tokenizers are Llama 3's, and a SentencePiece
model of that text. `Tokenizer.encode_batch` and the bare library take turns in one process, and so do processes with
all cores and with one; the best of all turns counts. On a machine with other work, two cores are less than twice one.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import llama3_vocabulary
import many_scripts

from emma_jax import tokenizer, train_tokenizer

CATALOGS = {"django": "**/LC_MESSAGES/django.po"}
LINES = 12  # of a document
ROUNDS, TURNS = 3, 3
KINDS = ("tokenizer.json", "SentencePiece")


def main() -> None:
    """Prints the table. With the name of a folder, takes turns in it and prints the seconds of both calls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(seconds(pathlib.Path(arguments.folder), arguments.cores)))
        return
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            num_bytes = prepare(pathlib.Path(folder))
        except importlib.metadata.PackageNotFoundError:
            parser.error(f"the vocabulary of Llama 3 is not installed: {llama3_vocabulary.INSTALL}")
        for kind in KINDS:
            report(kind, pathlib.Path(folder, kind), num_bytes / 1e6)


def prepare(folder: pathlib.Path) -> int:
    """Writes the text and a folder for each kind of tokenizer; returns the bytes of the text."""
    lines = many_scripts.messages(CATALOGS)
    texts = ["\n".join(lines[i : i + LINES]) for i in range(0, len(lines), LINES)]
    (folder / "texts.json").write_text(json.dumps(texts))
    llama3_vocabulary.write(folder / KINDS[0])
    model = train_tokenizer.train([part for line in lines[::4] for part in line.split("\n")], 8000, 0.999)
    train_tokenizer.write(folder / KINDS[1], model, {})
    return sum(len(text.encode()) for text in texts)


def report(kind: str, folder: pathlib.Path, megabytes: float) -> None:
    """Prints the megabytes a second of both calls on all cores and on one, and their ratios."""
    cores = len(os.sched_getaffinity(0))
    best = {number: {"ours": float("inf"), "bare": float("inf")} for number in (cores, 1)}
    for number in list(best) * ROUNDS:
        command = [sys.executable, __file__, f"--folder={folder}", f"--cores={number}"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        best[number] = {call: min(best[number][call], found[call]) for call in found}
    for number, calls in best.items():
        speeds = ", ".join(f"{call} {megabytes / calls[call]:.1f} MB/s" for call in calls)
        print(f"{kind} on {number} of {cores} cores: {speeds}, ours / bare {calls['bare'] / calls['ours']:.2f}")
    print(
        f"{kind}: all cores / one: {', '.join(f'{call} {best[1][call] / best[cores][call]:.2f}' for call in best[1])}"
    )


def seconds(folder: pathlib.Path, cores: int) -> dict[str, float]:
    """The least time of our `encode_batch`, and of the library's own call for the same ids, on that many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])  # before either library starts its threads
    texts = json.loads((folder.parent / "texts.json").read_text())
    loaded = tokenizer.load(folder)
    if folder.name == KINDS[0]:
        library = loaded.engine.tokenizer
        calls = {"bare": lambda: [e.ids for e in library.encode_batch_fast(texts, add_special_tokens=False)]}
    else:
        library = loaded.engine.processor
        calls = {"bare": lambda: library.encode(texts)}
    calls["ours"] = lambda: loaded.encode_batch(texts)
    assert calls["ours"]() == calls["bare"]()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(TURNS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
