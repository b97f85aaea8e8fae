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


@pytest.mark.parametrize("num_chunks", [1, 4, 7])
def test_value_and_gradients_equal_the_plain_loss(arguments, num_chunks):
    def chunked(hidden, head, targets, weights):
        return 0.5 * loss.cross_entropy(hidden, head, targets, weights, num_chunks)[0]

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
        loss.log_probabilities(*arguments[:3], 5)


def test_no_array_of_all_logits_exists(arguments):
    """The largest array of the gradient's program is a chunk of logits, not all of them."""
    program = jax.jit(jax.grad(lambda *a: loss.cross_entropy(*a, 4)[0], argnums=(0, 1))).lower(*arguments).as_text()
    assert "3x12x1x250x" in program
    assert "3x12x1x1000x" not in program and "3x12x1000x" not in program


def test_chunks_change_nothing_at_the_vocabulary_of_llama_3():
    rng = np.random.default_rng(0)
    D, V = 16, 128_256
    hidden, head = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 8, D), (D, V)))
    targets, weights = jnp.asarray(rng.integers(0, V, (2, 8)), jnp.int32), jnp.ones((2, 8))

    def loss_of(hidden, head, num_chunks):
        return loss.cross_entropy(hidden, head, targets, weights, num_chunks)[0]

    expected, expected_gradients = jax.value_and_grad(plain, argnums=(0, 1))(hidden, head, targets, weights)
    value, gradients = jax.value_and_grad(loss_of, argnums=(0, 1))(hidden, head, 6)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=0, atol=1e-6 * float(jnp.abs(reference).max()))


def test_z_loss(arguments):
    hidden, head, _, weights = arguments

    def plain_z(hidden, head):
        return 0.3 * jnp.sum(weights * jax.nn.logsumexp(hidden @ head, axis=-1) ** 2)

    def difference(hidden, head):
        with_it, without = (loss.cross_entropy(hidden, head, *arguments[2:], 4, z)[0] for z in (0.3, 0.0))
        return with_it - without

    expected, expected_gradients = jax.value_and_grad(plain_z, argnums=(0, 1))(hidden, head)
    value, gradients = jax.value_and_grad(difference, argnums=(0, 1))(hidden, head)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=0, atol=1e-5 * float(jnp.abs(reference).max()))
    objective, cross_entropy = loss.cross_entropy(*arguments, 4, 0.3)
    np.testing.assert_allclose(cross_entropy, loss.cross_entropy(*arguments, 4)[0], rtol=1e-6)
    assert objective > cross_entropy
