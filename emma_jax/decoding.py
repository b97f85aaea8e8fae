"""Greedy decoding with a key-value cache, a batch at a time. It owns no model and no text: ids in, ids out."""

import functools
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import FrozenConfigDict

from emma_jax import model, sharding

MIN_LENGTH = 32  # of the smallest bucket of prompt lengths
CACHE_AXES = ("layers", "batch", "length", "kv_heads", "head_dim")


def generate(
    model_config,
    params: model.Params,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    eos_id: int,
    stop_ids: Collection[int] = (),
) -> list[list[int]]:
    """The most likely next ids after each prompt, taken one by one, without the id that ended them.

    A prompt ends at `eos_id`, at any of `stop_ids`, or after `max_new_tokens`. All prompts are one batch on the mesh
    of `params`; their number and length are rounded up so that few programs are compiled.

    Raises ValueError for an empty prompt, an id outside the vocabulary and a `max_new_tokens` below 1.
    """
    if not prompts:
        return []
    _check(prompts, max_new_tokens, model_config.vocab_size)
    mesh = params["embedding"].sharding.mesh
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    while rows < len(prompts):
        rows *= 2
    tokens_BL = np.zeros((rows, bucket(max(map(len, prompts)))), np.int32)
    lengths_B = np.zeros(rows, np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BL[row, : len(prompt)] = prompt
        lengths_B[row] = len(prompt)
    stops = sorted({eos_id, *stop_ids})
    placed = jax.device_put(tokens_BL, sharding.named(mesh, ("batch", "length"), tokens_BL.shape))
    out_BT = _decode(
        params, placed, lengths_B, np.array(stops, np.int32),
        config=FrozenConfigDict(model_config), mesh=mesh, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    return [cut(ids.tolist(), stops) for ids in np.asarray(out_BT)[: len(prompts)]]


def bucket(length: int) -> int:
    """The length that a batch of prompts of at most `length` ids is padded to.

    >>> bucket(3), bucket(32), bucket(33)
    (32, 32, 64)
    """
    return max(MIN_LENGTH, 1 << (length - 1).bit_length())


def cut(ids: list[int], stops: Collection[int]) -> list[int]:
    """`ids` up to the first of `stops`.

    >>> cut([5, 0, 7, 2, 9], stops=[2])
    [5, 0, 7]
    """
    return ids[: next((index for index, id_ in enumerate(ids) if id_ in stops), len(ids))]


@functools.partial(jax.jit, static_argnames=("config", "mesh", "max_new_tokens"))
def _decode(params, tokens_BL, lengths_B, stops, *, config, mesh, max_new_tokens):
    """ids_BT, T = max_new_tokens; after a stop, and in rows of length 0, they mean nothing."""
    llama = nnx.merge(model.abstract(config)[0], params)
    B, L = tokens_BL.shape

    def is_stop(token_B):
        return jnp.any(token_B[:, None] == stops, axis=1)

    def choose(hidden_BD):
        return jnp.argmax(llama.logits(hidden_BD[:, None])[:, 0], axis=-1).astype(jnp.int32)

    def advance(carry):
        new, token_B, done_B, cache, ids_BT = carry
        # The slot of a position holds padding until the position is reached; the mask shows no later slot.
        hidden_B1D, cache = llama(token_B[:, None], (lengths_B + new - 1)[:, None], cache=cache)
        token_B = choose(hidden_B1D[:, 0])
        return new + 1, token_B, done_B | is_stop(token_B), cache, ids_BT.at[:, new].set(token_B)

    def goes_on(carry):
        new, _, done_B, _, _ = carry
        return (new < max_new_tokens) & ~jnp.all(done_B)

    with sharding.use(mesh):
        cache = model.make_cache(config, B, L + max_new_tokens)
        cache = {name: sharding.constrain(array, CACHE_AXES) for name, array in cache.items()}
        hidden_BLD, cache = llama(tokens_BL, jnp.broadcast_to(jnp.arange(L), (B, L)), cache=cache)
        is_empty_B, lengths_B = lengths_B == 0, jnp.maximum(lengths_B, 1)
        token_B = choose(hidden_BLD[jnp.arange(B), lengths_B - 1])
        ids_BT = jnp.zeros((B, max_new_tokens), jnp.int32).at[:, 0].set(token_B)
        done_B = is_empty_B | is_stop(token_B)
        ids_BT = jax.lax.while_loop(goes_on, advance, (1, token_B, done_B, cache, ids_BT))[-1]
        return jax.lax.with_sharding_constraint(ids_BT, sharding.replicated(mesh))


def _check(prompts, max_new_tokens: int, vocab_size: int) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {number} is empty; begin it with BOS")
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise ValueError(f"prompt {number} has ids outside the vocabulary of {vocab_size}")
