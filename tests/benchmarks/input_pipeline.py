"""`python tests/benchmarks/input_pipeline.py FOLDER`: a store of 3,053 tasks, from manifest to batches, against SeqIO.

Writes a corpus of 546 languages and 2,507 pairs into FOLDER, short texts of which no two tasks share one, has
`emma_jax.pack` make rows of it with the vocabulary of Llama 3, and reads them: how long opening takes, in how much
memory, rows and tokens a second, and whether each component and each task has its share of what 10,000 steps return. A
live SeqIO mixture of 500 of the tasks is timed in the same run, and so is the way to step 30,000 of a store that has as
many rows and shards as the paper's 671B tokens, every shard being the same file. What is in FOLDER already is not made
again; packing takes ten minutes of a processor, as each task's pipeline takes a sixth of a second to open.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import psutil

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import llama3_vocabulary
import many_scripts
import paper_manifest
import tiny_corpus

ROOT = pathlib.Path(__file__).parent.parent.parent
WEIGHTS = {"bilingual": 32.3, "monolingual": 26.3}
NUM_STEPS, BATCH_ROWS = 10_000, 2
NUM_MIXED, WARM_EXAMPLES, MIXED_SECONDS = 500, 2000, 30  # the first of each task opens it
RECORDS = (40, 160)  # of the smallest task and the largest; of a language five times as many, as they are shorter
CONFIG = """
from configs import base

def get_config():
    config = base.get_config()
    config.corpus.folder, config.tokenizer.folder, config.pack.folder = "{0}/corpus", "{0}/tokenizer", "{0}/rows"
    config.rendering.language_label = "code"
    config.pack.update(validation_documents=0, num_workers=2)
    for name, tasks in dict(bilingual="pair.*", monolingual="mono.*").items():
        config.pack.components[name] = base.component(tasks, tokens=10**12, max_epochs=0.9)
    config.mixture.update({1})
    return config
"""


def main() -> None:
    """Makes what is missing in the folder, and prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](folder)))
        return
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    if not (folder / "tokenizer").exists():
        llama3_vocabulary.write(folder / "tokenizer")
    if not (folder / "corpus" / "manifest.json").exists():
        write_corpus(folder / "corpus")
    (folder / "config.py").write_text(CONFIG.format(folder, WEIGHTS))
    pack(folder)
    found = {name: run([__file__, folder, f"--measure={name}"]) for name in MEASURES}
    report(**found)


def write_corpus(folder: pathlib.Path) -> None:
    """Writes the texts: messages of catalogs, each with a number that no other text has."""
    lines = [line for line in many_scripts.messages(many_scripts.CATALOGS) if 10 < len(line) < 120 and "\n" not in line]
    names = paper_manifest.make()
    sizes = iter(np.geomspace(*RECORDS, len(names.languages) + len(names.pairs)).astype(int).tolist())
    number = 0

    def texts(size: int) -> list[str]:
        nonlocal number
        number += size
        return [f"{lines[i % len(lines)]} {i}" for i in range(number - size, number)]

    languages = {code: {"train": texts(5 * next(sizes))} for code in names.languages}
    pairs = {pair: {"train": (texts(size), texts(size))} for pair, size in zip(names.pairs, sizes, strict=True)}
    tiny_corpus.write(folder, languages, pairs)


def pack(folder: pathlib.Path) -> None:
    """Has the rows made, and prints how long it took and in how much memory."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "emma_jax.pack", f"--config={folder}/config.py"]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"packed in {time.monotonic() - begun:.0f} s, {used.ru_utime + used.ru_stime:.0f} processor seconds, "
        f"{used.ru_maxrss / 1e3:.0f} MB at most",
        flush=True,
    )


def run(arguments: list) -> dict:
    """What this program prints in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(process.stdout.splitlines()[-1])


