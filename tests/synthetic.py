"""A tokenizer and packed rows of random documents, made without a corpus, for tests of training and conversion."""

import json

import numpy as np
import tokenizers

from emma_jax import packing, store, tokenizer

NUM_IDS = 96
BOS, EOS = NUM_IDS - 2, NUM_IDS - 1  # id 0 is a real token, as in Llama 3


def write_tokenizer(folder) -> str:
    """Writes a tokenizer of single characters with "!" as id 0; returns its fingerprint."""
    folder.mkdir(parents=True, exist_ok=True)
    characters = {chr(ord("!") + i): i for i in range(BOS)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=characters | {"<s>": BOS, "</s>": EOS}, merges=[]))
    (folder / "tokenizer.json").write_text(model.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return tokenizer.load(folder).fingerprint


def write_rows(folder, component: str, tasks: list[str], fingerprint: str, row_length: int, seed: int = 0):
    """Writes a component of about a hundred rows whose documents alternate between the tasks."""
    rng = np.random.default_rng(seed)
    (folder / component).mkdir(parents=True)
    documents = [
        (i % len(tasks), np.array([BOS, *rng.integers(0, BOS, rng.integers(3, row_length - 2)), EOS]))
        for i in range(180)
    ]
    rows = list(packing.best_fit(documents, row_length, window=16))
    sizes = [[len(ids) - 1 for task, ids in documents if task == number] for number in range(len(tasks))]
    shard = store.write_shard(str(folder / component / "rows-00000-of-00001.arrayrecord"), rows)
    tokens = sum(map(sum, sizes))
    store.write(
        folder,
        store.Store(
            component=component,
            fingerprint=f"{component}-{seed}",
            tokenizer=fingerprint,
            vocab_size=NUM_IDS,
            row_length=row_length,
            rows=len(rows),
            tokens=tokens,
            fill=tokens / len(rows) / row_length,
            shards=(shard,),
            tasks=tuple(
                store.Task(name, len(of_task), sum(of_task), 2 * sum(of_task))
                for name, of_task in zip(tasks, sizes, strict=True)
            ),
        ),
    )


def write_run(folder, config) -> None:
    """Writes a tokenizer and rows of three components, and points `config` at them."""
    fingerprint = write_tokenizer(folder / "tokenizer")
    languages, pairs = ["mono.swh_Latn", "mono.eng_Latn"], ["pair.eng_Latn-swh_Latn"]
    for seed, (name, tasks) in enumerate(
        dict(monolingual=languages, bilingual=pairs, validation=languages + pairs).items()
    ):
        write_rows(folder / "rows", name, tasks, fingerprint, config.pack.row_length, seed)
    config.tokenizer.folder = str(folder / "tokenizer")
    config.pack.folder = str(folder / "rows")
    config.mixture.update(monolingual=26.3, bilingual=32.3)
