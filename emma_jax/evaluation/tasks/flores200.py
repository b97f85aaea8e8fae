"""Translation of FLORES-200 (devtest) from and into English, with three shots of dev, as the published scripts ask.

The shots of a sentence are drawn with replacement, by a seed that the seed 42 gives for it. What a language is called
in prompts is in flores200.csv.
"""

import csv
import functools
import importlib.resources
import random
from collections.abc import Sequence
from pathlib import Path

import datasets

from emma_jax.evaluation.tasks import files, scores

SEED, SHOTS = 42, 3


@functools.cache
def names() -> dict[str, str]:
    """The languages by code, as prompts call them."""
    path = importlib.resources.files("emma_jax.evaluation.tasks") / "flores200.csv"
    return {row["language"]: row["name"] for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}


def flores200(source: str, target: str, data: str = "", **_) -> dict[str, datasets.Dataset]:
    """The sentences of a direction with prompts, from `data`/flores200/{dev,devtest}/LANGUAGE.SPLIT or the Hub."""
    scores.check_bleu_tokenizer()
    dev, devtest = (
        [_sentences(language, split, data) for language in (source, target)] for split in ("dev", "devtest")
    )
    for split, (sources, targets) in (("dev", dev), ("devtest", devtest)):
        if len(sources) != len(targets):
            raise ValueError(f"FLORES-200 {split} has {len(sources)} lines in {source} and {len(targets)} in {target}")
    labels = [names()[language] for language in (source, target)]
    shots = draw(len(devtest[0]), len(dev[0]))
    rows = [
        {
            "prompt": prompt(labels, [(dev[0][number], dev[1][number]) for number in numbers], sentence),
            "source": sentence,
            "reference": reference,
        }
        for sentence, reference, numbers in zip(*devtest, shots, strict=True)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def draw(num_test: int, num_dev: int) -> list[list[int]]:
    """For each sentence the numbers of its shots.

    >>> draw(2, 10)
    [[9, 6, 5], [3, 9, 1]]
    """
    generator = random.Random(SEED)
    seeds = [generator.randint(0, 1000) for _ in range(num_test)]
    drawn = []
    for seed in seeds:
        generator = random.Random(seed)
        drawn.append([generator.randint(0, num_dev - 1) for _ in range(SHOTS)])
    return drawn


def prompt(labels: Sequence[str], shots: Sequence[tuple[str, str]], sentence: str) -> str:
    r"""The prompt up to where the translation begins.

    >>> prompt(["Swahili", "English"], [("Ndiyo", "Yes")], "Hapana")
    '[Swahili]: Ndiyo\n[English]: Yes\nTranslate the following sentence from Swahili to English\n[Swahili]: Hapana\n[English]:'
    """  # noqa: E501
    source, target = labels
    shown = "".join(f"[{source}]: {text}\n[{target}]: {translation}\n" for text, translation in shots)
    return f"{shown}Translate the following sentence from {source} to {target}\n[{source}]: {sentence}\n[{target}]:"


def results(row: dict[str, str], outputs: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Reference and output for each metric; both are of the whole corpus."""
    return dict.fromkeys(("bleu", "chrf"), (row["reference"], outputs[0]))


@functools.lru_cache(maxsize=8)  # English is a side of every direction
def _sentences(language: str, split: str, data: str) -> list[str]:
    if data:
        return files.sentences(Path(data) / "flores200" / split / f"{language}.{split}")
    return [sentence.strip() for sentence in files.from_hub("facebook/flores", language, split)["sentence"]]
