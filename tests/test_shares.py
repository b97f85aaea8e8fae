"""Tokens are divided exactly: the budget is met, no floor or cap is broken, all else is in proportion."""

import numpy as np
import pytest

from configs import base
from emma_jax import languages, shares


def section(**values):
    return base.component("*", 1, **values)


def weights(sizes, classes, how):
    """What the policies say, written once more."""
    return {
        "proportional": sizes,
        "temperature": sizes ** (1 / how.temperature),
        "unimax": np.ones_like(sizes),
        "resource_class": sizes * np.array([how.multipliers[label] for label in classes]),
    }[how.policy]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("policy", shares.POLICIES)
def test_budget_floors_and_caps_hold_and_the_rest_is_in_proportion(policy, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(8, 4, 300)  # over twelve powers of ten, as pairs are
    classes = rng.choice(base.CLASSES, 300).tolist()
    how = section(
        policy=policy,
        temperature=rng.uniform(1, 5),
        multipliers={label: float(rng.uniform(0.1, 20)) for label in base.CLASSES},
        max_epochs=float(rng.uniform(1, 6)),
        min_epochs=float(rng.uniform(0, 0.1)),
        min_tokens=int(rng.uniform(0, 50)),
    )
    caps = sizes * how.max_epochs
    floors = np.minimum(np.maximum(how.min_tokens, how.min_epochs * sizes), caps)
    budget = rng.choice([floors.sum() * 1.001, rng.uniform(0.15, 4) * sizes.sum(), caps.sum() * 1.5])
    tokens = shares.divide(sizes, classes, budget, how)
    assert tokens.sum() == pytest.approx(min(budget, caps.sum()), rel=1e-12)
    assert (tokens >= floors * (1 - 1e-12)).all() and (tokens <= caps * (1 + 1e-12)).all()
    rates = tokens / weights(sizes, classes, how)
    at_floor, at_cap = tokens <= floors * (1 + 1e-9), tokens >= caps * (1 - 1e-9)
    free = ~at_floor & ~at_cap
    if free.any():
        assert np.allclose(rates[free], rates[free][0], rtol=1e-9)
        assert (rates[at_cap & ~at_floor] <= rates[free][0] * (1 + 1e-9)).all()
        assert (rates[at_floor & ~at_cap] >= rates[free][0] * (1 - 1e-9)).all()


@pytest.mark.parametrize("seed", range(20))
def test_whole_numbers_have_the_same_sum_and_lose_no_task(seed):
    rng = np.random.default_rng(seed)
    tokens = rng.lognormal(2, 4, 500) * rng.integers(0, 2, 500)
    found = np.array(shares.whole(tokens))
    assert found.sum() == round(tokens.sum())
    assert ((found > 0) == (tokens > 0)).all()
    others = np.arange(500) != tokens.argmax()  # which pays for those that were less than one
    assert (np.abs(found - tokens)[others] <= 1).all()


def test_unimax_is_that_of_its_paper():
    """Chung et al. (2023), algorithm 1: from the smallest language on, an equal part of what is left, or its cap."""
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(5, 3, 100)
    budget, left, expected = 0.5 * sizes.sum(), 0.5 * sizes.sum(), np.zeros(100)
    for done, task in enumerate(np.argsort(sizes)):
        expected[task] = min(left / (100 - done), 4.0 * sizes[task])
        left -= expected[task]
    assert np.allclose(shares.divide(sizes, [""] * 100, budget, section(policy="unimax")), expected)


def test_the_smallest_is_not_lost_and_a_class_can_be_left_out():
    sizes, classes = [15.0, 1e6, 1e10], ["very low", "low", "very high"]
    how = section(policy="proportional", min_tokens=1000, max_epochs=4.0)
    assert shares.divide(sizes, classes, 1e8, how)[:2].tolist() == [60.0, pytest.approx(1e8 / 1e10 * 1e6, rel=0.01)]
    how = section(policy="resource_class", multipliers={"very_high": 0.0})
    assert shares.divide(sizes, classes, 1e6, how)[2] == 0


def test_classes_of_configs_are_those_of_languages():
    assert set(base.CLASSES) == {
        languages.class_key(label) for label, _ in (*languages.PAIR_CLASSES, *languages.LANGUAGE_CLASSES)
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(policy="equal"), "no policy 'equal' .*; there are proportional, temperature, unimax, resource_class"),
        (dict(temperature=0.0), "temperature of a component must be positive, not 0.0"),
        (dict(max_epochs=-1.0), "max_epochs of a component must be positive"),
        (dict(min_epochs=-1.0), "min_epochs of a component must be 0 or more"),
        (dict(min_epochs=5.0), "min_epochs of a component is 5, its max_epochs 4"),
        (dict(multipliers={"low": -1.0}), "multipliers.low of a component must be 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        shares.divide([100, 900], ["low", "high"], 500, section(**values))
