"""Which id comes next: the likeliest, or one drawn from the likeliest that make up `top_p` of the probability."""

import jax
import jax.numpy as jnp


def greedy(logits_BV: jax.Array) -> jax.Array:
    """The likeliest id of each row, int32 [B]; the smallest of equals."""
    return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)


def draw(logits_BV, temperature_B, top_p_B, seed_B, number_B) -> jax.Array:
    """An id of each row, int32 [B], drawn from softmax(logits / temperature) cut at `top_p`.

    The draw of a row depends on its seed and on `number_B`, the how manyth draw it is, and on no other row.
    """
    logits_BV = logits_BV / temperature_B[:, None]
    is_kept_BV = logits_BV >= nucleus_threshold(logits_BV, top_p_B)[:, None]
    logits_BV = jnp.where(is_kept_BV, logits_BV, -jnp.inf)

    def gumbel(seed, number):
        return jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), number), logits_BV.shape[1:])

    return greedy(logits_BV + jax.vmap(gumbel)(seed_B, number_B))


def nucleus_threshold(logits_BV: jax.Array, top_p_B: jax.Array) -> jax.Array:
    """The logit_B of the last id that is kept: those above it have a probability below `top_p`, with it they reach it
    (Holtzman et al. 2020). Found by halving the float32 numbers 32 times: sorting a vocabulary takes longer.

    >>> logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]] * 3))
    >>> thresholds = nucleus_threshold(logits, jnp.array([0.4, 0.6, 1.0]))
    >>> (logits >= thresholds[:, None]).sum(axis=1).tolist()
    [1, 2, 4]
    """
    weights_BV = jnp.exp(logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True))
    wanted_B = top_p_B * jnp.sum(weights_BV, axis=-1)
    order_BV = _ordered(logits_BV)

    def halve(_, bounds):
        low_B, high_B = bounds  # ids above `low` reach what is wanted, those above `high` do not
        middle_B = (low_B & high_B) + ((low_B ^ high_B) >> 1)  # the mean, without overflow
        mass_B = jnp.sum(jnp.where(order_BV > middle_B[:, None], weights_BV, 0), axis=-1)
        reaches_B = mass_B >= wanted_B
        return jnp.where(reaches_B, middle_B, low_B), jnp.where(reaches_B, high_B, middle_B)

    bounds = jnp.min(order_BV, axis=-1) - 1, jnp.max(order_BV, axis=-1)
    _, last_B = jax.lax.fori_loop(0, 32, halve, bounds)
    thresholds_B = jnp.min(jnp.where(order_BV >= last_B[:, None], logits_BV, jnp.inf), axis=-1)
    return jnp.where(top_p_B < 1, thresholds_B, -jnp.inf)  # sums of float32 lose the least likely ids


def _ordered(x: jax.Array) -> jax.Array:
    """int32 numbers in the order of the float32 numbers `x`."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
