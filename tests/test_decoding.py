"""Greedy decoding with the cache: what full forwards would choose, for prompts of any length in one batch."""

import numpy as np
import pytest
import random_model
from ml_collections import FrozenConfigDict
from random_model import model_config, parameters

from emma_jax import decoding

NO_STOP = -1


@pytest.fixture(scope="module")
def small():
    """(config, params on one device, prompts of lengths around the bounds of the buckets)."""
    config = model_config(num_layers=2)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, config.vocab_size, length).tolist() for length in (1, 2, 7, 31, 32, 33, 40)]
    return config, random_model.place(parameters(config), config, random_model.mesh()), prompts


def reference(config, params, prompts, num_tokens):
    """The ids that are most likely after each prompt, each from a forward over the whole text so far."""
    texts = [list(prompt) for prompt in prompts]
    length = max(map(len, prompts)) + num_tokens
    for _ in range(num_tokens):
        rows = np.array([text + [0] * (length - len(text)) for text in texts])
        choices = random_model.logits(config, params, rows).argmax(axis=-1)
        for text, choice in zip(texts, choices, strict=True):
            text.append(int(choice[len(text) - 1]))
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def test_ids_are_those_of_full_forwards(small):
    config, params, prompts = small
    expected = reference(config, params, prompts, 12)
    assert decoding.generate(config, params, prompts, 12, NO_STOP) == expected
    assert len({tuple(ids) for ids in expected}) == len(prompts)
    assert all(len(set(ids)) > 4 for ids in expected)


def test_a_prompt_has_the_same_continuation_in_any_batch(small):
    config, params, prompts = small
    together = decoding.generate(config, params, prompts, 8, NO_STOP)
    alone = [decoding.generate(config, params, [prompt], 8, NO_STOP)[0] for prompt in prompts]
    assert together == alone
    assert decoding.generate(config, params, prompts[::-1], 8, NO_STOP) == together[::-1]


def test_a_row_ends_before_its_first_stop(small):
    config, params, prompts = small
    free = decoding.generate(config, params, prompts, 12, NO_STOP)
    eos, stops = free[0][3], (free[1][5], free[2][0])
    expected = [ids[: min((ids.index(s) for s in (eos, *stops) if s in ids), default=12)] for ids in free]
    assert decoding.generate(config, params, prompts, 12, eos, stops) == expected
    assert [len(ids) for ids in expected[:3]] != [12, 12, 12] and expected[2] == []
    assert decoding.generate(config, params, prompts, 1, NO_STOP) == [ids[:1] for ids in free]


def test_decoding_ends_with_its_last_row(small):
    config, params, prompts = small
    lengths = np.array([len(prompts[0]), 0], np.int32)
    tokens = np.zeros((2, 32), np.int32)
    tokens[0, : lengths[0]] = prompts[0]
    stops = np.array(decoding.generate(config, params, prompts[:1], 1, NO_STOP)[0], np.int32)
    ids = decoding._decode(
        params, tokens, lengths, stops, config=FrozenConfigDict(config), mesh=random_model.mesh(), max_new_tokens=5
    )
    assert ids[0, 0] == stops[0] != ids[1, 0]
    assert not np.any(ids[:, 1:])


@pytest.mark.parametrize("axes", [dict(fsdp=8), dict(fsdp=4, tensor=2), dict(data=2, fsdp=2, tensor=2)], ids=str)
def test_meshes_agree_with_one_device(small, axes):
    config, params, prompts = small
    placed = random_model.place(params, config, random_model.mesh(8, **axes))
    expected = decoding.generate(config, params, prompts, 6, NO_STOP)
    assert decoding.generate(config, placed, prompts, 6, NO_STOP) == expected


def test_batches_of_a_bucket_share_a_program(small):
    config, params, prompts = small
    decoding.generate(config, params, [[1] * 20] * 3, 5, 7)
    compiled = decoding._decode._cache_size()
    for rows, length in ((4, 1), (3, 32), (4, 9)):
        decoding.generate(config, params, [[1] * length] * rows, 5, 9)
    assert decoding._decode._cache_size() == compiled


@pytest.mark.parametrize(
    ("prompts", "max_new_tokens", "message"),
    [
        ([[1], []], 5, "prompt 1 is empty; begin it with BOS"),
        ([[1, 320]], 5, "prompt 0 has ids outside the vocabulary of 320"),
        ([[-1]], 5, "prompt 0 has ids outside"),
        ([[1]], 0, "max_new_tokens is 0; expected at least 1"),
    ],
)
def test_prompts_that_cannot_be_continued(small, prompts, max_new_tokens, message):
    config, params, _ = small
    with pytest.raises(ValueError, match=message):
        decoding.generate(config, params, prompts, max_new_tokens, NO_STOP)


def test_no_prompts_no_continuations(small):
    config, params, _ = small
    assert decoding.generate(config, params, [], 5, NO_STOP) == []
