"""Which records are held out, and the hashes that decide it.

A record belongs to a message: the English text where there is one, else the text itself. The message alone decides, so
that a message is held out in every language and pair at once. What is held out once, as the text of a language, is
taken from training wherever else it occurs (`corpus.deduplicate`): the hashes of held-out texts are made here.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa


def is_validation(messages: pa.ChunkedArray, seed: int, share: float) -> np.ndarray:
    """For each message whether it is held out: `share` of all messages, by a hash of seed and text.

    >>> is_validation(pa.chunked_array([["Save", "Save", "Open"]]), seed=0, share=0.5).tolist()
    [True, True, False]
    """
    encoded = messages.combine_chunks().dictionary_encode()
    numbers = _hashes(encoded.dictionary.to_pylist(), b"split %d" % seed)
    return (numbers < share * 2.0**64)[encoded.indices.to_numpy(zero_copy_only=False)]


def text_hashes(lang: pa.ChunkedArray, text: pa.ChunkedArray) -> np.ndarray:
    """A 64-bit hash of each text together with its language, the same on every machine; uint64."""
    encoded = lang.combine_chunks().dictionary_encode()
    result, languages = np.empty(len(text), np.uint64), encoded.indices.to_numpy(zero_copy_only=False)
    for index, code in enumerate(encoded.dictionary.to_pylist()):
        rows = np.flatnonzero(languages == index)
        result[rows] = _hashes(text.take(pa.array(rows)).to_pylist(), code.encode())
    return result


def pair_hashes(src_hash: np.ndarray, tgt_hash: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each pair from those of its sides; uint64."""
    return src_hash * np.uint64(0x9E3779B97F4A7C15) + tgt_hash  # an odd factor, so that order counts


def buckets(hashes: np.ndarray, num_buckets: int) -> np.ndarray:
    """The bucket of each hash. Buckets are ranges of hashes: read one after the other, they are in order of hashes.

    >>> buckets(np.array([0, 2**62, 2**63, 2**64 - 1], np.uint64), 4).tolist()
    [0, 1, 2, 3]
    """
    return ((hashes >> np.uint64(32)) * np.uint64(num_buckets) >> np.uint64(32)).astype(np.int64)


def _hashes(texts: Iterable[str], salt: bytes) -> np.ndarray:
    digests = (hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64)
