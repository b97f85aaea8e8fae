"""Records to documents: what a text, or ten sentence pairs, look like to the model.

Owns the rendering and the place of BOS and EOS. Every step works on batches inside, as a call per record costs more
than the tokenizer does, and gives single examples. Nothing is dropped, trimmed or padded.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import seqio
import tensorflow as tf
from ml_collections import ConfigDict

from emma_jax import languages
from emma_jax.manifest import SPLITS

DIRECTIONS = ("both", "random", "stored")
LABELS = ("name", "code")
TRAINING, _ = SPLITS

BATCH_DOCUMENTS = 256
TEXT_MARK = "\0"


class Frame(NamedTuple):
    """What stands before and after a text in its line."""

    before: str
    after: str

    @property
    def num_bytes(self) -> int:
        """Bytes of both in UTF-8."""
        return len((self.before + self.after).encode())


def check_rendering(rendering: ConfigDict) -> None:
    """Raises ValueError if config.rendering says something that cannot be done."""
    if rendering.direction not in DIRECTIONS:
        raise ValueError(f"config.rendering.direction is {rendering.direction!r}; it can be {', '.join(DIRECTIONS)}")
    if rendering.language_label not in LABELS:
        raise ValueError(
            f"config.rendering.language_label is {rendering.language_label!r}; it can be {', '.join(LABELS)}"
        )
    if rendering.pairs_per_document < 1:
        raise ValueError(f"config.rendering.pairs_per_document is {rendering.pairs_per_document}; it must be 1 or more")
    frame("eng_Latn", rendering)


def frame(code: str, rendering: ConfigDict) -> Frame:
    r"""What stands around a text of a language, by config.rendering.

    Raises ValueError if the template does not name {text} once.

    >>> frame("quy_Latn", ConfigDict(dict(pair_line="[{language}]: {text}\n", language_label="name")))
    Frame(before='[Ayacucho Quechua]: ', after='\n')
    """
    label = languages.name(code) if rendering.language_label == "name" else code
    try:
        parts = rendering.pair_line.format(language=label, text=TEXT_MARK).split(TEXT_MARK)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"config.rendering.pair_line {rendering.pair_line!r} is no template of {{language}} and {{text}} ({error})"
        ) from error
    if len(parts) != 2:
        raise ValueError(f"config.rendering.pair_line {rendering.pair_line!r} must name {{text}} once")
    return Frame(*parts)


def render_pairs(
    dataset: tf.data.Dataset, frames: tuple[Frame, Frame], pairs_per_document: int, direction: str
) -> tf.data.Dataset:
    r"""Documents of consecutive pairs, as `text` and `direction`: 0 with the source first, 1 with the target first.

    Records have `src_text`, `tgt_text` and the `split` they are of. `direction` says which documents there are: `both`
    gives each group of pairs in each direction, one after the other; `random` in one that is drawn for the group;
    `stored` with the source first. Of the validation split there are always both. The last document has the pairs that
    remain.

    Texts are as they were, but a line break inside one would pass for the end of its line: each run of them becomes a
    space.

    >>> pairs = tf.data.Dataset.from_tensor_slices(
    ...     dict(src_text=["one", "two", "three"], tgt_text=["moja", "mbili", "tatu"], split=["train"] * 3))
    >>> frames = Frame("[English]: ", "\n"), Frame("[Swahili]: ", "\n")
    >>> for document in render_pairs(pairs, frames, 2, "both").as_numpy_iterator():
    ...     print(document["direction"], document["text"].decode().split("\n"))
    0 ['[English]: one', '[Swahili]: moja', '[English]: two', '[Swahili]: mbili', '']
    1 ['[Swahili]: moja', '[English]: one', '[Swahili]: mbili', '[English]: two', '']
    0 ['[English]: three', '[Swahili]: tatu', '']
    1 ['[Swahili]: tatu', '[English]: three', '']
    """
    render = functools.partial(
        _render_batch, frames=frames, pairs_per_document=pairs_per_document, direction_policy=direction
    )
    batches = dataset.batch(BATCH_DOCUMENTS * pairs_per_document)
    return seqio.map_over_dataset(render, num_seeds=1)(batches).unbatch()


def tokenize(dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]) -> tf.data.Dataset:
    """`targets`, int32, BOS, the ids of `text` and EOS; and `bytes`, int32, the size of the text in UTF-8.

    Other features of the records stay, but for `split`.

    >>> import types, numpy as np
    >>> words = types.SimpleNamespace(encode_documents=lambda texts: (
    ...     np.array([1, 7, 0, 2, 1, 8, 2], np.int32), np.array([4, 3])))
    >>> texts = tf.data.Dataset.from_tensor_slices(dict(text=["hi!", "\u00e9"]))
    >>> examples = tokenize(texts, {"targets": types.SimpleNamespace(vocabulary=words)})
    >>> [(example["targets"].tolist(), int(example["bytes"])) for example in examples.as_numpy_iterator()]
    [([1, 7, 0, 2], 3), ([1, 8, 2], 2)]
    """
    vocabulary = output_features["targets"].vocabulary

    def encode(batch):
        texts = batch.pop("text")
        batch.pop("split", None)
        ids, lengths = tf.numpy_function(vocabulary.encode_documents, [texts], (tf.int32, tf.int64))
        ids.set_shape([None])
        lengths.set_shape([None])
        targets = tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)
        return {**batch, "targets": targets, "bytes": tf.strings.length(texts)}

    return dataset.batch(BATCH_DOCUMENTS).map(encode).prefetch(1).unbatch()


def _render_batch(batch, seed, frames, pairs_per_document, direction_policy):
    """Documents of a batch whose groups of pairs are whole but the last; `seed` is SeqIO's for this batch."""
    lines = [
        tf.strings.join([around.before, tf.strings.regex_replace(batch[column], r"[\r\n]+", " "), around.after])
        for column, around in zip(("src_text", "tgt_text"), frames, strict=True)
    ]
    pairs = tf.stack([tf.strings.join(lines), tf.strings.join(lines[::-1])], axis=1)
    num_pairs = tf.shape(pairs)[0]
    num_groups = -(-num_pairs // pairs_per_document)
    pairs = tf.pad(pairs, [[0, num_groups * pairs_per_document - num_pairs], [0, 0]], constant_values="")
    texts = tf.strings.reduce_join(tf.reshape(pairs, [num_groups, pairs_per_document, 2]), axis=1)

    directions = tf.tile([[0, 1]], [num_groups, 1])
    drawn = tf.random.stateless_uniform([num_groups, 1], seed, maxval=2, dtype=tf.int32)
    wanted = {"both": directions, "stored": tf.zeros_like(drawn), "random": drawn}[direction_policy]
    kept = (directions == wanted) | (batch["split"][0] != TRAINING)
    return {"text": tf.boolean_mask(texts, kept), "direction": tf.boolean_mask(directions, kept)}
