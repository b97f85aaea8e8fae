"""AdamW against torch's, the schedules at their corners, and moments in half precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_model import needs_torch

from configs import base
from emma_jax import optimizer

STEPS = 20


@pytest.fixture
def config():
    config = base.get_config().optimizer
    config.update(learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=5, clip_norm=0.5)
    return config


def parameters():
    rng = np.random.default_rng(0)
    return {"gate": rng.normal(size=(5, 7)).astype(np.float32), "mlp_norm": np.ones(7, np.float32)}


def gradients(step):
    """The first of them are clipped, the last are not."""
    rng = np.random.default_rng(step)
    return {name: rng.normal(size=x.shape).astype(np.float32) / (1 + step) for name, x in parameters().items()}


def run(config, steps=STEPS):
    transform = optimizer.make(config, STEPS)
    params = jax.tree.map(jnp.asarray, parameters())
    state = transform.init(params)
    for step in range(steps):
        updates, state = transform.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@needs_torch
@pytest.mark.parametrize("schedule", optimizer.SCHEDULES)
def test_twenty_steps_equal_those_of_torch(config, schedule):
    import torch

    config.schedule = schedule
    rate = optimizer.learning_rate(config, STEPS)
    params = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in parameters().items()}
    groups = [
        {"params": [params["gate"]], "weight_decay": config.weight_decay},
        {"params": [params["mlp_norm"]], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=1.0, betas=(config.b1, config.b2), eps=config.epsilon)
    for step in range(STEPS):
        for name, gradient in gradients(step).items():
            params[name].grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(params.values(), config.clip_norm)
        for group in theirs.param_groups:
            group["lr"] = float(rate(step))
        theirs.step()
    found, _ = run(config)
    for name, parameter in params.items():
        np.testing.assert_allclose(found[name], parameter.detach().numpy(), rtol=2e-6, atol=2e-6, err_msg=name)


def test_cosine(config):
    rate = optimizer.learning_rate(config, 105)
    found = [float(rate(step)) for step in (0, 4, 5, 55, 105)]
    np.testing.assert_allclose(found, [0, 8e-3, 1e-2, 5.5e-3, 1e-3], rtol=1e-6)


def test_warmup_stable_decay(config):
    config.update(schedule="wsd", decay_share=0.5)
    rate = optimizer.learning_rate(config, 40)
    found = [float(rate(step)) for step in (0, 4, 5, 20, 30, 40)]
    np.testing.assert_allclose(found, [0, 8e-3, 1e-2, 1e-2, 5.5e-3, 1e-3], rtol=1e-6)


def test_schedules_that_leave_nothing(config):
    with pytest.raises(ValueError, match="warmup_steps of 5 leave nothing of 5 train.steps"):
        optimizer.learning_rate(config, 5)
    config.update(schedule="wsd", decay_share=0.9)
    with pytest.raises(ValueError, match="warmup_steps of 5 and 36 of decay leave nothing of 40 train.steps"):
        optimizer.learning_rate(config, 40)
    config.schedule = "linear"
    with pytest.raises(ValueError, match="optimizer.schedule is 'linear'; known are cosine, wsd"):
        optimizer.learning_rate(config, 40)


def test_moments_may_be_kept_in_half_precision(config):
    expected, _ = run(config)
    config.moments_dtype = "bfloat16"
    found, state = run(config)
    assert {x.dtype for x in jax.tree.leaves((state[1][0].mu, state[1][0].nu))} == {jnp.dtype("bfloat16")}
    for name, start in parameters().items():
        moved, exactly = found[name] - start, expected[name] - start
        assert np.linalg.norm(moved - exactly) < 0.01 * np.linalg.norm(exactly), name
