"""Hashes of texts and records, 64 bits each and the same on every machine: what decides bucket, order and split.

A hash never decides that two texts are equal; `corpus.deduplicate` compares them.
"""

import numpy as np
import pyarrow as pa
import xxhash

_ODD = np.uint64(0x9E3779B97F4A7C15)


def text_hashes(text: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """XXH3 of the UTF-8 of each text; uint64.

    >>> text_hashes(pa.array(["Save", "Save", "Open"])).tolist()
    [17109538714208634112, 17109538714208634112, 18118506119627647930]
    """
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter(map(digest, text.cast(pa.binary()).to_pylist()), np.uint64, len(text))


def with_language(hashes: np.ndarray, lang: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """The hash of each text together with its language, from that of the text alone."""
    encoded = (lang.combine_chunks() if isinstance(lang, pa.ChunkedArray) else lang).dictionary_encode()
    return mix(hashes ^ text_hashes(encoded.dictionary)[encoded.indices.to_numpy(zero_copy_only=False)])


def pair_hashes(src: np.ndarray, tgt: np.ndarray) -> np.ndarray:
    """The hash of each pair from those of its sides, of which order counts."""
    return mix(src * _ODD + tgt)


def mix(values: np.ndarray) -> np.ndarray:
    """Each value as another, of which every bit depends on every bit: the finaliser of SplitMix64 (Steele et al. 2014).

    >>> mix(np.arange(2, dtype=np.uint64)).tolist()
    [0, 6238072747940578789]
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def is_held_out(messages: np.ndarray, seed: int, share: float) -> np.ndarray:
    """For each hash of a message whether it is held out: `share` of all, chosen by the seed.

    >>> is_held_out(text_hashes(pa.array(["Save", "Save", "Open"])), seed=0, share=0.5).tolist()
    [False, False, True]
    """
    salted = mix(messages ^ mix(np.full(1, seed, np.uint64) + _ODD))
    return (salted >> np.uint64(11)).astype(np.float64) < share * 2.0**53


def ranges(hashes: np.ndarray, number: int | np.ndarray) -> np.ndarray:
    """Which of `number` equal ranges of hashes each is in. Read one after the other they are in order of hashes.

    >>> ranges(np.array([0, 2**62, 2**63, 2**64 - 1], np.uint64), 4).tolist()
    [0, 1, 2, 3]
    """
    return ((hashes >> np.uint64(32)) * np.uint64(number) >> np.uint64(32)).astype(np.int64)
