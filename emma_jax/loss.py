"""Next-token cross-entropy over a large vocabulary, in chunks of positions, with its own backward pass.

No array of [B, L, V] ever exists: a chunk's logits give its loss and, at once, its gradients, so that the backward
pass recomputes nothing.
"""

import functools

import jax
import jax.numpy as jnp


def log_probabilities(hidden_BLD: jax.Array, head_DV: jax.Array, targets_BL: jax.Array, chunk_length: int) -> jax.Array:
    """log p(target), float32 [B, L]. Raises ValueError if `chunk_length` does not divide L."""

    def chunk(_, inputs):
        hidden_BcD, targets_Bc = inputs
        return None, _log_and_all_probabilities(hidden_BcD, head_DV, targets_Bc)[0]

    _, logs_nBc = jax.lax.scan(chunk, None, _chunks(chunk_length, hidden_BLD, targets_BL))
    return jnp.moveaxis(logs_nBc, 0, 1).reshape(targets_BL.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def cross_entropy(hidden_BLD, head_DV, targets_BL, weights_BL, chunk_length: int) -> jax.Array:
    """sum(weights * -log p(target)), float32 scalar. Raises ValueError if `chunk_length` does not divide L."""
    return -jnp.sum(weights_BL * log_probabilities(hidden_BLD, head_DV, targets_BL, chunk_length))


def _forward(hidden_BLD, head_DV, targets_BL, weights_BL, chunk_length):
    def chunk(carry, inputs):
        total, head_gradient_DV = carry
        hidden_BcD, targets_Bc, weights_Bc = inputs
        log_p_Bc, probabilities_BcV = _log_and_all_probabilities(hidden_BcD, head_DV, targets_Bc)
        is_target_BcV = jax.lax.broadcasted_iota(jnp.int32, probabilities_BcV.shape, 2) == targets_Bc[..., None]
        gradient_BcV = ((probabilities_BcV - is_target_BcV) * weights_Bc[..., None]).astype(hidden_BcD.dtype)
        head_gradient_DV += jnp.einsum(
            "BcD,BcV->DV", hidden_BcD, gradient_BcV, preferred_element_type=head_gradient_DV.dtype
        )
        hidden_gradient_BcD = jnp.einsum("BcV,DV->BcD", gradient_BcV, head_DV)
        return (total - jnp.sum(weights_Bc * log_p_Bc), head_gradient_DV), hidden_gradient_BcD

    start = (jnp.zeros((), jnp.float32), jnp.zeros(head_DV.shape, jnp.float32))
    chunks = _chunks(chunk_length, hidden_BLD, targets_BL, weights_BL)
    (total, head_gradient_DV), gradients_nBcD = jax.lax.scan(chunk, start, chunks)
    hidden_gradient_BLD = jnp.moveaxis(gradients_nBcD, 0, 1).reshape(hidden_BLD.shape)
    # The head's gradient stays in float32 until it is scaled; an empty array carries the dtype it is wanted in.
    return total, (hidden_gradient_BLD, head_gradient_DV, jnp.zeros(0, head_DV.dtype))


def _backward(chunk_length, gradients, total_gradient):
    hidden_gradient_BLD, head_gradient_DV, like_head = gradients
    return (
        (hidden_gradient_BLD.astype(jnp.float32) * total_gradient).astype(hidden_gradient_BLD.dtype),
        (head_gradient_DV * total_gradient).astype(like_head.dtype),
        None,
        None,
    )


cross_entropy.defvjp(_forward, _backward)


def _chunks(chunk_length: int, *arrays):
    """Each [B, L, ...] as [L / chunk_length, B, chunk_length, ...]: chunks cut positions, never the sharded batch."""
    batch, length = arrays[0].shape[:2]
    if length % chunk_length:
        raise ValueError(f"loss.chunk_length of {chunk_length} does not divide a row of {length} positions")
    shape = (batch, length // chunk_length, chunk_length)
    return tuple(jnp.moveaxis(a.reshape(shape + a.shape[2:]), 1, 0) for a in arrays)


def _log_and_all_probabilities(hidden_BcD, head_DV, targets_Bc):
    """(log p(target)_Bc, p_BcV) in float32."""
    logits_BcV = jnp.einsum("BcD,DV->BcV", hidden_BcD, head_DV, preferred_element_type=jnp.float32)
    normalizer_Bc = jax.nn.logsumexp(logits_BcV, axis=-1)
    target_logits_Bc = jnp.take_along_axis(logits_BcV, targets_Bc[..., None], axis=-1)[..., 0]
    return target_logits_Bc - normalizer_Bc, jnp.exp(logits_BcV - normalizer_Bc[..., None])
