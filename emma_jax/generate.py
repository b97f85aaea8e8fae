"""Continuations: `python -m emma_jax.generate --model=DIR --prompts=FILE --output=generations.jsonl`.

Prompts are the lines of a text file, or the objects with a key `prompt` of a .jsonl file, whose other keys are kept.
The output has one JSON object a line with `model`, `prompt` and `output`. The likeliest ids are taken, or with a
`--temperature` they are drawn. A run that was killed goes on where it stopped. `text_model` does the work.
"""

import json
import os
import pathlib

import jax
from absl import logging

from emma_jax import command_line
from emma_jax.text_model import Prompt, TextModel

MAX_NEW_TOKENS = 128


def main(
    model: str,
    prompts: str,
    output: str,
    max_new_tokens: str = "",
    temperature: str = "",
    top_p: str = "",
    seed: str = "",
    stop: str = "",
    slots: str = "",
) -> None:
    """Writes the continuation of each prompt, in their order; the output file appears when all are there."""
    if not (model and prompts and output):
        raise ValueError("generate needs --model=DIR, --prompts=FILE and --output=FILE")
    numbers = dict(max_new_tokens=max_new_tokens, seed=seed, slots=slots, temperature=temperature, top_p=top_p)
    defaults = dict(max_new_tokens=MAX_NEW_TOKENS, seed=0, slots=0, temperature=0.0, top_p=1.0)
    values = {name: _number(name, text, defaults[name]) for name, text in numbers.items()}
    if values["seed"] < 0:
        raise ValueError(f"--seed is {seed}; it must be 0 or more")
    if os.path.realpath(output) == os.path.realpath(prompts):
        raise ValueError(f"--output is the file of --prompts, {prompts}: name another")
    records = read_prompts(prompts)
    stops = tuple(json.loads(f'"{text}"') for text in stop.split(",") if text)  # so that \n is the end of a line
    wanted = [
        Prompt(
            record["prompt"], values["max_new_tokens"], stops, values["temperature"], values["top_p"],
            values["seed"] + number,
        )
        for number, record in enumerate(records)
    ]  # fmt: skip
    under_way = f"{output}.partial"
    text_model = TextModel(model, under_way, num_slots=values["slots"])
    texts = text_model.complete(wanted)
    if text_model.num_cut:
        logging.info("the beginning of %d prompts was cut off: they are longer than the window", text_model.num_cut)
    if jax.process_index() == 0:
        with open(f"{output}.whole", "w", encoding="utf-8") as file:
            for record, text in zip(records, texts, strict=True):
                line = {**record, "model": text_model.name, "output": text}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        os.replace(f"{output}.whole", output)
        pathlib.Path(under_way).unlink(missing_ok=True)
        logging.info("%d continuations are in %s", len(texts), output)


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


def _number(name: str, text: str, default: float) -> float:
    """The number that a flag gives, of the kind of its default."""
    try:
        return type(default)(text) if text else default
    except ValueError:
        raise ValueError(f"--{name} is {text!r}; expected a number, such as {default}") from None


if __name__ == "__main__":
    command_line.run(
        main,
        config=False,
        flag_help={
            "model": "a workdir, WORKDIR@STEP or a Hugging Face folder",
            "prompts": "a text file with a prompt a line, or .jsonl with a key `prompt`",
            "output": "the .jsonl file to write",
            "max_new_tokens": f"longest continuation, {MAX_NEW_TOKENS} if not given",
            "temperature": "0, if not given, takes the likeliest ids; otherwise they are drawn",
            "top_p": "draw among the likeliest ids that have this probability together; 1 if not given",
            "seed": "of the first prompt's draws, 0 if not given; each prompt has the next",
            "stop": r"texts that end a continuation, separated by commas; \n is the end of a line",
            "slots": "how many prompts are continued at a time",
        },
    )
