"""How the tokens of a component are divided over its tasks."""

import numpy as np

POLICIES = ("proportional", "temperature")


def divide(sizes, budget: float, policy: str, temperature: float, max_epochs: float) -> np.ndarray:
    """Tokens to draw from each task, in all `budget`, where the tasks have `sizes` tokens.

    `proportional` draws every task equally often; `temperature` t gives a task the share size^(1/t). What a task would
    be given beyond `max_epochs` times its size goes to the others, again by their shares. If all tasks reach that
    limit, the sum stays below the budget.

    Raises ValueError for another policy, and for a temperature, budget or limit that is not positive.

    >>> divide([100, 900], budget=500, policy="proportional", temperature=1, max_epochs=4).tolist()
    [50.0, 450.0]
    >>> divide([100, 900], budget=400, policy="temperature", temperature=2, max_epochs=4).tolist()
    [100.0, 300.0]
    >>> divide([1, 100, 900], budget=1000, policy="temperature", temperature=2, max_epochs=2).tolist()
    [2.0, 200.0, 798.0]
    >>> divide([100, 900], budget=5000, policy="proportional", temperature=1, max_epochs=2).tolist()
    [200.0, 1800.0]
    """
    if policy not in POLICIES:
        raise ValueError(f"there is no policy {policy!r} to divide tokens over tasks; there are {', '.join(POLICIES)}")
    for name, value in dict(temperature=temperature, tokens=budget, max_epochs=max_epochs).items():
        if not value > 0:
            raise ValueError(f"{name} of a component must be positive, not {value}")
    sizes = np.asarray(sizes, np.float64)
    limits = sizes * max_epochs
    weights = sizes if policy == "proportional" else sizes ** (1 / temperature)
    limited = weights == 0
    tokens = np.zeros_like(sizes)
    while not limited.all():
        tokens[~limited] = (budget - limits[limited].sum()) * weights[~limited] / weights[~limited].sum()
        above = ~limited & (tokens > limits)
        if not above.any():
            break
        tokens[above] = limits[above]
        limited |= above
    return tokens
