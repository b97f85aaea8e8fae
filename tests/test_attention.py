"""Attention of packed rows: every implementation against the plain one in float32, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import attention

B, L, H, K, C = 2, 384, 4, 2, 128
FREQUENCIES = 1 / 100 ** (np.arange(0, C, 2, dtype=np.float32) / C)


@pytest.fixture(scope="module")
def arrays():
    """(q, k, v, segments): a row of three documents and padding, and a row of one document."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(B, L, heads, C)), jnp.float32) for heads in (H, K, K))
    segments = np.ones((B, L), np.int32)
    segments[0] = np.repeat([1, 2, 3, 0], [100, 1, 200, 83])
    return q, k, v, jnp.asarray(segments)


def turned(x):
    """Each pair of channels (c, c + C / 2) as a complex number, times exp(i angle)."""
    angles = positions()[:, :, None, None] * FREQUENCIES
    pairs = (x[..., : C // 2] + 1j * x[..., C // 2 :]) * jnp.exp(1j * angles)
    return jnp.concatenate([pairs.real, pairs.imag], axis=-1)


def positions():
    """Positions that differ from row to row, as those of documents do."""
    return jnp.stack([jnp.arange(L) % 77, jnp.arange(L)])


def plain(q, k, v, segments):
    """Scores of all pairs in float32, keys and values repeated over their query heads."""
    q, k = turned(q), turned(k)
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


@pytest.mark.parametrize("implementation", ["document", "splash", "xla"])
def test_values_and_gradients_equal_plain_attention(arrays, implementation):
    def ours(q, k, v, segments):
        return attention.self_attention(q, k, v, turns, attention.document_starts(segments), implementation)

    turns = attention.rope_turns(positions(), FREQUENCIES)
    found, expected = value_and_gradients(ours, *arrays), value_and_gradients(plain, *arrays)
    for array, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, reference, atol=2e-5 * float(jnp.abs(reference).max()))
