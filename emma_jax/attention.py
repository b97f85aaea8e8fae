"""Grouped-query attention, its masks and rotary positions. Arrays follow the legend in `model.py`; no parameters live
here."""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

from emma_jax import attention_kernel, sharding

IMPLEMENTATIONS = ("auto", "document", "splash", "xla")
QUERY_AXES = ("batch", "length", "heads", "head_dim")
KEY_AXES = ("batch", "length", "kv_heads", "head_dim")
TURN_AXES = ("batch", "length", None, None)


def document_starts(segments_BL: jax.Array) -> jax.Array:
    """Where in its row the document of each token begins; padding counts as a document.

    >>> document_starts(jnp.array([[1, 1, 2, 2, 0]])).tolist()
    [[0, 0, 2, 2, 4]]
    """
    begins_BL = jnp.pad(segments_BL[:, 1:] != segments_BL[:, :-1], ((0, 0), (1, 0)))
    return jax.lax.cummax(jnp.where(begins_BL, jnp.arange(segments_BL.shape[1]), 0), axis=1)


def document_mask(starts_BL: jax.Array) -> jax.Array:
    """mask_BLS, true where position l may see position s: not later, and of the same document.

    >>> document_mask(jnp.array([[0, 0, 2]]))[0].astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    at = jnp.arange(starts_BL.shape[1])
    return (at[None, None, :] <= at[None, :, None]) & (at[None, None, :] >= starts_BL[:, :, None])


def cache_mask(positions_BL: jax.Array, cache_length: int) -> jax.Array:
    """mask_BLS for queries at `positions_BL` over a cache whose slot s holds position s: all slots up to their own.

    >>> cache_mask(jnp.array([[0], [2]]), 4).astype(int).tolist()
    [[[1, 0, 0, 0]], [[1, 1, 1, 0]]]
    """
    return jnp.arange(cache_length)[None, None, :] <= positions_BL[:, :, None]


def rope_turns(positions_BL: jax.Array, frequencies) -> tuple[jax.Array, jax.Array]:
    """(cos_BL1C, sin_BL1C) of the angles at these positions, as `rotate` takes them; the first half of sin is -sin."""
    angles_BLc = positions_BL[:, :, None].astype(jnp.float32) * jnp.asarray(frequencies)
    cos_BLc, sin_BLc = jnp.cos(angles_BLc), jnp.sin(angles_BLc)
    cos_BLC = jnp.concatenate([cos_BLc, cos_BLc], axis=-1)
    return cos_BLC[:, :, None], jnp.concatenate([-sin_BLc, sin_BLc], axis=-1)[:, :, None]


def rotate(x_BLHC: jax.Array, turns: tuple[jax.Array, jax.Array]) -> jax.Array:
    """`x` with channel pairs (c, c + C / 2) rotated by `turns`: the half-split form of Hugging Face's weights."""
    cos_BL1C, sin_BL1C = turns
    return (x_BLHC * cos_BL1C + jnp.roll(x_BLHC, x_BLHC.shape[-1] // 2, axis=-1) * sin_BL1C).astype(x_BLHC.dtype)


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
    q_BLHC: jax.Array,
    k_BLKC: jax.Array,
    v_BLKC: jax.Array,
    turns: tuple[jax.Array, jax.Array],
    starts_BL: jax.Array,
    implementation: str = "auto",
) -> jax.Array:
    """Rotary attention of packed rows to themselves under `document_mask`, as out_BLHC.

    `implementation` is `document`, the kernels of `attention_kernel`, which hold no scores and skip what is of other
    documents; `splash`, the kernels that come with JAX; `xla`, for any platform; or `auto`, the first of them that can
    run on the mesh in use with these shapes. Away from TPUs a kernel that is asked for by name is interpreted, for
    tests. Raises ValueError for an unknown name, and for a kernel that cannot run.
    """
    device = sharding.device()
    on_tpu = device.platform == "tpu"
    length, head_dim = q_BLHC.shape[1], q_BLHC.shape[3]
    can_run = {
        "document": attention_kernel.fits(length, head_dim, device.device_kind),
        "splash": attention_kernel.block_length(length) > 0 and head_dim % attention_kernel.LANES == 0,
        "xla": True,
    }
    if implementation == "auto":
        implementation = next(name for name, can in can_run.items() if can and (on_tpu or name == "xla"))
    if implementation not in can_run:
        raise ValueError(f"model.attention is {implementation!r}; known are {', '.join(IMPLEMENTATIONS)}")
    if not can_run[implementation]:
        raise ValueError(
            f"model.attention={implementation} cannot run on rows of {length} with heads of {head_dim}; use auto"
        )
    k_BLKC = rotate(k_BLKC, turns)
    if implementation == "xla":
        out_BLHC = attention(rotate(q_BLHC, turns), k_BLKC, v_BLKC, document_mask(starts_BL))
        return checkpoint_name(out_BLHC, "attention")
    kernel = functools.partial(_document if implementation == "document" else _splash, interpret=not on_tpu)
    axes = (QUERY_AXES, KEY_AXES, KEY_AXES, (TURN_AXES, TURN_AXES), ("batch", "length"))
    return sharding.per_shard(kernel, axes, QUERY_AXES)(q_BLHC, k_BLKC, v_BLKC, turns, starts_BL)


def _document(q_BLHC, k_BLKC, v_BLKC, turns, starts_BL, interpret: bool):
    heads_first = [jnp.swapaxes(x, 1, 2) for x in (q_BLHC, k_BLKC, v_BLKC)]
    cos_BLC, sin_BLC = (x[:, :, 0] for x in turns)
    out_BHLC = attention_kernel.document_attention(*heads_first, cos_BLC, sin_BLC, starts_BL, interpret)
    return jnp.swapaxes(out_BHLC, 1, 2)


def _splash(q_BLHC, k_BLKC, v_BLKC, turns, starts_BL, interpret: bool):
    _, L, H, C = q_BLHC.shape
    K = k_BLKC.shape[2]
    block = attention_kernel.block_length(L)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, block_q_dq=block, block_kv_dq=block
    )
    # Mapped over key heads, which two cores of a chip can share, not over the sums of their query heads.
    kernel = splash_attention_kernel.make_splash_mqa(
        splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((L, L))] * (H // K)),
        block_sizes=sizes, head_shards=1, q_seq_shards=1, residual_checkpoint_name="attention", interpret=interpret,
    )  # fmt: skip
    kernel = jax.vmap(jax.vmap(kernel, in_axes=(0, 0, 0, None)))
    q_BLKGC = (rotate(q_BLHC, turns) * C**-0.5).reshape(-1, L, K, H // K, C)
    documents = splash_attention_kernel.SegmentIds(starts_BL, starts_BL)
    out_BKGLC = kernel(jnp.moveaxis(q_BLKGC, 1, 3), jnp.swapaxes(k_BLKC, 1, 2), jnp.swapaxes(v_BLKC, 1, 2), documents)
    return jnp.moveaxis(out_BKGLC, 3, 1).reshape(q_BLHC.shape)
