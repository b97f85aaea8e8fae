"""Records to documents: what a text, or ten sentence pairs, look like to the model.

Owns how templates (of `rendering`) are filled, and the place of BOS and EOS. Every step works on batches inside, as a
call per record costs more than the tokenizer does, and gives single examples. Nothing is dropped, trimmed or padded.
"""

import functools
from collections.abc import Mapping

import seqio
import tensorflow as tf

from data_tasks.rendering import Frame
from emma_jax.manifest import SPLITS

TRAINING, _ = SPLITS

BATCH_DOCUMENTS = 256


def render_texts(dataset: tf.data.Dataset, around: Frame) -> tf.data.Dataset:
    r"""Documents of one record each, as `text`; other features of the records stay.

    >>> texts = tf.data.Dataset.from_tensor_slices(dict(text=["def f(): pass"], split=["train"]))
    >>> for document in render_texts(texts, Frame("A program:\n", "")).as_numpy_iterator():
    ...     print(document["text"])
    b'A program:\ndef f(): pass'
    """

    def render(batch):
        return {**batch, "text": tf.strings.join([around.before, batch["text"], around.after])}

    return dataset.batch(BATCH_DOCUMENTS).map(render).unbatch()


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
