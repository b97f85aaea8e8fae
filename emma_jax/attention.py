"""Grouped-query attention and its masks. Arrays follow the legend in `model.py`; no parameters live here."""

import functools

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


def branch_mask(branches_BL: jax.Array) -> jax.Array:
    """mask_BLM, true where the new token l may see the new token m: not later, and of branch 0 or of its own branch.

    Branch 0 is the trunk from which the other branches go on, each as if the others were not there.

    >>> branch_mask(jnp.array([[0, 1, 2]]))[0].astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    length = branches_BL.shape[1]
    causal_LM = jnp.arange(length)[:, None] >= jnp.arange(length)[None, :]
    m_B1M = branches_BL[:, None, :]
    return causal_LM & ((m_B1M == 0) | (m_B1M == branches_BL[:, :, None]))


def recent_mask(recent_length: int, num_recent: jax.Array) -> jax.Array:
    """mask_BLM of the one token that stands at `num_recent` among recent ones: it sees those before, and itself.

    >>> recent_mask(4, jnp.array(1)).astype(int).tolist()
    [[[1, 1, 0, 0]]]
    """
    return (jnp.arange(recent_length) <= num_recent)[None, None]


def cached_attention(q_BLHC, new, old, lengths_B, mask_BLM) -> jax.Array:
    """Attention of new tokens over what is cached and over each other, as out_BLHC.

    `new` holds their keys and values, each [B, K, M, C]; `old` those of the cache, each [B, K, S, C], of which a row
    sees the first `lengths_B`. What is masked cannot change a bit of the result.
    """
    B, L, H, C = q_BLHC.shape
    S, K = old["key"].shape[2], new["key"].shape[1]
    q_BLKGC = q_BLHC.reshape(B, L, K, H // K, C)
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

    def scores(keys_BKSC, mask):
        scores_BKGLS = product("BLKGC,BKSC->BKGLS", q_BLKGC, keys_BKSC) * C**-0.5
        return jnp.where(mask, scores_BKGLS, jnp.finfo(jnp.float32).min)

    is_cached_B111S = (jnp.arange(S) < lengths_B[:, None])[:, None, None, None]
    scores_BKGLS = [scores(old["key"], is_cached_B111S), scores(new["key"], mask_BLM[:, None, None])]
    weights_BKGLS = jax.nn.softmax(jnp.concatenate(scores_BKGLS, axis=-1), axis=-1).astype(q_BLHC.dtype)
    out_BLKGC = product("BKGLS,BKSC->BLKGC", weights_BKGLS[..., :S], old["value"])
    out_BLKGC += product("BKGLS,BKSC->BLKGC", weights_BKGLS[..., S:], new["value"])
    return out_BLKGC.astype(q_BLHC.dtype).reshape(B, L, H, C)


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
