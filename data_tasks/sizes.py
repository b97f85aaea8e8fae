"""How large tasks are: documents and bytes in one epoch, told by the manifest, and the tokens that they make.

Owns the three ways to tokens: measured on some records with the tokenizer, estimated from what languages are like, and
a constant where only proportions matter. Opens no pipeline, as that takes a hundred times as long, and needs no
TensorFlow.
"""

import time
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from data_tasks import rendering as rendering_lib
from emma_jax import text_rates
from emma_jax.manifest import SPLITS, Entry, Manifest
from emma_jax.tokenizer import Tokenizer

TRAINING, _ = SPLITS
SAMPLE_RECORDS = 500  # that a task's tokens per byte are measured on
# Tokens of Llama 3 per byte of "[{language}]: " before a text, means over the 314 languages of the paper's pairs.
LABEL_TOKENS_PER_BYTE = dict(name=0.36, code=0.50)


class Size(NamedTuple):
    """The documents of a task in one epoch, the bytes of all their texts, and those of them that are of templates."""

    documents: int
    bytes: int
    template_bytes: int = 0

    @property
    def tokens(self) -> float:
        """Predicted tokens, where only proportions matter: those of the texts, and EOS of each document."""
        return self.bytes / text_rates.BYTES_PER_TOKEN + self.documents


class Measured(NamedTuple):
    """Tokens in one epoch of a task, and what telling them took: bytes that were tokenised, and seconds."""

    tokens: float
    sample_bytes: int = 0
    seconds: float = 0.0


def of_corpus(corpus: Manifest, rendering: ConfigDict) -> dict[str, Size]:
    """The size of each task; from the manifest alone."""
    return {name: _size(name, entry, rendering) for name, entry in corpus.tasks.items()}


def measured(corpus: Manifest, tokenizer: Tokenizer, rendering: ConfigDict, name: str, size: Size) -> Measured:
    """Tokens in one epoch, from the bytes in the manifest and the tokens per byte of some records."""
    records = next(corpus.read(corpus.tasks[name], TRAINING), None)
    if not size.documents or not records:
        return Measured(0.0)
    sample = records.take(np.arange(0, len(records), -(-len(records) // SAMPLE_RECORDS)))
    around = rendering_lib.frames(name, rendering)
    columns = ("src_text", "tgt_text") if len(around) > 1 else ("text",)
    sides = zip(*(sample[column].to_pylist() for column in columns), strict=True)
    texts = ["".join(frame.around(text) for frame, text in zip(around, side, strict=True)) for side in sides]
    num_bytes, begun = sum(len(text.encode()) for text in texts), time.monotonic()
    tokens_per_byte = sum(map(len, tokenizer.encode_batch(texts))) / num_bytes
    seconds = time.monotonic() - begun
    # EOS of a document is no byte.
    return Measured(tokens_per_byte * size.bytes + size.documents, num_bytes, seconds)


def estimated(name: str, size: Size, rendering: ConfigDict) -> Measured:
    """Tokens of Llama 3 in one epoch, from what is known of the languages."""
    rate = text_rates.tokens_per_byte(rendering_lib.codes_of(name))
    labels = size.template_bytes * LABEL_TOKENS_PER_BYTE[rendering.language_label]
    return Measured((size.bytes - size.template_bytes) * rate + labels + size.documents)


def _size(name: str, entry: Entry, rendering: ConfigDict) -> Size:
    split = entry.splits.get(TRAINING)
    if split is None:
        return Size(0, 0)
    around = rendering_lib.frames(name, rendering)
    template_bytes = split.rows * sum(frame.num_bytes for frame in around)
    documents, times = split.rows, 1
    if len(around) > 1:
        documents = -(-split.rows // rendering.pairs_per_document)
        times = 2 if rendering.direction == "both" else 1
    return Size(times * documents, times * (split.bytes + template_bytes), times * template_bytes)
