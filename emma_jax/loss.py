"""Next-token cross-entropy over a large vocabulary, in chunks, with its own backward pass.

No array of [B, L, V] ever exists. Training goes through parts of the vocabulary, twice: first for the softmax's
denominators, then for the gradients. So it never holds the head, nor its gradient, whole: a part of the head is
gathered for its chunk, and a part of the gradient is complete, and is scattered, when its chunk ends. Scoring needs no
gradients and goes through positions once.
"""

import functools

import jax
import jax.numpy as jnp

from emma_jax import sharding

HEAD_AXES = ("activation", "vocab")  # of the gathered head


def log_probabilities(hidden_BLD: jax.Array, head_DV: jax.Array, targets_BL: jax.Array, chunk_length: int) -> jax.Array:
    """log p(target), float32 [B, L]. Raises ValueError if `chunk_length` does not divide L."""
    head_DV = sharding.constrain(head_DV, HEAD_AXES)

    def chunk(_, inputs):
        hidden_BcD, targets_Bc = inputs
        logits_BcV = jnp.einsum("BcD,DV->BcV", hidden_BcD, head_DV, preferred_element_type=jnp.float32)
        is_target_BcV = jax.lax.broadcasted_iota(jnp.int32, logits_BcV.shape, 2) == targets_Bc[..., None]
        # A masked sum, not a gather: it is of a kind with the softmax's sums, also where the vocabulary is split.
        target_logits_Bc = jnp.sum(jnp.where(is_target_BcV, logits_BcV, 0), axis=-1)
        return None, target_logits_Bc - jax.nn.logsumexp(logits_BcV, axis=-1)

    _, logs_nBc = jax.lax.scan(chunk, None, _chunks(chunk_length, hidden_BLD, targets_BL))
    return jnp.moveaxis(logs_nBc, 0, 1).reshape(targets_BL.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def cross_entropy(
    hidden_BLD, head_DV, targets_BL, weights_BL, num_chunks: int, z_loss: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """(objective, cross-entropy), float32 scalars: sum(weights * -log p(target)), to the first of which is added
    `z_loss` * sum(weights * log(Z)^2), Z the softmax's denominator (PaLM, section 5).

    The vocabulary is cut into `num_chunks`. Only the first has gradients; the second is for the log.
    """
    return _forward(hidden_BLD, head_DV, targets_BL, weights_BL, num_chunks, z_loss)[0]


def _forward(hidden_BLD, head_DV, targets_BL, weights_BL, num_chunks, z_loss):
    head = _Head(head_DV, num_chunks)
    log_sums_BL, target_logits_BL = _statistics(hidden_BLD, head, targets_BL)
    cross_entropy = jnp.sum(weights_BL * (log_sums_BL - target_logits_BL))
    objective = cross_entropy + z_loss * jnp.sum(weights_BL * log_sums_BL**2)
    scale_BL = weights_BL * (1 + 2 * z_loss * log_sums_BL)

    def chunk(hidden_gradient_BLD, number):
        head_Dsc = head.chunk(number)
        logits_BLsc = head.logits(hidden_BLD, head_Dsc, number)
        gradient_BLsc = jnp.exp(logits_BLsc - log_sums_BL[..., None, None]) * scale_BL[..., None, None]
        gradient_BLsc -= jnp.where(head.is_target(targets_BL, number), weights_BL[..., None, None], 0)
        gradient_BLsc = gradient_BLsc.astype(hidden_BLD.dtype)
        head_gradient_Dsc = jnp.einsum("BLD,BLsc->Dsc", hidden_BLD, gradient_BLsc)
        hidden_gradient_BLD += jnp.einsum("BLsc,Dsc->BLD", gradient_BLsc, head_Dsc, preferred_element_type=jnp.float32)
        return hidden_gradient_BLD, sharding.constrain(head_gradient_Dsc, ("embed", "vocab", None))

    start = jnp.zeros(hidden_BLD.shape, jnp.float32)
    hidden_gradient_BLD, head_gradients_nDsc = jax.lax.scan(chunk, start, jnp.arange(num_chunks))
    gradients = hidden_gradient_BLD.astype(hidden_BLD.dtype), head.joined(head_gradients_nDsc)
    return (objective, cross_entropy), gradients


def _backward(num_chunks, z_loss, gradients, cotangents):
    scale = cotangents[0]
    return *((x.astype(jnp.float32) * scale).astype(x.dtype) for x in gradients), None, None


cross_entropy.defvjp(_forward, _backward)


def _statistics(hidden_BLD, head: "_Head", targets_BL):
    """(log of the softmax's denominator, logit of the target), each float32 [B, L]."""

    def chunk(carry, number):
        maxima_BL, sums_BL, target_logits_BL = carry
        logits_BLsc = head.logits(hidden_BLD, head.chunk(number), number)
        new_maxima_BL = jnp.maximum(maxima_BL, jnp.max(logits_BLsc, axis=(2, 3)))
        sums_BL *= jnp.exp(maxima_BL - new_maxima_BL)
        sums_BL += jnp.sum(jnp.exp(logits_BLsc - new_maxima_BL[..., None, None]), axis=(2, 3))
        target_logits_BL += jnp.sum(jnp.where(head.is_target(targets_BL, number), logits_BLsc, 0), axis=(2, 3))
        return (new_maxima_BL, sums_BL, target_logits_BL), None

    zeros_BL = jnp.zeros(targets_BL.shape, jnp.float32)
    start = jnp.full_like(zeros_BL, -jnp.inf), zeros_BL, zeros_BL
    (maxima_BL, sums_BL, target_logits_BL), _ = jax.lax.scan(chunk, start, jnp.arange(head.num_chunks))
    return maxima_BL + jnp.log(sums_BL), target_logits_BL


class _Head:
    """The head as [D, s, c] for each of the chunks: c entries of each of the s shards of the vocabulary."""

    def __init__(self, head_DV, num_chunks: int):
        D, V = head_DV.shape
        self.num_chunks, self._shards = num_chunks, sharding.num_shards("vocab")
        self._entries = V // self._shards
        self._size = -(-self._entries // num_chunks)
        self._padding = self._size * num_chunks - self._entries
        head_DsV = head_DV.reshape(D, self._shards, self._entries)
        self._head_DsV = jnp.pad(head_DsV, ((0, 0), (0, 0), (0, self._padding))) if self._padding else head_DsV

    def chunk(self, number):
        """head_Dsc, gathered."""
        head_Dsc = jax.lax.dynamic_slice_in_dim(self._head_DsV, number * self._size, self._size, axis=2)
        # Said of the slice first, or the whole head would be gathered and then cut.
        head_Dsc = sharding.constrain(head_Dsc, ("embed", "vocab", None))
        return sharding.constrain(head_Dsc, (*HEAD_AXES, None))

    def logits(self, hidden_BLD, head_Dsc, number):
        """float32 logits_BLsc; those of padding are -inf."""
        logits_BLsc = jnp.einsum("BLD,Dsc->BLsc", hidden_BLD, head_Dsc, preferred_element_type=jnp.float32)
        if self._padding:
            logits_BLsc = jnp.where(self._entries_c(number) < self._entries, logits_BLsc, -jnp.inf)
        return logits_BLsc

    def is_target(self, targets_BL, number):
        """Where in the logits of a chunk the targets are; nowhere in padding."""
        entries_c = self._entries_c(number)
        targets_BLs1 = targets_BL[..., None, None] - self._entries * jnp.arange(self._shards)[:, None]
        return (targets_BLs1 == entries_c) & (entries_c < self._entries)

    def joined(self, chunks_nDsc):
        """The chunks of what is laid out like the head as [D, V]."""
        D = chunks_nDsc.shape[1]
        whole_DsV = jnp.moveaxis(chunks_nDsc, 0, 2).reshape(D, self._shards, -1)
        return whole_DsV[:, :, : self._entries].reshape(D, -1)

    def _entries_c(self, number):
        return number * self._size + jnp.arange(self._size)


def _chunks(chunk_length: int, *arrays):
    """Each [B, L, ...] as [L / chunk_length, B, chunk_length, ...]: chunks cut positions, never the sharded batch."""
    batch, length = arrays[0].shape[:2]
    if length % chunk_length:
        raise ValueError(f"loss.chunk_length of {chunk_length} does not divide a row of {length} positions")
    shape = (batch, length // chunk_length, chunk_length)
    return tuple(jnp.moveaxis(a.reshape(shape + a.shape[2:]), 1, 0) for a in arrays)
