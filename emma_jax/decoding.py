"""Decoding with a key-value cache: prompts of ids in, ids out, each as if it were the only one.

A batch has a fixed number of slots. A prompt is prefilled into a free slot, a compiled loop takes some steps with all
slots, and a slot whose request is finished goes to the next one. It owns no model, no text and no files.

The shapes that a request is computed in follow from that request alone: its cache is as long as it may need, and only
requests of one cache length share the slots. So its ids do not depend on the company it is in.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import FrozenConfigDict

from emma_jax import model, sampling, sharding

NUM_SLOTS = 16
NUM_STEPS = 8  # of the compiled loop at most, after which stops are looked for and free slots filled
PREFILL_TOKENS = 256  # of a device at least: as many as are computed while the weights are read
MIN_LENGTH = 64
CACHE_AXES = ("layers", "batch", "kv_heads", "length", "head_dim")


class Request(NamedTuple):
    """A prompt and how it goes on: with the likeliest ids at temperature 0, otherwise by chance (`sampling.draw`).

    What is drawn depends on `seed`, and on no other request.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def generate(
    config,
    params: model.Params,
    requests: Sequence[Request],
    stop_ids: Collection[int],
    is_finished: Callable[[int, list[int]], bool] = lambda number, ids: False,
    num_slots: int = NUM_SLOTS,
) -> Iterator[tuple[int, list[int]]]:
    """The number of each request and its new ids, in the order in which they are finished.

    A request ends before the first of `stop_ids`, after `max_new_tokens`, or when `is_finished(number, ids so far)`,
    which is asked every few steps. `num_slots` is rounded up to what divides over the mesh of `params`.

    Raises ValueError for an empty prompt, an id outside the vocabulary and a request that asks for nothing.
    """
    for number, request in enumerate(requests):
        _check(number, request, config.vocab_size)
    mesh = params["embedding"].sharding.mesh
    pools = collections.defaultdict(list)
    for number, request in enumerate(requests):
        pools[cache_length(request), request.temperature > 0].append(number)
    for (length, by_chance), numbers in sorted(pools.items(), reverse=True):
        # Prompts of like lengths are prefilled together.
        numbers.sort(key=lambda number: -len(requests[number].prompt))
        waiting = collections.deque(_Slot(number, requests[number]) for number in numbers)
        num_slots = -(-num_slots // num_shards(mesh)) * num_shards(mesh)
        statics = dict(config=FrozenConfigDict(config), mesh=mesh)
        yield from _Batch(params, num_slots, length, by_chance, statics).run(waiting, set(stop_ids), is_finished)


def bucket(length: int) -> int:
    """What `length` is rounded up to, so that few programs are compiled: a power of 2, or 3/4 of one.

    >>> bucket(3), bucket(64), bucket(65), bucket(97)
    (64, 64, 96, 128)
    """
    power = 1 << (max(length, MIN_LENGTH) - 1).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 and power > MIN_LENGTH else power


def cache_length(request: Request) -> int:
    """The length of a request's cache: room for all its ids, and for those that a loop adds after the last."""
    return bucket(len(request.prompt) + request.max_new_tokens + NUM_STEPS)


def num_shards(mesh) -> int:
    """Over how many devices the rows of a batch are divided."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def num_programs() -> int:
    """How many programs this module has compiled in this process."""
    return _prefill._cache_size() + _decode._cache_size()


@dataclasses.dataclass
class _Slot:
    """A request that is under way; the keys and values of all its ids but the last are cached."""

    number: int
    request: Request
    ids: list[int] = dataclasses.field(default_factory=list)

    @property
    def num_cached(self) -> int:
        return len(self.request.prompt) - 1 + len(self.ids)

    @property
    def last_id(self) -> int:
        return self.ids[-1] if self.ids else self.request.prompt[-1]

    @property
    def num_left(self) -> int:
        return self.request.max_new_tokens - len(self.ids)


class _Batch:
    """The slots over one cache. What is in them is known on the host; on the devices are keys and values only."""

    def __init__(self, params, num_slots: int, length: int, by_chance: bool, statics: dict):
        self._params, self._statics, self._by_chance = params, statics, by_chance
        self._slots: list[_Slot | None] = [None] * num_slots
        self._shards = num_shards(statics["mesh"])
        self._cache = _empty_cache(num_slots, length, **statics)

    def run(self, waiting: collections.deque, stop_ids: set[int], is_finished) -> Iterator[tuple[int, list[int]]]:
        """The number and ids of each request of `waiting` when it is finished."""
        while waiting or any(self._slots):
            self._fill(waiting)
            for row, new in enumerate(self._step().tolist()):
                if slot := self._slots[row]:
                    ends = next((at for at, id_ in enumerate(new) if id_ in stop_ids), len(new))
                    slot.ids += new[: min(ends, slot.num_left)]
                    if ends < len(new) or not slot.num_left or is_finished(slot.number, slot.ids):
                        self._slots[row] = None
                        yield slot.number, slot.ids

    def _fill(self, waiting: collections.deque) -> None:
        """Puts requests into free slots once there are as many of both as one prefill takes."""
        while waiting:
            length = bucket(waiting[0].num_cached)
            rows = min(max(1, PREFILL_TOKENS // length), len(self._slots) // self._shards)  # of a device
            if self._slots.count(None) < min(rows * self._shards, len(waiting)):
                return
            tokens_RL = np.zeros((rows * self._shards, length), np.int32)
            slots_R = np.full(rows * self._shards, -1, np.int32)  # counted within a device
            for row, slot in self._free_rows(rows):
                if waiting and bucket(waiting[0].num_cached) == length:
                    self._slots[slot] = begun = waiting.popleft()
                    tokens_RL[row, : begun.num_cached] = begun.request.prompt[:-1]
                    slots_R[row] = slot % (len(self._slots) // self._shards)
            placed = _place(self._statics["mesh"], tokens=tokens_RL, slots=slots_R)
            self._cache = _prefill(self._params, self._cache, placed, **self._statics)

    def _free_rows(self, rows: int) -> list[tuple[int, int]]:
        """(row of a prefill with `rows` for each device, free slot of the same device), as many as there are."""
        size = len(self._slots) // self._shards
        pairs = []
        for shard in range(self._shards):
            free = [slot for slot in range(shard * size, (shard + 1) * size) if self._slots[slot] is None]
            pairs += zip(range(shard * rows, (shard + 1) * rows), free, strict=False)
        return pairs

    def _step(self) -> np.ndarray:
        """The ids that the next steps bring, [B, NUM_STEPS]; fewer steps are taken if no request has as many left."""
        num_steps = min(NUM_STEPS, max(slot.num_left for slot in self._slots if slot))

        def of_each(value: Callable[[_Slot], float], dtype=np.int32) -> np.ndarray:
            return np.array([value(slot) if slot else 0 for slot in self._slots], dtype)

        state = dict(tokens=of_each(lambda slot: slot.last_id), lengths=of_each(lambda slot: slot.num_cached))
        if self._by_chance:
            state |= dict(
                drawn=of_each(lambda slot: len(slot.ids)),
                seeds=of_each(lambda slot: slot.request.seed, np.uint32),
                temperatures=of_each(lambda slot: slot.request.temperature, np.float32),
                top_ps=of_each(lambda slot: slot.request.top_p, np.float32),
            )
        placed = _place(self._statics["mesh"], **state)
        ids_BT, self._cache = _decode(self._params, self._cache, placed, num_steps, **self._statics)
        return np.asarray(ids_BT)[:, :num_steps]


def _place(mesh, **arrays: np.ndarray) -> dict[str, jax.Array]:
    """`arrays` on the devices, their rows divided."""
    names = ("batch", "length")
    return {k: jax.device_put(x, sharding.named(mesh, names[: x.ndim], x.shape)) for k, x in arrays.items()}


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("config", "mesh"))
def _empty_cache(num_slots, length, *, config, mesh):
    """Keys and values of a cache in which nothing is yet."""
    cache = model.make_cache(config, num_slots, length)
    with sharding.use(mesh):
        return {name: sharding.constrain(cache[name], CACHE_AXES) for name in ("key", "value")}


@functools.partial(jax.jit, static_argnames=("config", "mesh"), donate_argnames="cache")
def _prefill(params, cache, rows, *, config, mesh):
    """`cache` with keys and values of `tokens` [R, L] in their `slots` [R]; a row whose slot is -1 goes nowhere."""
    with sharding.use(mesh):
        R, L = rows["tokens"].shape
        llama = nnx.merge(model.abstract(config)[0], params)
        positions_RL = jnp.broadcast_to(jnp.arange(L), (R, L))
        _, new = llama(rows["tokens"], positions_RL, jnp.zeros((R, L), jnp.int32), model.make_cache(config, R, 0))
        return _write(cache, new, rows["slots"], jnp.zeros_like(rows["slots"]), mesh)


@functools.partial(jax.jit, static_argnames=("config", "mesh"), donate_argnames="cache")
def _decode(params, cache, state, num_steps, *, config, mesh):
    """(ids_BT, cache) after `num_steps` of at most T = NUM_STEPS steps.

    Within the loop the cache is only read: the keys and values of the steps are kept apart and written at the end.
    """
    llama = nnx.merge(model.abstract(config)[0], params)
    lengths_B = state["lengths"]

    def step(t, carry):
        token_B, ids_BT, recent = carry
        given = {**cache, "lengths_B": lengths_B, "recent": recent, "num_recent": t}
        hidden_B1D, recent = llama(token_B[:, None], (lengths_B + t)[:, None], cache=given)
        logits_BV = llama.logits(hidden_B1D)[:, 0]
        if "seeds" in state:
            options = (state["temperatures"], state["top_ps"], state["seeds"], state["drawn"] + t)
            token_B = sampling.draw(logits_BV, *options)
        else:
            token_B = sampling.greedy(logits_BV)
        return token_B, ids_BT.at[:, t].set(token_B), recent

    with sharding.use(mesh):
        recent = model.make_cache(config, len(lengths_B), NUM_STEPS)
        recent = {name: sharding.constrain(recent[name], CACHE_AXES) for name in cache}
        ids_BT = jnp.zeros((len(lengths_B), NUM_STEPS), jnp.int32)
        _, ids_BT, recent = jax.lax.fori_loop(0, num_steps, step, (state["tokens"], ids_BT, recent))
        slots_B = jnp.arange(len(lengths_B)) % (len(lengths_B) // num_shards(mesh))
        cache = _write(cache, recent, slots_B, lengths_B, mesh)
        return jax.lax.with_sharding_constraint(ids_BT, sharding.replicated(mesh)), cache


def _write(cache, new, slots_R, starts_R, mesh):
    """`cache` [N, B, K, S, C] with row r of `new` [N, R, K, L, C] in a slot of the same device, from `starts_R` on."""

    def write_row(row, carry, new, slots_R, starts_R):
        at = (0, jnp.maximum(slots_R[row], 0), 0, starts_R[row], 0)
        piece = jax.lax.dynamic_slice_in_dim(new, row, 1, axis=1)
        present = jax.lax.dynamic_slice(carry, at, piece.shape)
        return jax.lax.dynamic_update_slice(carry, jnp.where(slots_R[row] >= 0, piece, present), at)

    def write(cache, new, slots_R, starts_R):
        row = functools.partial(write_row, new=new, slots_R=slots_R, starts_R=starts_R)
        return jax.lax.fori_loop(0, len(slots_R), lambda r, carry: row(r, carry), cache)

    where, rows = sharding.spec(CACHE_AXES), sharding.spec(("batch",))
    write = jax.shard_map(write, mesh=mesh, in_specs=(where, where, rows, rows), out_specs=where)
    return {name: write(cache[name], new[name], slots_R, starts_R) for name in cache}


def _check(number: int, request: Request, vocab_size: int) -> None:
    prompt, count = request.prompt, request.max_new_tokens
    if count < 1:
        raise ValueError(f"max_new_tokens of request {number} is {count}; expected at least 1")
    if not 0 <= request.temperature < float("inf") or not 0 < request.top_p <= 1:
        raise ValueError(
            f"request {number} has temperature {request.temperature} and top_p {request.top_p}; "
            "expected at least 0, and more than 0 and at most 1"
        )
    if not len(prompt):
        raise ValueError(f"prompt {number} is empty; begin it with BOS")
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        raise ValueError(f"prompt {number} has ids outside the vocabulary of {vocab_size}")
