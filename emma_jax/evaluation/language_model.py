"""A loaded model as tasks see it: text in, log-probabilities or text out.

Owns how requests become packed rows and come back as one number each. The arithmetic is `program.score`'s and
`decoding`'s; what is asked, and what the answers mean, is the tasks'. It runs on the devices of one host.
"""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from absl import logging

from emma_jax import conversion, decoding, packing, sharding
from emma_jax.evaluation.task import Request
from emma_jax.program import Program, build

SECONDS_BETWEEN_LINES = 10.0
STOP = "\n"  # ends an answer, as it ends a line of a document


class Loader:
    """Opens models on the devices of this host; models of the same architecture share one compiled program."""

    def __init__(self, config):
        self._config = config
        self._mesh = sharding.make_mesh(config.sharding)
        self._programs: dict[str, Program] = {}

    def load(self, name: str, folder: str) -> "LanguageModel":
        """The model in `folder`, a workdir or a Hugging Face folder. Raises ValueError if it has no tokenizer."""
        loaded = conversion.load_model(folder, self._mesh)
        if loaded.tokenizer is None:
            raise ValueError(f"{folder} has no tokenizer, so its model cannot be given text; export it with one")
        architecture = json.dumps(loaded.config.to_dict(), sort_keys=True)
        if architecture not in self._programs:
            self._programs[architecture] = build(scoring_config(self._config, loaded.config), self._mesh)
        return LanguageModel(name, loaded, self._programs[architecture], self._config.evaluation.max_new_tokens)


def scoring_config(config, model_config):
    """`config` with another model and the sizes of its section `evaluation`."""
    scoring = config.copy_and_resolve_references()
    with scoring.unlocked():
        scoring.model = model_config
    scoring.input_pipeline.batch_rows = config.evaluation.batch_rows
    scoring.pack.row_length = config.evaluation.row_length
    scoring.loss.chunk_length = math.gcd(config.loss.chunk_length, config.evaluation.row_length)
    scoring.train.microbatches = 1
    return scoring


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A model with its tokenizer, on the devices; a `task.Model`."""

    name: str
    loaded: conversion.LoadedModel
    program: Program
    max_new_tokens: int

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """log p(target | context) in nats, float64 [len(requests)]; nan for a request longer than a row.

        Context and target are tokenized apart. Each request is one document of a packed row, so none sees another.
        """
        batch_rows, length = self.program.batch["tokens"].shape
        documents, context_sizes = self._documents(requests)
        fitting = [(number, ids) for number, ids in enumerate(documents) if len(ids) <= length + 1]
        rows = list(packing.best_fit(fitting, length, window=max(1, len(fitting))))
        nats = np.full(len(requests), np.nan)
        nats[[number for number, _ in fitting]] = 0.0
        starts = range(0, len(rows), batch_rows)
        for start in self._with_progress(starts, len(rows)):
            batch = stack(rows[start : start + batch_rows], batch_rows, length)
            logs_BL = np.asarray(self.program.score(self.loaded.params, self._place(batch)), np.float64)
            # Position p predicts id p + 1, so the first target is predicted at the position of the last context id.
            is_target_BL = (batch["tasks"] >= 0) & (batch["positions"] >= context_sizes[batch["tasks"]])
            nats += np.bincount(batch["tasks"][is_target_BL], logs_BL[is_target_BL], minlength=len(requests))
        return nats

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """The line that the model writes after each prompt, greedily, without spaces around it."""
        vocabulary = self.loaded.tokenizer
        newline = vocabulary.encode(STOP)
        stops = newline if len(newline) == 1 else ()
        ids = [[vocabulary.bos_id, *prompt] for prompt in vocabulary.encode_batch(prompts)]
        outputs = []
        batch_rows = self.program.batch["tokens"].shape[0]
        for start in self._with_progress(range(0, len(ids), batch_rows), len(ids)):
            outputs += decoding.generate(
                self.loaded.config,
                self.loaded.params,
                ids[start : start + batch_rows],
                self.max_new_tokens,
                vocabulary.eos_id,
                stops,
            )
        # The newline may also be part of a longer token.
        return [vocabulary.decode(output).partition(STOP)[0].strip() for output in outputs]

    def _documents(self, requests: Sequence[Request]) -> tuple[list[list[int]], np.ndarray]:
        """The ids of each request with BOS, and how many of them, BOS not counted, are context."""
        vocabulary = self.loaded.tokenizer
        texts = list(dict.fromkeys(itertools.chain.from_iterable(requests)))
        ids = dict(zip(texts, vocabulary.encode_batch(texts), strict=True)) | {"": []}
        documents = [[vocabulary.bos_id, *ids[context], *ids[target]] for context, target in requests]
        return documents, np.array([len(ids[context]) for context, _ in requests])

    def _place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        return {name: jax.device_put(array, self.program.batch[name].sharding) for name, array in batch.items()}

    def _with_progress(self, starts: range, total: int) -> Iterator[int]:
        """`starts`, with a line about rate and estimate now and then."""
        began = said = time.monotonic()
        for start in starts:
            now = time.monotonic()
            if start and now - said >= SECONDS_BETWEEN_LINES:
                rate, said = start / (now - began), now
                left = (total - start) / rate
                logging.info("%s: %d of %d rows, %.1f rows/s, %.0f s left", self.name, start, total, rate, left)
            yield start


def stack(rows: Sequence[packing.Row], batch_rows: int, length: int) -> dict[str, np.ndarray]:
    """The arrays of a batch, int32 [batch_rows, length], filled up with empty rows.

    >>> batch = stack([packing.join([(3, [1, 7, 2])])], batch_rows=2, length=3)
    >>> batch["targets"].tolist(), batch["tasks"].tolist()
    ([[7, 2, 0], [0, 0, 0]], [[3, 3, -1], [-1, -1, -1]])
    """
    padded = [*rows, *([packing.empty_row()] * (batch_rows - len(rows)))]
    arrays = [packing.model_arrays(row, length) for row in padded]
    return {name: np.stack([array[name] for array in arrays]) for name in arrays[0]}
