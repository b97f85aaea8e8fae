"""Attention of packed rows: every implementation against the plain one in float32, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import attention

B, L, H, K, C = 2, 384, 4, 2, 128


@pytest.fixture(scope="module")
def arrays():
    """(q, k, v, segments): a row of three documents and padding, and a row of one document."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(B, L, heads, C)), jnp.float32) for heads in (H, K, K))
    segments = np.ones((B, L), np.int32)
    segments[0] = np.repeat([1, 2, 3, 0], [100, 1, 200, 83])
    return q, k, v, jnp.asarray(segments)


def plain(q, k, v, segments):
    """Scores of all pairs in float32, keys and values repeated over their query heads."""
    k, v = (jnp.repeat(x, H // K, axis=2) for x in (k, v))
    scores = jnp.einsum("blhc,bshc->bhls", q, k) / np.sqrt(C)
    sees = jnp.tril(jnp.ones((L, L), bool)) & (segments[:, :, None] == segments[:, None])
    return jnp.einsum("bhls,bshc->blhc", jax.nn.softmax(jnp.where(sees[:, None], scores, -jnp.inf)), v)


def value_and_gradients(function, q, k, v, segments):
    weights = jnp.asarray(np.random.default_rng(1).normal(size=q.shape), q.dtype)

    def weighted(q, k, v):
        out = function(q, k, v, segments)
        return jnp.sum(out.astype(jnp.float32) * weights), out

    gradients, out = jax.jit(jax.grad(weighted, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return out, *gradients


@pytest.mark.parametrize("implementation", ["splash", "xla"])
def test_values_and_gradients_equal_plain_attention(arrays, implementation):
    def ours(q, k, v, segments):
        return attention.self_attention(q, k, v, segments, implementation)

    found, expected = value_and_gradients(ours, *arrays), value_and_gradients(plain, *arrays)
    for array, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, reference, atol=2e-5 * float(jnp.abs(reference).max()))
