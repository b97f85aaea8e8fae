"""Decoding with the cache: what full forwards would choose, for any request in any company."""

import collections

import numpy as np
import pytest
import random_model
from random_model import model_config, parameters

from emma_jax import decoding, sampling
from emma_jax.decoding import Request

LENGTHS = (1, 2, 7, 64, 65, 66, 80)  # around the bound of a bucket


@pytest.fixture(scope="module")
def small():
    """(config, params on one device, prompts)."""
    config = model_config(num_layers=1)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, config.vocab_size, length).tolist() for length in LENGTHS]
    return config, random_model.place(parameters(config), config, random_model.mesh()), prompts


def generate(small, requests, stop_ids=(), **options):
    config, params, _ = small
    found = list(decoding.generate(config, params, requests, stop_ids, **options))
    assert sorted(number for number, _ in found) == list(range(len(requests)))
    return [ids for _, ids in sorted(found)]


@pytest.fixture(scope="module")
def greedy(small):
    """The 20 ids that are likeliest after each prompt, each from a forward over the whole text so far."""
    config, params, prompts = small
    texts = [list(prompt) for prompt in prompts]
    length = max(map(len, prompts)) + 20
    for _ in range(20):
        rows = np.array([text + [0] * (length - len(text)) for text in texts])
        choices = random_model.logits(config, params, rows).argmax(axis=-1)
        for text, choice in zip(texts, choices, strict=True):
            text.append(int(choice[len(text) - 1]))
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def test_ids_are_those_of_full_forwards(small, greedy):
    assert generate(small, [Request(prompt, 20) for prompt in small[2]], num_slots=4) == greedy
    assert len({tuple(ids) for ids in greedy}) == len(LENGTHS)
    assert all(len(set(ids)) > 4 for ids in greedy)


def test_a_request_has_the_same_ids_in_any_company(small):
    """Also those that are drawn, where the smallest difference of logits may choose another id."""
    rng = np.random.default_rng(2)
    requests = [
        Request(rng.integers(0, 320, rng.integers(1, 60)).tolist(), int(rng.integers(1, 24)), temperature, 0.9, seed)
        for seed in range(12)
        for temperature in (0.0, 1.5)
    ]
    together = generate(small, requests, num_slots=4)
    assert [len(ids) for ids in together] == [request.max_new_tokens for request in requests]
    order = rng.permutation(len(requests))
    shuffled = generate(small, [requests[number] for number in order], num_slots=4)
    assert [shuffled[at] for at in np.argsort(order)] == together
    for number in range(2):
        assert generate(small, [requests[number]], num_slots=4) == [together[number]]


def test_a_request_ends_before_its_first_stop(small, greedy):
    requests = [Request(prompt, 20) for prompt in small[2]]
    stops = {greedy[0][3], greedy[1][15], greedy[2][0]}
    expected = [ids[: min((ids.index(s) for s in stops if s in ids), default=20)] for ids in greedy]
    assert generate(small, requests, stops, num_slots=4) == expected
    assert len(expected[0]) < 4 and expected[2] == [] and max(map(len, expected)) > 8


def test_a_request_ends_soon_after_its_caller_says_so(small, greedy):
    requests = [Request(prompt, 20) for prompt in small[2]]
    found = generate(small, requests, is_finished=lambda number, ids: number == 1 and greedy[1][2] in ids, num_slots=4)
    assert found[1] == greedy[1][: decoding.NUM_STEPS]
    assert found[:1] + found[2:] == greedy[:1] + greedy[2:]


def test_a_draw_is_of_the_distribution_and_of_the_seed(small):
    config, params, prompts = small
    logits_V = random_model.logits(config, params, [prompts[6]])[0, -1]
    requests = [Request(prompts[6], 1, temperature=0.8, top_p=0.7, seed=seed) for seed in range(1500)]
    drawn = [ids[0] for ids in generate(small, requests, num_slots=64)]
    assert drawn == [ids[0] for ids in generate(small, requests[:40], num_slots=64)] + drawn[40:]
    p_V = np.exp(logits_V / 0.8 - np.max(logits_V / 0.8))
    p_V /= p_V.sum()
    order = np.argsort(-p_V)
    kept = order[: np.searchsorted(np.cumsum(p_V[order]), 0.7) + 1]
    counts = collections.Counter(drawn)
    assert set(counts) <= set(kept.tolist()) and 3 < len(kept) < 200
    expected = 1500 * p_V[kept] / p_V[kept].sum()
    deviations = np.abs(np.array([counts[int(id_)] for id_ in kept]) - expected) / np.sqrt(expected)
    assert deviations.max() < 4.5


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 1.0])
def test_the_nucleus_is_what_sorting_finds(top_p):
    rng = np.random.default_rng(0)
    logits_BV = rng.normal(0, 3, (8, 1000)).astype(np.float32)
    thresholds_B = np.asarray(sampling.nucleus_threshold(logits_BV, np.full(8, top_p, np.float32)))
    for logits_V, threshold in zip(logits_BV, thresholds_B, strict=True):
        p_V = np.exp(logits_V.astype(np.float64) - logits_V.max())
        order = np.argsort(-p_V)
        mass_V = np.cumsum(p_V[order]) / p_V.sum()
        count = min(np.searchsorted(mass_V, top_p) + 1, 1000)
        assert (logits_V >= threshold).sum() == count


@pytest.mark.parametrize("axes", [dict(data=2, fsdp=2, tensor=2)], ids=str)
def test_meshes_agree_with_one_device(small, greedy, axes):
    config, params, prompts = small
    placed = random_model.place(params, config, random_model.mesh(8, **axes))
    requests = [Request(prompt, 20) for prompt in prompts[:4]]
    assert generate((config, placed, prompts), requests, num_slots=4) == greedy[:4]


def test_few_programs_are_compiled(small):
    """Of a cache length, one program decodes, and one prefills for each bucket of prompts."""
    rng = np.random.default_rng(3)
    before = decoding.num_programs()
    lengths = rng.integers(1, 110, 100)
    list(decoding.generate(*small[:2], [Request([1] * int(n), 2) for n in lengths], (), num_slots=40))
    caches = {decoding.bucket(int(n) + 2 + decoding.NUM_STEPS) for n in lengths}
    pairs = {(decoding.bucket(int(n) - 1), decoding.bucket(int(n) + 2 + decoding.NUM_STEPS)) for n in lengths}
    assert decoding.num_programs() - before == len(caches) + len(pairs) <= 3 + 6


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([], 5), "prompt 1 is empty; begin it with BOS"),
        (Request([1, 320], 5), "prompt 1 has ids outside the vocabulary of 320"),
        (Request([-1], 5), "prompt 1 has ids outside"),
        (Request([1], 0), "max_new_tokens of request 1 is 0; expected at least 1"),
        (Request([1], 5, temperature=-1.0), "request 1 has temperature -1.0"),
        (Request([1], 5, temperature=1.0, top_p=0.0), "request 1 has temperature 1.0 and top_p 0.0"),
    ],
)
def test_requests_that_cannot_be_done(small, request_, message):
    with pytest.raises(ValueError, match=message):
        generate(small, [Request([1], 5), request_])


def test_no_requests_no_ids(small):
    assert generate(small, []) == []
