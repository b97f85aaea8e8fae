"""Batches of packed rows for training and validation: one deterministic sequence, the same for any number of hosts.

Owns the order of rows: shuffling, the mixture of components by their shares of tokens, the jump to any step. What a row
is belongs to `packing`; which rows exist, to `store`; how they are fetched, to `record_reader`.
"""

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping

import grain.python as grain
import numpy as np

from emma_jax import packing, store
from emma_jax.record_reader import RecordReader

BATCHES_AHEAD = 2  # that are read while the devices compute

Batch = dict[str, np.ndarray]  # tokens, targets, segments, positions, tasks: int32 (rows, row length)


def open_rows(
    folder,
    weights: Mapping[str, float],
    tokenizer_fingerprint: str | None = None,
    row_length: int | None = None,
    num_threads: int = 1,
    patience_seconds: float = 0.0,
) -> "Rows":
    """The packed rows in `folder`, mixed so that each component gives its weight's share of the tokens.

    Reads one store.json per component and looks at the size of each shard; lists no folder and opens no shard. Later
    `num_threads` rows are fetched at a time, and one that cannot be is tried again for `patience_seconds`.

    Raises ValueError if a component is not there, was packed with another tokenizer or row length, or lost a shard.
    """
    if not weights:
        raise ValueError("the mixture is empty; give at least one component a weight")
    stores = []
    for name, weight in sorted(weights.items()):
        if not weight > 0:
            raise ValueError(f"the component {name} has the weight {weight} in the mixture; leave it out or raise it")
        found = store.load(folder, name)
        if tokenizer_fingerprint not in (None, found.tokenizer):
            raise ValueError(
                f"the rows of {name} in {folder} were packed with the tokenizer {found.tokenizer[:12]}, not with "
                f"{tokenizer_fingerprint[:12]}; run `python -m emma_jax.pack` with this config"
            )
        if row_length not in (None, found.row_length):
            raise ValueError(
                f"the rows of {name} in {folder} have {found.row_length} tokens, not {row_length}; "
                "run `python -m emma_jax.pack` with this config"
            )
        if not found.rows:
            raise ValueError(f"the component {name} in {folder} has no rows; does its task have documents?")
        store.check_shards(folder, found)
        stores.append(found)
    if len({(found.tokenizer, found.row_length) for found in stores}) > 1:
        raise ValueError(f"the components {', '.join(weights)} differ in tokenizer or row length; pack them again")
    reader = RecordReader(str(folder), stores, num_threads, patience_seconds)
    return Rows(tuple(stores), tuple(float(weights[found.component]) for found in stores), reader)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Packed rows of one or more components, to be read in batches; made by `open_rows`."""

    stores: tuple[store.Store, ...]
    weights: tuple[float, ...]
    reader: RecordReader

    @property
    def row_length(self) -> int:
        """Positions of a row."""
        return self.stores[0].row_length

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary of the tokenizer; all ids are below it."""
        return self.stores[0].vocab_size

    @functools.cached_property
    def task_names(self) -> tuple[str, ...]:
        """Name of each task; a batch's `tasks` index this. A task in two components appears once."""
        return tuple(dict.fromkeys(task.name for found in self.stores for task in found.tasks))

    @property
    def task_bytes(self) -> dict[str, int]:
        """Bytes of text in the rows of each task, by name."""
        totals = dict.fromkeys(self.task_names, 0)
        for found in self.stores:
            for task in found.tasks:
                totals[task.name] += task.bytes
        return totals

    @property
    def tokens_per_row(self) -> float:
        """Mean number of predicted targets in a row of the mixture."""
        return sum(self.weights) / sum(self._row_rates)

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex of what the sequence of batches depends on but for the seed."""
        parts = [[s.component, s.fingerprint, weight] for s, weight in zip(self.stores, self.weights, strict=True)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def batches(
        self, batch_rows: int, seed: int, start_step: int = 0, block: int = 0, num_blocks: int = 1
    ) -> Iterator[Batch]:
        """Batches from `start_step` on, without end; of each, the rows of one block out of `num_blocks`.

        Row i of the whole sequence depends on the stores, the weights and the seed alone. Step s has the rows from
        s * batch_rows on; block b has the b-th part of them, in order, so that the blocks side by side are the batch.
        Going to a step reads nothing before it.

        Raises ValueError if the rows do not divide over the blocks, and OSError if a shard cannot be read any more.
        """
        rows = _block_rows(batch_rows, num_blocks)
        mixed = grain.MapDataset.select_from_datasets(
            [self._numbers(index, seed) for index in range(len(self.stores))], _Interleaved(tuple(self._row_rates))
        )
        batches = mixed.batch(rows, drop_remainder=True)[start_step * num_blocks + block :: num_blocks]
        read = batches.map(lambda located: self._read(*located))
        options = grain.ReadOptions(num_threads=BATCHES_AHEAD, prefetch_buffer_size=BATCHES_AHEAD)
        return iter(read.to_iter_dataset(options))

    def validation_batches(self, batch_rows: int, block: int = 0, num_blocks: int = 1) -> Iterator[Batch]:
        """Every row once, in the order of the shards; the last batch is filled up with empty rows.

        Raises ValueError if the rows do not divide over the blocks, and OSError if a shard cannot be read any more.
        """
        rows = _block_rows(batch_rows, num_blocks)
        located = [(index, number) for index, found in enumerate(self.stores) for number in range(found.rows)]
        for start in range(0, len(located), batch_rows):
            own = located[start : start + batch_rows][block * rows : (block + 1) * rows]
            yield self._read(*np.array(own, int).reshape(-1, 2).T, num_rows=rows)

    @property
    def _row_rates(self) -> list[float]:
        """Of each component, rows drawn per unit of weight: weights are of tokens, and rows differ in fill."""
        return [weight * found.rows / found.tokens for found, weight in zip(self.stores, self.weights, strict=True)]

    def _numbers(self, index: int, seed: int) -> grain.MapDataset:
        """(index, number of a row) of a component's rows without end, in another order each time round."""
        found = self.stores[index]
        component_seed = hashlib.sha256(f"{seed} {found.component}".encode()).digest()
        shuffled = grain.MapDataset.range(found.rows).shuffle(seed=int.from_bytes(component_seed[:4], "little"))
        return shuffled.repeat().map(lambda number: (index, number))

    def _read(self, stores: np.ndarray, numbers: np.ndarray, num_rows: int = 0) -> Batch:
        """The arrays of the rows that are these numbers of these stores, filled up to `num_rows` with empty rows."""
        records = self.reader.read(stores.tolist(), numbers.tolist())
        rows = [packing.model_arrays(packing.decode_row(record), self.row_length) for record in records]
        for row, index in zip(rows, stores.tolist(), strict=True):
            row["tasks"] = self._task_ids[index][row["tasks"]]
        rows += [packing.model_arrays(packing.empty_row(), self.row_length)] * (num_rows - len(rows))
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    @functools.cached_property
    def _task_ids(self) -> list[np.ndarray]:
        """For each store the index into `task_names` of its task ids; the last entry is that of padding, -1."""
        index = {name: number for number, name in enumerate(self.task_names)}
        return [np.array([index[task.name] for task in found.tasks] + [-1], np.int32) for found in self.stores]


