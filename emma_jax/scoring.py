"""Log-probabilities of the ends of sequences of ids, where what sequences begin with is computed once.

The sequences of a question (the choices of an item) are a row: what all begin with is its trunk, and each goes on as a
branch of its own (`attention.branch_mask`). It owns no model, no text and no files.

The shapes that a question is computed in follow from that question alone, so its scores do not depend on others.
"""

import collections
import functools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import FrozenConfigDict

from emma_jax import model, sharding
from emma_jax.decoding import bucket, num_shards

ROW_TOKENS = 2048  # of a batch on a device, about
LOGIT_ROWS = 512  # whose logits a device holds at a time
MIN_TARGETS = 16
MAX_TREE = 1024  # tokens of a row with several sequences, or the length of the longest


class Question(NamedTuple):
    """Sequences of ids, of each of which the last `num_targets` ids are scored: at most all but the first."""

    sequences: Sequence[Sequence[int]]
    num_targets: Sequence[int]


class Score(NamedTuple):
    """log p of a sequence's targets in nats, and whether each of them is the likeliest id where it stands."""

    log_probability: float
    is_greedy: bool


class Row(NamedTuple):
    """A question as a tree: tokens, each with position and branch, and at which (`sources`) each target is predicted.

    `owners` says of which sequence a target is.
    """

    tokens: list[int]
    positions: list[int]
    branches: list[int]
    sources: list[int]
    targets: list[int]
    owners: list[int]


def score(
    config, params: model.Params, questions: Sequence[Question], done: Collection[int] = ()
) -> Iterator[tuple[int, list[Score]]]:
    """The number of each question and the scores of its sequences, in the order in which they are finished.

    Questions whose number is in `done` are left out.
    """
    mesh = params["embedding"].sharding.mesh
    statics = dict(config=FrozenConfigDict(config), mesh=mesh)
    parts = [(number, part) for number, one in enumerate(questions) if number not in done for part in _parts(one)]
    rows = [lay_out(part) for _, part in parts]
    unfinished = collections.Counter(number for number, _ in parts)
    scores: dict[int, dict[int, list[Score]]] = collections.defaultdict(dict)
    for shape, batch in _batches(rows, num_shards(mesh)):
        arrays = _stack([rows[at] for at in batch], shape)
        places = {name: sharding.named(mesh, ("batch", "length"), array.shape) for name, array in arrays.items()}
        logs_RT, is_greedy_RT = map(np.asarray, _score(params, jax.device_put(arrays, places), **statics))
        for at, logs_T, is_greedy_T in zip(batch, logs_RT, is_greedy_RT, strict=False):
            number, _ = parts[at]
            scores[number][at] = _by_owner(rows[at].owners, logs_T, is_greedy_T)
            if len(scores[number]) == unfinished[number]:
                yield number, [one for _, of_part in sorted(scores.pop(number).items()) for one in of_part]


def lay_out(question: Question) -> Row:
    """The row of a question; ids that all of its sequences begin with are the trunk, branch 0.

    >>> row = lay_out(Question([[5, 6, 7, 8], [5, 6, 9, 8], [5, 6, 7]], [2, 2, 1]))
    >>> row.tokens, row.positions, row.branches
    ([5, 6, 7, 9], [0, 1, 2, 2], [0, 0, 1, 2])
    >>> row.sources, row.targets, row.owners
    ([1, 2, 1, 3, 1], [7, 8, 9, 8, 7], [0, 0, 1, 1, 2])
    """
    trunk = common_length([ids[:-1] for ids in question.sequences])
    row = Row(list(question.sequences[0][:trunk]), list(range(trunk)), [0] * trunk, [], [], [])
    for owner, (ids, count) in enumerate(zip(question.sequences, question.num_targets, strict=True)):
        shift = len(row.tokens) - trunk
        row.tokens.extend(ids[trunk:-1])
        row.positions.extend(range(trunk, len(ids) - 1))
        row.branches.extend([owner + 1] * (len(ids) - 1 - trunk))
        for at in range(len(ids) - count, len(ids)):
            row.sources.append(at - 1 if at <= trunk else at - 1 + shift)
            row.targets.append(ids[at])
            row.owners.append(owner)
    return row


