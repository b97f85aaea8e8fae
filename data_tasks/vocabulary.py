"""The tokenizer as SeqIO's vocabulary.

Owns the bridge between TensorFlow and `emma_jax.tokenizer`, a batch of texts per call. No id stands for padding here:
SeqIO takes 0 for it, which is "!" in the tokenizer of Llama 3, so whatever SeqIO does with `pad_id` is overridden.
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

    def decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        """The text of ids [length], or the texts of ids [batch, length], each up to its first EOS."""
        return self._decode_tf(tf.convert_to_tensor(ids))

    def encode_tf(self, s: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
        """Ids of a text as int32 [length]; of texts [batch], in one call of the tokenizer, as ragged [batch, None]."""
        return self._encode_tf(tf.convert_to_tensor(s))

    @property
    def _base_vocab_size(self) -> int:
        return self._tokenizer.vocab_size

    def _encode(self, s: str) -> list[int]:
        return self._tokenizer.encode(s)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
        if s.shape.rank == 0:
            return self._encode_tf(s[tf.newaxis])[0]

        def encode(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = self._tokenizer.encode_batch([text.decode() for text in texts])
            flat = [i for row in rows for i in row]
            return np.array(flat, np.int32), np.array([len(row) for row in rows], np.int64)

        flat, lengths = tf.numpy_function(encode, [s], (tf.int32, tf.int64))
        flat.set_shape([None])
        lengths.set_shape([None])
        return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)

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
