"""How the tokens of a component are divided over its tasks."""

from collections.abc import Sequence

import numpy as np

from emma_jax import languages

POLICIES = ("proportional", "temperature", "unimax", "resource_class")


def divide(sizes: Sequence[float], classes: Sequence[str], budget: float, section) -> np.ndarray:
    """Tokens to draw from each task, in all `budget`, where the tasks have `sizes` tokens and are of `classes`.

    `section` is the component's: how large the share of a task is, beside the others', says its `policy`.
    `proportional`: as the task is; every task is drawn equally often. `temperature`: size^(1/temperature).
    `unimax`: all the same (Chung et al., 2023). `resource_class`: size times the class's entry in `multipliers`;
    0 leaves a class out.

    No task is drawn more than `max_epochs` times, nor less than `min_epochs` times or `min_tokens`, if that can be
    within `max_epochs`. What a task is given more or less for this, others give or are given, again by their shares.
    If all tasks reach `max_epochs`, the sum stays below the budget; if the floors are more than it, above.

    Raises ValueError for another policy and for a value out of its range.

    >>> from configs.base import component
    >>> def divided(budget, sizes, classes=("low", "low", "high"), **how):
    ...     return divide(sizes, classes, budget, component("*", 1, **how)).round(1).tolist()
    >>> divided(500, [90, 10, 900], policy="proportional")
    [45.0, 5.0, 450.0]
    >>> divided(800, [1, 100, 900], policy="temperature", temperature=2.0, max_epochs=2.0)
    [2.0, 199.5, 598.5]
    >>> divided(1000, [10, 100, 5000], policy="unimax", max_epochs=4.0)
    [40.0, 400.0, 560.0]
    >>> divided(570, [10, 90, 900], policy="resource_class", multipliers={"low": 10.0})
    [30.0, 270.0, 270.0]
    >>> divided(500, [90, 10, 900], policy="proportional", min_tokens=60, max_epochs=4.0)
    [60.0, 40.0, 400.0]
    >>> divided(5000, [0, 100, 900], policy="proportional", max_epochs=2.0)
    [0.0, 200.0, 1800.0]
    >>> divided(500, [0, 100, 900], policy="unimax", min_epochs=1.0)
    [0.0, 100.0, 900.0]
    """
    _check(budget, section)
    sizes = np.asarray(sizes, np.float64)
    weights = _weights(sizes, classes, section)
    used = weights > 0
    caps = np.where(used, sizes * section.max_epochs, 0)
    floors = np.minimum(np.maximum(section.min_tokens, section.min_epochs * sizes), caps)
    if caps.sum() <= budget or floors.sum() >= budget:
        return caps if caps.sum() <= budget else floors
    tokens = np.zeros_like(sizes)
    tokens[used] = _fill(weights[used], floors[used], caps[used], budget)
    return tokens


def whole(tokens: np.ndarray) -> list[int]:
    """The tokens in whole numbers of the same sum, rounded. What is less than one becomes one, at the largest's cost.

    >>> whole(np.array([1.2, 2.7, 3.1])), whole(np.array([1.0, 4.0, 0.01, 0.01, 0.0]))
    ([1, 3, 3], [1, 2, 1, 1, 0])
    """
    parts = np.where(tokens > 0, np.maximum(np.floor(tokens), 1), 0).astype(np.int64)
    missing = round(float(tokens.sum())) - int(parts.sum())
    if missing >= 0:
        parts[np.argsort(parts - tokens, kind="stable")[:missing]] += 1
    else:
        parts[parts.argmax()] = max(1, parts.max() + missing)
    return parts.tolist()


def _check(budget: float, section) -> None:
    if section.policy not in POLICIES:
        raise ValueError(
            f"there is no policy {section.policy!r} to divide tokens over tasks; there are {', '.join(POLICIES)}"
        )
    for name, value in dict(temperature=section.temperature, tokens=budget, max_epochs=section.max_epochs).items():
        if not value > 0:
            raise ValueError(f"{name} of a component must be positive, not {value}")
    multipliers = {f"multipliers.{key}": value for key, value in section.multipliers.items()}
    for name, value in dict(multipliers, min_tokens=section.min_tokens, min_epochs=section.min_epochs).items():
        if not value >= 0:
            raise ValueError(f"{name} of a component must be 0 or more, not {value}")
    if section.min_epochs > section.max_epochs:
        raise ValueError(f"min_epochs of a component is {section.min_epochs:g}, its max_epochs {section.max_epochs:g}")


def _weights(sizes: np.ndarray, classes: Sequence[str], section) -> np.ndarray:
    if section.policy == "temperature":
        return np.where(sizes > 0, sizes ** (1 / section.temperature), 0)
    if section.policy == "unimax":
        return np.where(sizes > 0, 1.0, 0.0)
    if section.policy == "resource_class":
        return sizes * [section.multipliers.get(languages.class_key(label), 1.0) for label in classes]
    return sizes


def _fill(weights: np.ndarray, floors: np.ndarray, caps: np.ndarray, budget: float) -> np.ndarray:
    """Numbers in proportion to the weights, but for those at their floor or cap, whose sum is the budget."""
    # The sum grows with the level; between two levels at which a task meets its floor or cap it does so linearly.
    first, last = floors / weights, caps / weights
    levels = np.unique(np.concatenate([first, last]))
    low, high = 0, len(levels) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if np.clip(levels[middle] * weights, floors, caps).sum() <= budget:
            low = middle
        else:
            high = middle
    free = (first <= levels[low]) & (last > levels[low])
    tokens = np.where(last <= levels[low], caps, floors)
    tokens[free] = weights[free] * ((budget - tokens[~free].sum()) / weights[free].sum())
    return tokens
