"""The tokenizer as SeqIO's vocabulary.

Owns the bridge between TensorFlow and `emma_jax.tokenizer`. No id stands for padding here: SeqIO takes 0 for it, which
is "!" in the tokenizer of Llama 3, so whatever SeqIO does with `pad_id` is overridden.
"""

import numpy as np
import seqio
import tensorflow as tf

from emma_jax.tokenizer import Tokenizer


class TokenizerVocabulary(seqio.Vocabulary):
    """A vocabulary of all ids of a tokenizer. Equal to another one if the tokenizers have the same fingerprint."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self._tokenizer = tokenizer

    @property
    def bos_id(self) -> int:
        """The id that begins each document."""
        return self._tokenizer.bos_id

    @property
    def eos_id(self) -> int:
        """The id that ends each document."""
        return self._tokenizer.eos_id

    @property
    def pad_id(self) -> int | None:
        """The tokenizer's own padding id, if it has one; nothing in this package pads with it."""
        return self._tokenizer.pad_id

    @property
    def unk_id(self) -> None:
        """None: every text can be encoded, and no id is replaced."""
        return

    def encode_documents(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All ids of UTF-8 texts one after the other, each text between BOS and EOS, int32; and how many each has."""
        rows = self._tokenizer.encode_batch([text.decode() for text in texts])
        ids = []
        for row in rows:
            ids.append(self.bos_id)
            ids += row
            ids.append(self.eos_id)
        return np.array(ids, np.int32), np.array([len(row) + 2 for row in rows], np.int64)

    def decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        """The text of ids [length], or the texts of ids [batch, length], each up to its first EOS."""
        return self._decode_tf(tf.convert_to_tensor(ids))

    @property
    def _base_vocab_size(self) -> int:
        return self._tokenizer.vocab_size

    def _encode(self, s: str) -> list[int]:
        return self._tokenizer.encode(s)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        ids = tf.numpy_function(lambda text: np.array(self._encode(text.item().decode()), np.int32), [s], tf.int32)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        if ids.shape.rank == 2:
            return tf.map_fn(self._decode_tf, ids, fn_output_signature=tf.string)
        text = tf.numpy_function(lambda row: self.decode(row.tolist()).encode(), [ids], tf.string)
        text.set_shape([])
        return text

    def __eq__(self, other) -> bool:
        return isinstance(other, TokenizerVocabulary) and self._tokenizer.fingerprint == other._tokenizer.fingerprint

    def __hash__(self) -> int:
        return hash(self._tokenizer.fingerprint)
