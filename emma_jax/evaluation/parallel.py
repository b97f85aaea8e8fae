"""Held-out sentence pairs with English: which ones are scored, and how they become prompts.

The prompts are beginnings of the documents that `data_tasks` renders from pairs, made here without TensorFlow.
"""

import hashlib
import heapq
import re
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from emma_jax import languages
from emma_jax.manifest import Manifest

Texts = TypeVar("Texts", bound=tuple[str, ...])


class Sentence(NamedTuple):
    """A text and its translation."""

    source: str
    target: str


class Direction(NamedTuple):
    """Sentence pairs from the language `source` to the language `target`; `size` counts rows to train on."""

    source: str
    target: str
    sentences: tuple[Sentence, ...]
    size: int

    @property
    def name(self) -> str:
        """source-target, as results name a direction."""
        return f"{self.source}-{self.target}"

    @property
    def reversed(self) -> "Direction":
        """The same sentences the other way."""
        swapped = tuple(Sentence(target, source) for source, target in self.sentences)
        return Direction(self.target, self.source, swapped, self.size)


def from_english(corpus: Manifest, count: int, seed: int) -> list[Direction]:
    """English to each language that the corpus has with it, with at most `count` sentences of the validation split.

    The choice depends on the sentences and `seed` alone. Raises ValueError if there is none to choose from.
    """
    directions = []
    for pair, entry in corpus.pairs.items():
        first, second = pair.split("-")
        if languages.ENGLISH in (first, second):
            rows = (
                Sentence(*map(one_line, row))
                for batch in corpus.read(entry, "validation")
                for row in zip(batch["src_text"].to_pylist(), batch["tgt_text"].to_pylist(), strict=True)
            )
            size = entry.splits["train"].rows if "train" in entry.splits else 0
            direction = Direction(first, second, choose(rows, count, seed), size)
            if direction.sentences:
                directions.append(direction if first == languages.ENGLISH else direction.reversed)
    if not directions:
        raise ValueError(f"the corpus in {corpus.folder!r} has no held-out sentence pairs with English to score")
    return directions


def choose(sentences: Iterable[Texts], count: int, seed: int) -> tuple[Texts, ...]:
    """At most `count` of the sentences, by a hash of text and seed: the same ones in whatever order they come.

    >>> numbers = [Sentence("one", "moja"), Sentence("two", "mbili"), Sentence("three", "tatu")]
    >>> choose(numbers, 2, seed=0) == choose(reversed(numbers), 2, seed=0)
    True
    """
    return tuple(heapq.nsmallest(count, sentences, key=lambda sentence: digest([seed, *sentence])))


def prompt(pair_line: str, source: str, text: str, target: str) -> str:
    """A document of one pair up to where its translation begins; `source` and `target` are the labels of languages.

    >>> prompt("[{language}]: {text}\\n", "English", "Yes", "Swahili")
    '[English]: Yes\\n[Swahili]: '
    """
    before = pair_line.partition("{text}")[0]
    return pair_line.format(language=source, text=text) + before.format(language=target)


def label(code: str, rendering) -> str:
    """What a prompt calls a language, as `rendering` (config.rendering) says."""
    return languages.name(code) if rendering.language_label == "name" else code


def one_line(text: str) -> str:
    r"""The text as it stands in a line of a document: each run of line breaks is a space.

    >>> one_line("two\r\n\nlines")
    'two lines'
    """
    return re.sub(r"[\r\n]+", " ", text)


def digest(parts: Iterable) -> str:
    """SHA-256 in hex of the parts, as text with their bounds."""
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()
