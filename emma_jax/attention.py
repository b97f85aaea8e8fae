"""Grouped-query attention and its masks. Arrays follow the legend in `model.py`; no parameters live here."""

import jax
import jax.numpy as jnp


def document_mask(segments_BL: jax.Array) -> jax.Array:
    """mask_BLS, true where position l may see position s: not later, and of the same document.

    >>> document_mask(jnp.array([[1, 1, 2]]))[0].astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    length = segments_BL.shape[1]
    causal_LS = jnp.arange(length)[:, None] >= jnp.arange(length)[None, :]
    return causal_LS & (segments_BL[:, :, None] == segments_BL[:, None, :])


def cache_mask(positions_BL: jax.Array, cache_length: int) -> jax.Array:
    """mask_BLS for queries at `positions_BL` over a cache whose slot s holds position s: all slots up to their own.

    >>> cache_mask(jnp.array([[0], [2]]), 4).astype(int).tolist()
    [[[1, 0, 0, 0]], [[1, 1, 1, 0]]]
    """
    return jnp.arange(cache_length)[None, None, :] <= positions_BL[:, :, None]


def attention(q_BLHC: jax.Array, k_BSKC: jax.Array, v_BSKC: jax.Array, mask_BLS: jax.Array) -> jax.Array:
    """softmax(q k / sqrt(C)) v, as out_BLHC, where each of the K key heads serves H / K query heads.

    Scores and softmax are in float32. Where the mask is false the weight is exactly 0, so what is masked cannot
    change a bit of the result.
    """
    B, L, H, C = q_BLHC.shape
    K = k_BSKC.shape[2]
    q_BLKGC = q_BLHC.reshape(B, L, K, H // K, C)
    scores_BKGLS = jnp.einsum("BLKGC,BSKC->BKGLS", q_BLKGC, k_BSKC, preferred_element_type=jnp.float32) * C**-0.5
    scores_BKGLS = jnp.where(mask_BLS[:, None, None], scores_BKGLS, jnp.finfo(jnp.float32).min)
    weights_BKGLS = jax.nn.softmax(scores_BKGLS, axis=-1).astype(v_BSKC.dtype)
    return jnp.einsum("BKGLS,BSKC->BLKGC", weights_BKGLS, v_BSKC).reshape(B, L, H, C)
