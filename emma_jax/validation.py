"""Loss and bits per byte per language and per direction, from one pass over the validation rows."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Slice(NamedTuple):
    """One language or direction: mean loss in nats per token, bits per UTF-8 byte, and the tokens it is over."""

    loss: float
    bits_per_byte: float
    tokens: int


def make_slice_sums(score: Callable, num_slices: int, replicated: jax.sharding.Sharding) -> Callable:
    """A jitted function (params, batch) -> (nats, tokens), each float32 [num_slices], summed by the tasks' ids.

    Both are `replicated`, so that every host can read them.
    """

    def slice_sums(params, batch):
        ids = jnp.where(batch["segments"] > 0, batch["tasks"], num_slices).reshape(-1)
        nats = jax.ops.segment_sum(-score(params, batch).reshape(-1), ids, num_slices + 1)
        tokens = jax.ops.segment_sum(jnp.ones(ids.shape, jnp.float32), ids, num_slices + 1)
        return nats[:-1], tokens[:-1]

    return jax.jit(slice_sums, out_shardings=replicated)


def validate(slice_sums: Callable, params, batches: Iterable, slice_bytes: Mapping[str, int]) -> dict[str, Slice]:
    """The result of each slice, in the order of `slice_bytes`, which maps its name to the bytes of its text.

    `batches` are on the device, as the program's `score` takes them. Slices without a token are left out.
    """
    nats, tokens = np.zeros(len(slice_bytes)), np.zeros(len(slice_bytes))
    for batch in batches:
        batch_nats, batch_tokens = jax.device_get(slice_sums(params, batch))
        nats += batch_nats
        tokens += batch_tokens
    return {
        name: Slice(nats[i] / tokens[i], nats[i] / (math.log(2) * num_bytes), int(tokens[i]))
        for i, (name, num_bytes) in enumerate(slice_bytes.items())
        if tokens[i] and num_bytes
    }


def share_of_time(validation_rows: int, batch_rows: int, every_steps: int) -> float:
    """What validation takes of the time of training, about: of a step's time, a forward pass takes a third.

    Less where activations are computed again: the step takes longer then and the forward pass does not.

    >>> share_of_time(validation_rows=6000, batch_rows=100, every_steps=1000)
    0.02
    """
    return validation_rows / 3 / (batch_rows * every_steps)


def summary(slices: Mapping[str, Slice]) -> dict[str, float]:
    """The scalars to log: each slice's loss and bits per byte, and for languages and for directions the loss
    per token and the mean of the bits per byte."""
    scalars = {}
    for kind in ("mono", "pair"):
        chosen = [result for name, result in slices.items() if name.startswith(f"{kind}.")]
        if chosen:
            tokens = sum(result.tokens for result in chosen)
            scalars[f"validation_loss/{kind}"] = sum(r.loss * r.tokens for r in chosen) / tokens
            scalars[f"validation_bits_per_byte/{kind}"] = sum(r.bits_per_byte for r in chosen) / len(chosen)
    for name, result in slices.items():
        scalars[f"validation_loss/{name}"] = result.loss
        scalars[f"validation_bits_per_byte/{name}"] = result.bits_per_byte
    return scalars
