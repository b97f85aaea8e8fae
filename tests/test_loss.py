"""The chunked loss against the plain one: value and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import loss


def plain(hidden_BLD, head_DV, targets_BL, weights_BL):
    logs_BLV = jax.nn.log_softmax(hidden_BLD @ head_DV)
    return -jnp.sum(weights_BL * jnp.take_along_axis(logs_BLV, targets_BL[..., None], -1)[..., 0])


@pytest.fixture
def arguments():
    rng = np.random.default_rng(0)
    B, L, D, V = 3, 12, 8, 1000
    return (
        jnp.asarray(rng.normal(size=(B, L, D)), jnp.float32),
        jnp.asarray(rng.normal(size=(D, V)), jnp.float32),
        jnp.asarray(rng.integers(0, V, (B, L)), jnp.int32),
        jnp.asarray(rng.integers(0, 2, (B, L)), jnp.float32),
    )


@pytest.mark.parametrize("chunk_length", [1, 4, 12])
def test_value_and_gradients_equal_the_plain_loss(arguments, chunk_length):
    def chunked(hidden, head, targets, weights):
        return 0.5 * loss.cross_entropy(hidden, head, targets, weights, chunk_length)[0]

    expected, expected_gradients = jax.value_and_grad(plain, argnums=(0, 1))(*arguments)
    value, gradients = jax.value_and_grad(chunked, argnums=(0, 1))(*arguments)
    np.testing.assert_allclose(value, 0.5 * expected, rtol=1e-6)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, 0.5 * reference, atol=2e-6)


def test_log_probabilities_of_all_targets_sum_to_one(arguments):
    hidden, head, targets, _ = arguments

    @jax.jit
    def probability(target):
        return jnp.exp(loss.log_probabilities(hidden, head, jnp.full_like(targets, target), 4))

    total = sum(probability(target) for target in range(head.shape[1]))
    np.testing.assert_allclose(total, 1.0, rtol=1e-4)


def test_a_chunk_that_does_not_divide_the_row_is_an_error(arguments):
    with pytest.raises(ValueError, match="chunk_length of 5 does not divide a row of 12"):
        loss.cross_entropy(*arguments, 5)


def test_no_array_of_all_logits_exists(arguments):
    """The largest array of the gradient's program is a chunk of logits, not all of them."""
    program = jax.jit(jax.grad(lambda *a: loss.cross_entropy(*a, 2)[0], argnums=(0, 1))).lower(*arguments).as_text()
    assert "3x2x1000x" in program
    assert "3x12x1000x" not in program
