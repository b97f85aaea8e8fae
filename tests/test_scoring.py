"""Scores of branches of a tree are those of each sequence alone, and do not depend on other questions."""

import numpy as np
import pytest
import random_model
from random_model import model_config, parameters

from emma_jax import attention, scoring
from emma_jax.scoring import Question

VOCABULARY = 320


@pytest.fixture(scope="module")
def small():
    config = model_config(num_layers=1)
    return config, random_model.place(parameters(config), config, random_model.mesh())


@pytest.fixture(scope="module")
def questions():
    """Items of four choices, short and long; a whole text; choices that end within what they have in common."""
    rng = np.random.default_rng(1)

    def draw(length):
        return rng.integers(0, VOCABULARY, length).tolist()

    made = []
    for _ in range(30):
        context, choices = draw(rng.integers(1, 80)), [draw(rng.integers(1, 9)) for _ in range(4)]
        made.append(Question([context + choice for choice in choices], [len(choice) for choice in choices]))
    text = draw(60)
    return [*made, Question([text], [59]), Question([text, text, text[:7]], [3, 3, 1])]


@pytest.fixture(scope="module")
def alone(small, questions):
    """For each question (log p of the targets, whether each is the likeliest) of each sequence, by a full forward."""
    flat = [pair for question in questions for pair in zip(*question, strict=True)]
    logits_BLV = random_model.logits(*small, [ids + [0] * (96 - len(ids)) for ids, _ in flat]).astype(np.float64)
    logs_BLV = logits_BLV - np.log(np.exp(logits_BLV).sum(axis=-1, keepdims=True))
    found = []
    for logs_LV, (ids, count) in zip(logs_BLV, flat, strict=True):
        places = range(len(ids) - count, len(ids))
        total = sum(logs_LV[at - 1, ids[at]] for at in places)
        found.append((total, all(logs_LV[at - 1].argmax() == ids[at] for at in places)))
    rest = iter(found)
    return [[next(rest) for _ in question.sequences] for question in questions]


def check(found, alone, questions):
    assert sorted(found) == list(range(len(questions)))
    for number, expected in enumerate(alone[: len(questions)]):
        values = [score.log_probability for score in found[number]]
        np.testing.assert_allclose(values, [log_p for log_p, _ in expected], rtol=1e-5)
        assert [score.is_greedy for score in found[number]] == [is_greedy for _, is_greedy in expected]


def test_scores_are_those_of_each_sequence_alone(small, questions, alone):
    check(dict(scoring.score(*small, questions)), alone, questions)


def test_a_tree_that_is_too_large_becomes_several_rows(small, questions, alone, monkeypatch):
    monkeypatch.setattr(scoring, "MAX_TREE", 64)
    assert max(len(list(scoring._parts(question))) for question in questions) > 1
    check(dict(scoring.score(*small, questions)), alone, questions)


def test_many_queries_are_computed_in_blocks(small, questions, alone, monkeypatch):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 32)
    scoring._score.clear_cache()
    check(dict(scoring.score(*small, questions)), alone, questions)
    scoring._score.clear_cache()


def test_the_likeliest_ids_are_known_as_such(small):
    logits_V = random_model.logits(*small, [[5, 6, 7]])[0, 2]
    best, second = np.argsort(-logits_V)[:2].tolist()
    [(_, scores)] = scoring.score(*small, [Question([[5, 6, 7, best], [5, 6, 7, second]], [1, 1])])
    assert [score.is_greedy for score in scores] == [True, False]


def test_a_question_has_the_same_scores_in_any_company(small, questions):
    together = dict(scoring.score(*small, questions))
    assert dict(scoring.score(*small, questions[::-1])) == {
        len(questions) - 1 - number: scores for number, scores in together.items()
    }
    done = set(range(5, len(questions)))
    assert dict(scoring.score(*small, questions, done)) == {number: together[number] for number in range(5)}


@pytest.mark.parametrize("axes", [dict(data=2, fsdp=2, tensor=2)], ids=str)
def test_meshes_agree_with_one_device(small, questions, alone, axes):
    config, params = small
    placed = random_model.place(params, config, random_model.mesh(8, **axes))
    check(dict(scoring.score(config, placed, questions[:12])), alone, questions[:12])


def test_choices_share_what_they_begin_with(small):
    """A tree is about as long as its longest sequence."""
    row = scoring.lay_out(Question([[*range(200), choice] for choice in range(7)], [1] * 7))
    assert len(row.tokens) == 200 and row.sources == [199] * 7


def test_few_programs_are_compiled(small):
    before, rng = scoring.num_programs(), np.random.default_rng(2)
    texts = [[1] * int(rng.integers(2, 190)) for _ in range(60)]
    assert len(list(scoring.score(*small, [Question([ids], [1]) for ids in texts]))) == 60
    assert scoring.num_programs() - before <= 4  # of 64, 96, 128 and 192 tokens
