"""Next-token cross-entropy over a large vocabulary, in chunks of positions, with its own backward pass.

No array of [B, L, V] ever exists: a chunk's logits give its loss and, at once, its gradients, so that the backward
pass recomputes nothing.
"""

import functools

import jax
import jax.numpy as jnp

from emma_jax import sharding

HEAD_AXES = ("activation", "vocab")  # of the gathered head, which every chunk needs whole


def log_probabilities(hidden_BLD: jax.Array, head_DV: jax.Array, targets_BL: jax.Array, chunk_length: int) -> jax.Array:
    """log p(target), float32 [B, L]. Raises ValueError if `chunk_length` does not divide L."""
    head_DV = sharding.constrain(head_DV, HEAD_AXES)

    def chunk(_, inputs):
        hidden_BcD, targets_Bc = inputs
        logits_BcV, normalizer_Bc = _logits(hidden_BcD, head_DV)
        return None, _target_logits(logits_BcV, targets_Bc) - normalizer_Bc

    _, logs_nBc = jax.lax.scan(chunk, None, _chunks(chunk_length, hidden_BLD, targets_BL))
    return jnp.moveaxis(logs_nBc, 0, 1).reshape(targets_BL.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def cross_entropy(
    hidden_BLD, head_DV, targets_BL, weights_BL, chunk_length: int, z_loss: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """(objective, cross-entropy), float32 scalars: sum(weights * -log p(target)), to the first of which is added
    `z_loss` * sum(weights * log(Z)^2), Z the softmax's denominator (PaLM, section 5).

    Only the first has gradients; the second is for the log. Raises ValueError if `chunk_length` does not divide L.
    """
    return _forward(hidden_BLD, head_DV, targets_BL, weights_BL, chunk_length, z_loss)[0]


def _forward(hidden_BLD, head_DV, targets_BL, weights_BL, chunk_length, z_loss):
    # Each shard of the batch has a head gradient of its own while it goes through its chunks; they are summed once.
    shards = sharding.num_shards("batch")
    head_DV = sharding.constrain(head_DV, HEAD_AXES)

    def chunk(carry, inputs):
        objective, total, head_gradient_sDV = carry
        hidden_BcD, targets_Bc, weights_Bc = inputs
        logits_BcV, normalizer_Bc = _logits(hidden_BcD, head_DV)
        losses_Bc = weights_Bc * (normalizer_Bc - _target_logits(logits_BcV, targets_Bc))
        objective += jnp.sum(losses_Bc + z_loss * weights_Bc * normalizer_Bc**2)
        scale_Bc = weights_Bc * (1 + 2 * z_loss * normalizer_Bc)
        probabilities_BcV = jnp.exp(logits_BcV - normalizer_Bc[..., None])
        gradient_BcV = (
            probabilities_BcV * scale_Bc[..., None] - _is_target(logits_BcV, targets_Bc) * weights_Bc[..., None]
        )
        gradient_BcV = gradient_BcV.astype(hidden_BcD.dtype)
        head_gradient_sDV += jnp.einsum(
            "sbcD,sbcV->sDV", *(x.reshape(shards, -1, *x.shape[1:]) for x in (hidden_BcD, gradient_BcV)),
            preferred_element_type=jnp.float32,
        )  # fmt: skip
        hidden_gradient_BcD = jnp.einsum("BcV,DV->BcD", gradient_BcV, head_DV)
        return (objective, total + jnp.sum(losses_Bc), _of_shards(head_gradient_sDV)), hidden_gradient_BcD

    zero = jnp.zeros((), jnp.float32)
    start = (zero, zero, _of_shards(jnp.zeros((shards, *head_DV.shape), jnp.float32)))
    chunks = _chunks(chunk_length, hidden_BLD, targets_BL, weights_BL)
    (objective, total, head_gradient_sDV), gradients_nBcD = jax.lax.scan(chunk, start, chunks)
    hidden_gradient_BLD = jnp.moveaxis(gradients_nBcD, 0, 1).reshape(hidden_BLD.shape)
    head_gradient_DV = jnp.sum(head_gradient_sDV.astype(head_DV.dtype), axis=0)
    return (objective, total), (hidden_gradient_BLD, sharding.constrain(head_gradient_DV, ("embed", "vocab")))


def _backward(chunk_length, z_loss, gradients, cotangents):
    scale = cotangents[0]
    return *((x.astype(jnp.float32) * scale).astype(x.dtype) for x in gradients), None, None


cross_entropy.defvjp(_forward, _backward)


def _of_shards(head_gradient_sDV):
    return sharding.constrain(head_gradient_sDV, ("batch", "activation", "vocab"))


def _chunks(chunk_length: int, *arrays):
    """Each [B, L, ...] as [L / chunk_length, B, chunk_length, ...]: chunks cut positions, never the sharded batch."""
    batch, length = arrays[0].shape[:2]
    if length % chunk_length:
        raise ValueError(f"loss.chunk_length of {chunk_length} does not divide a row of {length} positions")
    shape = (batch, length // chunk_length, chunk_length)
    return tuple(jnp.moveaxis(a.reshape(shape + a.shape[2:]), 1, 0) for a in arrays)


def _logits(hidden_BcD, head_DV):
    """(logits_BcV, log of the softmax's denominator_Bc), float32."""
    logits_BcV = jnp.einsum("BcD,DV->BcV", hidden_BcD, head_DV, preferred_element_type=jnp.float32)
    return logits_BcV, jax.nn.logsumexp(logits_BcV, axis=-1)


def _is_target(logits_BcV, targets_Bc):
    return jax.lax.broadcasted_iota(jnp.int32, logits_BcV.shape, 2) == targets_Bc[..., None]


def _target_logits(logits_BcV, targets_Bc):
    # A masked sum, not a gather: it is of a kind with the softmax's sums, also where the vocabulary is split.
    return jnp.sum(jnp.where(_is_target(logits_BcV, targets_Bc), logits_BcV, 0), axis=-1)