def read(folder: pathlib.Path) -> dict:
    """Opening the rows, and what the batches of all steps hold of each task."""
    from emma_jax import input_pipeline

    begun = time.monotonic()
    rows = input_pipeline.open_rows(folder / "rows", WEIGHTS, num_threads=4, patience_seconds=60.0)
    opened, memory = time.monotonic() - begun, psutil.Process().memory_info().rss
    counts = np.zeros(len(rows.task_names) + 1, np.int64)
    begun = time.monotonic()
    for _, batch in zip(range(NUM_STEPS), rows.batches(BATCH_ROWS, seed=0), strict=False):
        counts += np.bincount(batch["tasks"].ravel() + 1, minlength=len(counts))
    seconds, tokens = time.monotonic() - begun, counts[1:]
    index = {name: number for number, name in enumerate(rows.task_names)}
    worst, components = {}, {}
    for found, weight in zip(rows.stores, rows.weights, strict=True):
        of_component = tokens[[index[task.name] for task in found.tasks]]
        components[found.component] = of_component.sum() / tokens.sum() / (weight / sum(rows.weights)) - 1
        declared = np.array([task.share for task in found.tasks]) * of_component.sum()
        off = np.minimum(abs(of_component / declared - 1) / 0.01, abs(of_component - declared) / rows.row_length)
        worst[found.component] = float(off.max())
    return dict(
        open_seconds=opened, megabytes=memory / 1e6, rows_per_second=NUM_STEPS * BATCH_ROWS / seconds,
        tokens_per_second=float(tokens.sum() / seconds), tasks=int((tokens > 0).sum()), components=components,
        worst_task=worst, fill={found.component: found.fill for found in rows.stores},
        rows={found.component: found.rows for found in rows.stores},
        epochs=[f(t.epochs for found in rows.stores for t in found.tasks) for f in (min, max)],
    )  # fmt: skip


