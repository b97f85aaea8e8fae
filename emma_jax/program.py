"""The one declaration of the training step. `build` serves training, restoring, conversion, scoring and compilation
ahead of time; it touches no device, file or data.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from emma_jax import loss, model, optimizer, sharding

Batch = dict[str, jax.Array]
BATCH_ARRAYS = ("tokens", "targets", "segments", "positions", "tasks")  # each int32 [B, L]


class TrainState(NamedTuple):
    """All that a step changes. `params` is the tree of `model.initialize`, `optimizer` optax's."""

    step: jax.Array
    params: model.Params
    optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class Program:
    """A run's computation on a mesh.

    `state` and `batch` are trees of jax.ShapeDtypeStruct with shardings. `init(key)` makes the state;
    `step(state, batch)` returns (state, metrics) and consumes the state it was given; `score(params, batch)` returns
    float32 [B, L]: log p of each target, 0 on padding.
    """

    state: TrainState
    batch: Batch
    init: Callable[[jax.Array], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
    score: Callable[[model.Params, Batch], jax.Array]


def build(config, mesh: Mesh) -> Program:
    """The program of `config` (the whole of it) on `mesh`. Raises ValueError for sizes that do not divide."""
    rows, length, microbatches = config.input_pipeline.batch_rows, config.pack.row_length, config.train.microbatches
    _check_divides(rows, mesh.shape["data"] * mesh.shape["fsdp"] * microbatches, microbatches)
    chunk_length = min(config.loss.chunk_length, length)
    if length % chunk_length:
        raise ValueError(f"loss.chunk_length of {chunk_length} does not divide pack.row_length of {length}")
    graph, _, _ = model.abstract(config.model)
    transform = optimizer.make(config.optimizer, config.train.steps)
    schedule = optimizer.learning_rate(config.optimizer, config.train.steps)

    def apply(params, batch):
        llama = nnx.merge(graph, params)
        hidden_BLD, _ = llama(batch["tokens"], batch["positions"], batch["segments"])
        return hidden_BLD, llama.head_matrix(), batch["targets"], (batch["segments"] > 0).astype(jnp.float32)

    def mean_loss(params, batch, num_tokens):
        sums = loss.cross_entropy(*apply(params, batch), config.loss.vocab_chunks, config.loss.z_loss)
        return tuple(total / num_tokens for total in sums)

    def init(key):
        params = model.initialize(config.model, key)
        return TrainState(jnp.zeros((), jnp.int32), params, transform.init(params))

    def step(state, batch):
        is_token_BL = batch["segments"] > 0
        num_tokens = jnp.sum(is_token_BL).astype(jnp.float32)
        num_pairs = jnp.sum(jnp.where(is_token_BL, batch["positions"] + 1, 0), dtype=jnp.float32)
        params = model.for_compute(config.model, state.params)
        (_, total), gradients = _accumulate(
            lambda part: jax.value_and_grad(mean_loss, has_aux=True)(params, part, num_tokens), batch, microbatches
        )
        gradients = jax.tree.map(lambda x: x.astype(jnp.float32), gradients)
        updates, optimizer_state = transform.update(gradients, state.optimizer, state.params)
        metrics = {
            "loss": total,
            "tokens": num_tokens,
            "model_flops": model.training_flops(config.model, num_tokens, num_pairs),
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), optimizer_state), metrics

    def score(params, batch):
        hidden_BLD, head_DV, targets_BL, weights_BL = apply(model.for_compute(config.model, params), batch)
        return loss.log_probabilities(hidden_BLD, head_DV, targets_BL, chunk_length) * weights_BL

    state = abstract_state(config, mesh)
    rows_sharding = sharding.named(mesh, ("batch", "length"), (rows, length))
    batch = {name: jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=rows_sharding) for name in BATCH_ARRAYS}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    within = functools.partial(_within, mesh)
    return Program(
        state=state,
        batch=batch,
        init=jax.jit(within(init), out_shardings=shardings),
        step=jax.jit(within(step), donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh))),
        score=jax.jit(within(score), out_shardings=rows_sharding),
    )


def abstract_params(config, mesh: Mesh) -> model.Params:
    """The parameters of `config` (config.model) on `mesh`, as jax.ShapeDtypeStruct with shardings."""
    _, shapes, axes = model.abstract(config)
    return jax.tree.map(
        lambda leaf, names: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding.named(mesh, names, leaf.shape)
        ),
        shapes,
        axes,
    )


def abstract_state(config, mesh: Mesh) -> TrainState:
    """The train state of `config` (the whole of it) on `mesh`; moments are laid out like their parameters."""
    params = abstract_params(config.model, mesh)
    transform = optimizer.make(config.optimizer, config.train.steps)
    replicated = sharding.replicated(mesh)

    def place(leaf, where=replicated):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    optimizer_state = optax.tree_utils.tree_map_params(
        transform,
        lambda leaf, param: place(leaf, param.sharding),
        jax.eval_shape(transform.init, params),
        params,
        transform_non_params=place,
    )
    return TrainState(place(jax.ShapeDtypeStruct((), jnp.int32)), params, optimizer_state)


def bytes_per_device(state: TrainState) -> int:
    """Bytes of one device that the state and one set of gradients occupy: a floor of what training needs."""
    return sum(map(_leaf_bytes, jax.tree.leaves(state))) + sum(map(_leaf_bytes, jax.tree.leaves(state.params)))


def _leaf_bytes(leaf) -> int:
    size = jnp.dtype(leaf.dtype).itemsize
    for dim in leaf.sharding.shard_shape(leaf.shape):
        size *= dim
    return size


def _accumulate(value_and_gradients, batch: Batch, microbatches: int):
    """The sums of loss and gradients over equal parts of `batch`, one part at a time."""
    if microbatches == 1:
        return value_and_gradients(batch)
    # Strided, so that a part takes the same number of rows from every device.
    parts = {name: jnp.moveaxis(x.reshape(-1, microbatches, x.shape[1]), 1, 0) for name, x in batch.items()}
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), jax.eval_shape(value_and_gradients, first))

    def add(total, part):
        return jax.tree.map(jnp.add, total, value_and_gradients(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def _within(mesh: Mesh, function: Callable) -> Callable:
    def wrapped(*args):
        with sharding.use(mesh):
            return function(*args)

    return wrapped


def _check_divides(rows: int, parts: int, microbatches: int) -> None:
    devices = parts // microbatches
    if rows % parts and rows % devices == 0:
        possible = [number for number in range(1, rows // devices + 1) if rows // devices % number == 0]
        near = sorted(possible, key=lambda number: abs(number - microbatches))[:2]
        raise ValueError(
            f"the {rows // devices} rows of a device do not divide over {microbatches} train.microbatches; "
            f"nearest are {' and '.join(map(str, sorted(near)))}"
        )
    if rows % parts:
        where = f"{devices} devices" + (f" x {microbatches} microbatches" if microbatches > 1 else "")
        low = rows // parts * parts or parts
        raise ValueError(f"batch of {rows} rows does not divide over {where}; nearest are {low} and {low + parts}")
