"""Grouped-query attention and its masks. Arrays follow the legend in `model.py`; no parameters live here."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

from emma_jax import sharding

IMPLEMENTATIONS = ("auto", "splash", "xla")
LANES = 128  # of a TPU's vector registers: the kernel's blocks are multiples of them
BLOCK = 512  # positions of queries and of keys that the kernel holds at a time
QUERY_AXES = ("batch", "length", "heads", "head_dim")
KEY_AXES = ("batch", "length", "kv_heads", "head_dim")


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


def self_attention(
    q_BLHC: jax.Array, k_BLKC: jax.Array, v_BLKC: jax.Array, segments_BL: jax.Array, implementation: str = "auto"
) -> jax.Array:
    """`attention` of packed rows to themselves under `document_mask`, as out_BLHC.

    `implementation` is `splash`, the Pallas kernel for TPUs, which holds no scores; `xla`, for any platform; or
    `auto`: splash where the mesh in use is of TPUs and the shapes are such that it can run. Elsewhere a forced splash
    is interpreted, for tests.
    """
    on_tpu = sharding.platform() == "tpu"
    if implementation == "auto":
        implementation = "splash" if on_tpu and _fits_kernel(q_BLHC) else "xla"
    if implementation == "xla":
        return attention(q_BLHC, k_BLKC, v_BLKC, document_mask(segments_BL))
    if not _fits_kernel(q_BLHC):
        raise ValueError(
            f"model.attention=splash needs rows and heads of a multiple of {LANES}, not of {q_BLHC.shape[1]} and "
            f"{q_BLHC.shape[3]}; use model.attention=auto"
        )
    kernel = functools.partial(_splash, interpret=not on_tpu)
    axes = (QUERY_AXES, KEY_AXES, KEY_AXES, ("batch", "length"))
    return sharding.per_shard(kernel, axes, QUERY_AXES)(q_BLHC, k_BLKC, v_BLKC, segments_BL)


def _fits_kernel(q_BLHC) -> bool:
    return q_BLHC.shape[1] % LANES == 0 and q_BLHC.shape[3] % LANES == 0


def _splash(q_BLHC, k_BLKC, v_BLKC, segments_BL, interpret: bool):
    B, L, H, C = q_BLHC.shape
    block = next(size for size in range(min(BLOCK, L), 0, -LANES) if L % size == 0)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, block_q_dq=block, block_kv_dq=block
    )
    kernel = splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((L, L))] * H),
        block_sizes=sizes, head_shards=1, q_seq_shards=1, residual_checkpoint_name="attention", interpret=interpret,
    )  # fmt: skip
    heads_first = [jnp.swapaxes(x, 1, 2) for x in (q_BLHC * C**-0.5, k_BLKC, v_BLKC)]
    segments = splash_attention_kernel.SegmentIds(segments_BL, segments_BL)
    return jnp.swapaxes(jax.vmap(kernel)(*heads_first, segments), 1, 2)