def mix(folder: pathlib.Path) -> dict:
    """A live mixture of some of the tasks, at their shares: first example, then examples and tokens a second."""
    import seqio

    import data_tasks
    from configs import base
    from emma_jax import manifest, tokenizer

    config = base.get_config()
    config.rendering.language_label = "code"
    corpus, text = manifest.load(str(folder / "corpus")), tokenizer.load(str(folder / "tokenizer"))
    begun = time.monotonic()
    names = data_tasks.register(corpus, text, config.rendering, mixture={}, components={}).tasks
    registered = time.monotonic() - begun
    seqio.MixtureRegistry.add("some", [(name, 1.0) for name in names[:: len(names) // NUM_MIXED][:NUM_MIXED]])
    begun = time.monotonic()
    dataset = seqio.get_mixture_or_task("some").get_dataset(sequence_length=None, split="train", seed=0)
    examples = dataset.as_numpy_iterator()
    next(examples)
    first = time.monotonic() - begun
    for _ in range(WARM_EXAMPLES):
        next(examples)
    warm = time.monotonic() - begun
    number = tokens = 0
    begun = time.monotonic()
    while time.monotonic() - begun < MIXED_SECONDS:
        number, tokens = number + 1, tokens + len(next(examples)["targets"]) - 1
    seconds = time.monotonic() - begun
    return dict(
        tasks=len(names), register_seconds=registered, first_seconds=first, warm_seconds=warm,
        examples_per_second=number / seconds, tokens_per_second=tokens / seconds,
        megabytes=psutil.Process().memory_info().rss / 1e6,
    )  # fmt: skip


def jump(folder: pathlib.Path) -> dict:
    """Opening a store of the paper's size, and the way to the batch of a far step."""
    from configs import base
    from emma_jax import input_pipeline, packing, store

    pack, path = base.get_config().pack, folder / "paper" / "all"
    num_shards = round(671e9 / pack.row_length / pack.rows_per_shard)
    names = [f"rows-{number:05}-of-{num_shards:05}.arrayrecord" for number in range(num_shards)]
    if not path.exists():
        path.mkdir(parents=True)
        row = packing.join([(0, np.arange(9))])
        shard = store.write_shard(str(path / names[0]), (row for _ in range(pack.rows_per_shard)))
        for name in names[1:]:
            os.link(path / names[0], path / name)
        rows = num_shards * pack.rows_per_shard
        shards = tuple(store.Shard(name, shard.rows, shard.bytes) for name in names)
        tasks = (store.Task("mono.eng_Latn", 1, 1, 1),)
        packed = store.Store("all", "", "", 128256, pack.row_length, rows, 8 * rows, 1.0, shards, tasks)
        store.write(path.parent, packed)
    begun = time.monotonic()
    rows = input_pipeline.open_rows(path.parent, {"all": 1.0}, num_threads=16, patience_seconds=60.0)
    opened = time.monotonic() - begun
    first = {}
    for step in (0, 30_000):
        begun = time.monotonic()
        next(rows.batches(2048, seed=0, start_step=step, block=5, num_blocks=16))
        first[step] = time.monotonic() - begun
    return dict(rows=rows.stores[0].rows, shards=num_shards, open_seconds=opened, first_seconds=first)


def plan(folder: pathlib.Path) -> dict:
    """The paper's own tasks: defining them all, and planning their rows, without text."""
    from configs import bilingual
    from emma_jax import pack_budget, paper_corpus, tokenizer

    config = bilingual.get_config()
    config.corpus.folder = paper_corpus.NAME
    begun = time.monotonic()
    budget = pack_budget.make(config)
    planned, memory = time.monotonic() - begun, psutil.Process().memory_info().rss
    import data_tasks
    from data_tasks import mixtures

    corpus, text = paper_corpus.load(config.corpus.folder), tokenizer.load(str(folder / "tokenizer"))
    data_tasks.register(paper_manifest.make(), text, config.rendering, mixture={}, components={})  # imports SeqIO
    begun = time.monotonic()
    registered = data_tasks.register(
        corpus, text, config.rendering, mixture=config.mixture, components=mixtures.resolved(config.pack)
    )
    seconds = time.monotonic() - begun
    epochs = {}
    for component in budget.components:
        ordered = sorted(component.tasks, key=lambda task: task.size)
        epochs[component.name] = [(task.name, task.epochs) for task in (ordered[0], ordered[-1])]
    return dict(
        tasks=len(budget.tasks), tokens=budget.tokens, plan_seconds=planned, plan_megabytes=memory / 1e6,
        registered=len(registered.tasks), register_seconds=seconds,
        megabytes=psutil.Process().memory_info().rss / 1e6, epochs=epochs,
    )  # fmt: skip


def report(read: dict, mix: dict, jump: dict, plan: dict) -> None:
    """Prints all, and how they compare."""
    print(
        f"the paper's {plan['tasks']} tasks, {plan['tokens']:,} tokens: planned in {plan['plan_seconds']:.2f} s and "
        f"{plan['plan_megabytes']:.0f} MB; {plan['registered']} registered in {plan['register_seconds']:.2f} s, "
        f"{plan['megabytes']:.0f} MB with SeqIO"
    )
    for name in ("bilingual", "monolingual"):
        (smallest, few), (largest, many) = plan["epochs"][name]
        print(f"  {name}: {few:.3g} epochs of the smallest task ({smallest}), {many:.3g} of the largest ({largest})")
    print(f"rows {read['rows']}, fill {read['fill']}, epochs of a task from {read['epochs'][0]} to {read['epochs'][1]}")
    print(f"opened in {read['open_seconds']:.3f} s, {read['megabytes']:.0f} MB")
    first = ", ".join(f"{seconds:.2f} s at step {step}" for step, seconds in jump["first_seconds"].items())
    print(
        f"{jump['rows']:,} rows, {jump['shards']} shards: opened in {jump['open_seconds']:.2f} s; a first batch {first}"
    )
    print(f"read: {read['rows_per_second']:,.0f} rows/s, {read['tokens_per_second']:,.0f} tokens/s in one process")
    print(
        f"SeqIO: {mix['tasks']} tasks registered in {mix['register_seconds']:.2f} s; a mixture of {NUM_MIXED}: first "
        f"example after {mix['first_seconds']:.1f} s, {WARM_EXAMPLES} after {mix['warm_seconds']:.1f} s, then "
        f"{mix['examples_per_second']:,.0f} examples/s, {mix['tokens_per_second']:,.0f} tokens/s, "
        f"in {mix['megabytes']:.0f} MB"
    )
    print(f"tokens a second, rows / SeqIO: {read['tokens_per_second'] / mix['tokens_per_second']:,.0f}")
    for name, off in read["components"].items():
        print(f"{name}: share of tokens in {NUM_STEPS} steps is off by {100 * off:+.4f}% of what was declared")
    print(f"{read['tasks']} tasks were read; the one that is furthest off, in parts of 1% or of one row: ", end="")
    print(", ".join(f"{name} {off:.2f}" for name, off in read["worst_task"].items()))


MEASURES = {"read": read, "mix": mix, "jump": jump, "plan": plan}

if __name__ == "__main__":
    main()
