"""A model as the tasks of `emma_jax.evaluate` that are no benchmarks see it, see `task.Model`."""

from collections.abc import Sequence

import numpy as np

from emma_jax.evaluation.task import Request
from emma_jax.text_model import Pair, Prompt, TextModel

STOP = "\n"  # ends an answer, as it ends a line of a document


class TaskModel:
    """`text_model` with the sizes of `config` (config.evaluation)."""

    def __init__(self, text_model: TextModel, config):
        self._text_model, self._config = text_model, config

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """log p(target | context) in nats, float64 [len(requests)]; nan if both have more than `row_length` tokens.

        Context and target are tokenized apart.
        """
        ids = self._text_model.encode([text for request in requests for text in request])
        bos_id = self._text_model.tokenizer.bos_id
        pairs = [Pair([bos_id, *ids[context]], ids[target]) for context, target in requests]
        longest = min(self._config.row_length, self._text_model.max_length)
        fitting = [number for number, pair in enumerate(pairs) if len(pair.context) + len(pair.target) <= longest + 1]
        nats = np.full(len(pairs), np.nan)
        scores = self._text_model.score([pairs[number] for number in fitting], fitting)
        nats[fitting] = [score.log_probability for score in scores]
        return nats

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """The line that the model writes after each prompt, greedily, without spaces around it."""
        wanted = [Prompt(prompt, self._config.max_new_tokens, (STOP,)) for prompt in prompts]
        return [text.strip() for text in self._text_model.complete(wanted)]