@dataclasses.dataclass(frozen=True)
class _Interleaved(grain.DatasetSelectionMap):
    """Which dataset, and which of its elements, comes at an index, if datasets alternate at given rates.

    Grain's own mix rounds rates to a hundredth of the smallest one; shares of tokens would be off by up to a percent.

    >>> [_Interleaved((2.0, 1.0))[index] for index in range(6)]
    [(0, 0), (0, 1), (1, 0), (0, 2), (0, 3), (1, 1)]
    """

    rates: tuple[float, ...]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> tuple[int, int]:
        # Integers, so that far indices are exact.
        shares = [round(rate / max(self.rates) * 2**32) for rate in self.rates]
        before, after, remaining = index, index + 1, sum(shares)
        for number, share in enumerate(shares):
            rest_before = before * (remaining - share) // remaining
            rest_after = after * (remaining - share) // remaining
            if rest_before == rest_after and after > before:
                return number, before - rest_before
            before, after, remaining = rest_before, rest_after, remaining - share
        raise AssertionError("the last dataset takes what the others leave")


def _block_rows(batch_rows: int, num_blocks: int) -> int:
    if batch_rows < 1 or batch_rows % num_blocks:
        below = batch_rows // num_blocks * num_blocks
        nearest = f"{below} and {below + num_blocks}" if below else f"{num_blocks}"
        raise ValueError(f"batch of {batch_rows} rows does not divide over {num_blocks} hosts; nearest: {nearest}")
    return batch_rows // num_blocks
