"""What `emma_jax.evaluate` asks of a task, and what a task asks of a model. New ones have this shape."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Request(NamedTuple):
    """A text to be scored and what stands before it; both after BOS. See `split_at_space` for how to cut a prompt."""

    context: str
    target: str


class Measure(NamedTuple):
    """One number of a task: a metric over `n` items of a language or direction."""

    language: str
    metric: str
    value: float
    n: int


class Answer(NamedTuple):
    """One output of a model and what it should have been; `scores` may be empty."""

    language: str
    prompt: str
    output: str
    reference: str
    scores: dict[str, float]


class Outcome(NamedTuple):
    """All that a task found out about a model."""

    measures: Sequence[Measure] = ()
    answers: Sequence[Answer] = ()


class Model(Protocol):
    """What a task may do with a model."""

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """log p(target | context) in nats of each request; nan for one that does not fit into a row."""
        ...

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """The line that the model writes after each prompt, greedily."""
        ...


class Task(Protocol):
    """A benchmark whose texts are chosen. `prompt_hash` depends on them all; `version` changes when scores would."""

    name: str
    shots: int
    version: str
    prompt_hash: str

    def run(self, model: Model) -> Outcome:
        """What the model scores."""
        ...


def split_at_space(prompt: str, target: str) -> Request:
    """The request for `target` after `prompt`, where the spaces that end the prompt go to the target.

    Context and target are tokenized apart, so that the context is the same ids whatever follows. Tokenizers join a
    space with the word behind it: cut here, the ids are those of the whole text, as in training.

    >>> split_at_space("[English]: Yes\\n[Swahili]: ", "Ndiyo")
    Request(context='[English]: Yes\\n[Swahili]:', target=' Ndiyo')
    """
    context = prompt.rstrip(" ")
    return Request(context, prompt[len(context) :] + target)
