"""Greedy continuations: `python -m emma_jax.generate --model=DIR --prompts=FILE --output=FILE`.

Prompts are the lines of a text file, or the objects with a key `prompt` of a .jsonl file, whose other keys are kept.
The output has one JSON object a line with `model`, `prompt` and `output`. `decoding` does the work.
"""

import json
import os
import pathlib
import time

from absl import logging

from emma_jax import command_line, conversion, decoding, sharding

BATCH_ROWS = 32
MAX_NEW_TOKENS = "128"


def main(model: str, prompts: str, output: str, max_new_tokens: str) -> None:
    """Writes the continuation of each prompt; the output file appears when all are there."""
    if not (model and prompts and output):
        raise ValueError("generate needs --model=DIR, --prompts=FILE and --output=FILE")
    max_new_tokens = max_new_tokens or MAX_NEW_TOKENS
    if not max_new_tokens.isdecimal():
        raise ValueError(f"--max_new_tokens is {max_new_tokens!r}; expected a number")
    records = read_prompts(prompts)
    loaded = conversion.load_model(model, sharding.make_mesh(dict(data=1, fsdp=-1, tensor=1)))
    if loaded.tokenizer is None:
        raise ValueError(f"{model} has no tokenizer: text can neither be read nor written")
    partial = f"{output}.partial"
    start = time.monotonic()
    with open(partial, "w", encoding="utf-8") as file:
        for first in range(0, len(records), BATCH_ROWS):
            batch = records[first : first + BATCH_ROWS]
            texts = continuations(loaded, [record["prompt"] for record in batch], int(max_new_tokens))
            for record, text in zip(batch, texts, strict=True):
                file.write(json.dumps({**record, "model": loaded.name, "output": text}, ensure_ascii=False) + "\n")
            done = first + len(batch)
            rate = done / (time.monotonic() - start)
            left = (len(records) - done) / rate
            logging.info("%d of %d prompts, %.2f a second, %.0f seconds left", done, len(records), rate, left)
    os.replace(partial, output)


def continuations(loaded: conversion.LoadedModel, prompts: list[str], max_new_tokens: int) -> list[str]:
    """What the model writes after each of `prompts`, each the beginning of a document."""
    vocabulary = loaded.tokenizer
    ids = [[vocabulary.bos_id, *prompt] for prompt in vocabulary.encode_batch(prompts)]
    new = decoding.generate(loaded.config, loaded.params, ids, max_new_tokens, vocabulary.eos_id)
    return [vocabulary.decode(ids) for ids in new]


def read_prompts(path: str) -> list[dict]:
    """The prompts of a file, as dicts with a key `prompt`; raises ValueError naming a line that has none."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    lines = text.removesuffix("\n").split("\n")  # splitlines would also cut at U+2028, which a JSON text may hold
    if not path.endswith(".jsonl"):
        return [{"prompt": line} for line in lines]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number} is no valid JSON: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("prompt"), str):
            raise ValueError(f"{path}:{number} is no object with a text `prompt`")
        records.append(record)
    return records


if __name__ == "__main__":
    command_line.run(
        main,
        config=False,
        flag_help={
            "model": "a workdir, WORKDIR@STEP or a Hugging Face folder",
            "prompts": "a text file with a prompt a line, or .jsonl with a key `prompt`",
            "output": "the .jsonl file to write",
            "max_new_tokens": f"longest continuation, {MAX_NEW_TOKENS} if not given",
        },
    )