def common_length(sequences: Sequence[Sequence[int]]) -> int:
    """How many ids all of `sequences` begin with.

    >>> common_length([[1, 2, 3], [1, 2], [1, 2, 4]])
    2
    """
    first, last = min(sequences), max(sequences)  # of sequences in order, these have least in common
    return next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))


def num_programs() -> int:
    """How many programs this module has compiled in this process."""
    return _score._cache_size()


def _parts(question: Question) -> Iterator[Question]:
    """`question`, or, where its tree is too large for a row, questions with some of its sequences each."""
    limit = max(MAX_TREE, *map(len, question.sequences))
    first = 0
    trunk = common_length(question.sequences)
    size = trunk
    for at, ids in enumerate(question.sequences):
        if at > first and size + len(ids) - trunk > limit:
            yield Question(question.sequences[first:at], question.num_targets[first:at])
            first, size = at, trunk
        size += len(ids) - trunk
    yield Question(question.sequences[first:], question.num_targets[first:])


def _batches(rows: Sequence[Row], shards: int) -> Iterator[tuple[tuple[int, int, int], list[int]]]:
    """(shape, numbers of rows) of each batch; the shape [R, L, T] follows from each of its rows alone."""
    members = collections.defaultdict(list)
    for number, row in enumerate(rows):
        num_targets = MIN_TARGETS
        while num_targets < len(row.targets):
            num_targets *= 4
        length = bucket(len(row.tokens))
        members[shards * max(1, ROW_TOKENS // length), length, num_targets].append(number)
    for shape, numbers in sorted(members.items(), key=lambda item: -item[0][1]):  # the longest first: they fit, or not
        for first in range(0, len(numbers), shape[0]):
            yield shape, numbers[first : first + shape[0]]


def _stack(rows: Sequence[Row], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The arrays of a batch, filled up with tokens and targets of which nothing comes."""
    num_rows, length, num_targets = shape
    sizes = dict(tokens=length, positions=length, branches=length, sources=num_targets, targets=num_targets)
    arrays = {name: np.zeros((num_rows, size), np.int32) for name, size in sizes.items()}
    for name, array in arrays.items():
        for number, row in enumerate(rows):
            values = getattr(row, name)
            array[number, : len(values)] = values
    return arrays


def _by_owner(owners: Sequence[int], logs_T: np.ndarray, is_greedy_T: np.ndarray) -> list[Score]:
    sums, missed = np.zeros(owners[-1] + 1), np.zeros(owners[-1] + 1, bool)
    np.add.at(sums, owners, logs_T[: len(owners)].astype(np.float64))
    np.logical_or.at(missed, owners, ~is_greedy_T[: len(owners)])
    return [Score(float(total), not miss) for total, miss in zip(sums, missed, strict=True)]


@functools.partial(jax.jit, static_argnames=("config", "mesh"))
def _score(params, rows, *, config, mesh):
    """(log p, float32, and whether it is the likeliest) of each of the targets of `rows`, both [R, T]."""
    llama = nnx.merge(model.abstract(config)[0], params)
    R, T = rows["targets"].shape

    def chunk(sources_and_targets):
        sources_Rt, targets_Rt = sources_and_targets
        logits_RtV = llama.logits(jnp.take_along_axis(hidden_RLD, sources_Rt[..., None], axis=1))
        target_logits_Rt = jnp.take_along_axis(logits_RtV, targets_Rt[..., None], axis=-1)[..., 0]
        logs_Rt = target_logits_Rt - jax.nn.logsumexp(logits_RtV, axis=-1)
        return logs_Rt, jnp.argmax(logits_RtV, axis=-1) == targets_Rt

    with sharding.use(mesh):
        hidden_RLD, _ = llama(rows["tokens"], rows["positions"], rows["branches"], model.make_cache(config, R, 0))
        size = max(1, LOGIT_ROWS * num_shards(mesh) // R)
        size = math.gcd(T, 1 << (size.bit_length() - 1))
        chunks = [jnp.moveaxis(rows[name].reshape(R, T // size, size), 1, 0) for name in ("sources", "targets")]
        found = [jnp.moveaxis(x, 0, 1).reshape(R, T) for x in jax.lax.map(chunk, chunks)]
        return jax.lax.with_sharding_constraint(found, [sharding.replicated(mesh)] * 2)
