"""A loaded model as others use it: text in, log-probabilities or text out, finished work kept on disk.

Owns how text becomes ids and how ids become text: where BOS stands, what a window cuts off, where a text stops. The
work on the devices is `scoring`'s and `decoding`'s.
"""

import collections
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
from absl import logging

from emma_jax import conversion, decoding, scoring
from emma_jax.responses import Responses, digest
from emma_jax.scoring import Question, Score

SECONDS_BETWEEN_LINES = 10.0


class Prompt(NamedTuple):
    """A text and how it is continued: until one of `stops`, which is left out; the rest is `decoding.Request`'s."""

    text: str
    max_new_tokens: int
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Pair(NamedTuple):
    """Ids to be scored, and those that stand before them, at least one."""

    context: Sequence[int]
    target: Sequence[int]


class TextModel:
    """A model with its tokenizer; a workdir, WORKDIR@STEP or a Hugging Face folder.

    Texts have at most `max_length` tokens, or as many as the model's config says: of a longer one the beginning is cut
    off, as lm-evaluation-harness does, and `num_cut` counts these. `num_computed` counts what was not there already in
    `responses`, a file that grows while the model works.

    Raises ValueError if the folder holds no model or no tokenizer.
    """

    def __init__(self, folder: str, responses: str = "", max_length: int = 0, num_slots: int = 0):
        loaded = conversion.load_for_inference(folder)
        if loaded.tokenizer is None:
            raise ValueError(f"{folder} has no tokenizer: text can neither be read nor written; export it with one")
        self.name, self._config, self._params, self.tokenizer = (
            loaded.name,
            loaded.config,
            loaded.params,
            loaded.tokenizer,
        )
        self.max_length = max_length or self._config.max_length
        self._num_slots = num_slots or decoding.NUM_SLOTS
        self._stop_ids = {self.tokenizer.eos_id, *conversion.end_ids(folder)}
        self._fingerprint = conversion.files_fingerprint(folder)
        self._responses = Responses(responses, writes=jax.process_index() == 0)
        self.num_cut = self.num_computed = 0

    def encode(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """The ids of each of `texts`, without BOS."""
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, self.tokenizer.encode_batch(unique), strict=True))

    def score(self, pairs: Sequence[Pair], groups: Sequence[Hashable]) -> list[Score]:
        """The log-probability of each target after its context; pairs of the same group are computed together."""
        pairs = [self._cut_pair(pair) for pair in pairs]
        keys = [digest([self._fingerprint, "score", list(pair.context), list(pair.target)]) for pair in pairs]
        members = collections.defaultdict(list)
        for number, (pair, group) in enumerate(zip(pairs, groups, strict=True)):
            if pair.target:
                members[group].append(number)
            else:
                self._responses.add([(keys[number], Score(0.0, True))])
        questions = [
            Question([[*pairs[n].context, *pairs[n].target] for n in of_one], [len(pairs[n].target) for n in of_one])
            for of_one in members.values()
        ]
        numbers = list(members.values())
        done = {at for at, of_one in enumerate(numbers) if all(keys[n] in self._responses for n in of_one)}
        found = scoring.score(self._config, self._params, questions, done)
        for at, scores in self._progress(found, len(questions), len(done), "scored"):
            self._responses.add((keys[n], score) for n, score in zip(numbers[at], scores, strict=True))
        return [Score(*self._responses[key]) for key in keys]

    def complete(self, prompts: Sequence[Prompt]) -> list[str]:
        """What the model writes after each of `prompts`, each the beginning of a document."""
        ids = self.encode([prompt.text for prompt in prompts])
        keys = [digest([self._fingerprint, "complete", self.max_length, *prompt]) for prompt in prompts]
        waiting = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._responses}
        waiting_keys, waiting_prompts = list(waiting), list(waiting.values())
        requests = [
            decoding.Request(self._cut_prompt(ids[prompt.text], prompt.max_new_tokens), *prompt[1:2], *prompt[3:])
            for prompt in waiting_prompts
        ]

        def is_finished(number: int, new: list[int]) -> bool:
            stops = waiting_prompts[number].stops
            return bool(stops) and cut_at(text := self.tokenizer.decode(new), stops) != text

        found = decoding.generate(self._config, self._params, requests, self._stop_ids, is_finished, self._num_slots)
        total = len(set(keys))
        for number, new in self._progress(found, total, total - len(requests), "generated"):
            text = cut_at(self.tokenizer.decode(new), waiting_prompts[number].stops)
            self._responses.add([(waiting_keys[number], text)])
        return [self._responses[key] for key in keys]

    def _cut_pair(self, pair: Pair) -> Pair:
        extra = len(pair.context) + len(pair.target) - self.max_length - 1
        if extra <= 0:
            return pair
        if extra >= len(pair.context):
            raise ValueError(f"a text of {len(pair.target)} tokens does not fit the window of {self.max_length}")
        self.num_cut += 1
        return Pair(pair.context[extra:], pair.target)

    def _cut_prompt(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        if max_new_tokens >= self.max_length:
            raise ValueError(f"{max_new_tokens} new tokens do not fit the window of {self.max_length}")
        ids = [self.tokenizer.bos_id, *ids]
        self.num_cut += len(ids) > self.max_length - max_new_tokens
        return ids[max_new_tokens - self.max_length :]

    def _progress(self, found: Iterable, total: int, before: int, what: str) -> Iterator:
        """`found`, counted, with a line about rate and estimate now and then."""
        if before:
            logging.info("%s: %d of %d are there already", self.name, before, total)
        began = said = time.monotonic()
        for count, one in enumerate(found, 1):
            yield one
            self.num_computed += 1
            now = time.monotonic()
            if now - said >= SECONDS_BETWEEN_LINES:
                said, rate, left = now, count / (now - began), total - before - count
                logging.info(
                    "%s: %d of %d %s, %.1f/s, %.0f s left", self.name, before + count, total, what, rate, left / rate
                )


def cut_at(text: str, stops: Sequence[str]) -> str:
    """`text` up to where the first of `stops` begins.

    >>> cut_at("two dogs. Question: a", ["Question:", ". "])
    'two dogs'
    """
    return text[: min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))]
