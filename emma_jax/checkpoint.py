"""Checkpoints of a run: what is saved, when, how many are kept, and what a restore refuses.

A step holds three Orbax items: `params`, `optimizer` (absent from an import) and `metadata` (JSON). Parameters and
moments are stored layer by layer and stacked again on the device: a stacked matrix of an 8B model is 7.5 GB, a layer's
0.23 GB, and only the second can be streamed. They are stored as they are, without compression: what training made
does not compress, and trying to halves the rate.
"""

import asyncio
import dataclasses
import functools
import logging as standard_logging
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

VERSION = 1
IN_FLIGHT_BYTES = 2**29  # of deferred leaves that are being written while the next is made
CHUNK_BYTES = 2**24  # of an array's part that is written and read as one; of some more, memory takes longer than disks


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself: enough to refuse a restore that would not continue the same run.

    `position_rows` counts rows of the training sequence already consumed. `rows` is the fingerprint of that sequence,
    `validation_rows` of what was validated on, `tokenizer` of the vocabulary; each is empty where unknown. `base` names
    the model that the first parameters came from, or is empty.
    """

    config: dict[str, Any]
    position_rows: int = 0
    rows: str = ""
    validation_rows: str = ""
    tokenizer: str = ""
    base: str = ""
    version: int = VERSION


@dataclasses.dataclass(frozen=True)
class Deferred:
    """A leaf of a tree to save that is made when it is written: `make` returns it as a jax.Array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], jax.Array]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class _DeferredHandler(ocp.type_handlers.ArrayHandler):
    """Makes leaves one after the other while those before are written, of which few are in memory."""

    async def serialize(self, values, infos, args=None):
        in_flight: list[tuple[int, asyncio.Future]] = []
        for value, info, arg in zip(values, infos, args, strict=True):
            while in_flight and sum(num_bytes for num_bytes, _ in in_flight) + value.nbytes > IN_FLIGHT_BYTES:
                await in_flight.pop(0)[1]
            array = await asyncio.to_thread(value.make)
            # Orbax's limiter of bytes in flight serves one event loop, and each call here has a loop of its own: two of
            # them would wait for each other for ever.
            info.byte_limiter = None
            futures = await super().serialize([array], [info], [arg])
            written = asyncio.to_thread(lambda futures=futures: [future.result() for future in futures])
            in_flight.append((value.nbytes, asyncio.ensure_future(written)))
            del array, futures
        for _, written in in_flight:
            await written
        return []


class Checkpoints:
    """The checkpoints of one workdir. `config` is config.checkpoint; without it, for reading only."""

    def __init__(self, workdir, config=None):
        workdir = epath.Path(workdir)
        if "://" not in os.fspath(workdir):  # epath would put the current folder before a bucket
            workdir = workdir.absolute()
        self.folder = workdir / "checkpoints"
        self._every_steps = config.save_every_steps if config else 1
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config and config.keep,
            create=config is not None,
            read_only=config is None,
            enable_async_checkpointing=config is not None,
        )
        if config is None and not self.folder.exists():
            raise ValueError(f"{workdir} is no workdir: it has no folder 'checkpoints'")
        handlers = {
            "params": _tree_handler(),
            "optimizer": _tree_handler(),
            "metadata": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def latest_step(self) -> int | None:
        """The newest complete step, or None. A step whose save was interrupted does not count."""
        return self._manager.latest_step()

    def is_due(self, step: int) -> bool:
        """Whether the policy wants `step` saved."""
        return step % self._every_steps == 0

    def save(self, step: int, params, optimizer, metadata: Metadata) -> None:
        """Begins to save; returns when the arrays are copied. A failure shows at the next call or at `close`."""
        self._check_space(params, optimizer)
        trees = {"params": unstack(params)}
        if optimizer is not None:
            trees["optimizer"] = unstack(optimizer)
        self._save(step, trees, metadata)

    def save_layers(self, step: int, layers, metadata: Metadata) -> None:
        """Saves parameters that are unstacked already and whose leaves are `Deferred`, one by one."""
        self._check_space(layers)
        self._save(step, {"params": layers}, metadata)

    def _save(self, step: int, trees: dict[str, Any], metadata: Metadata) -> None:
        items: dict[str, Any] = {"metadata": ocp.args.JsonSave(vars(metadata))}
        for name, tree in trees.items():
            chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
            items[name] = ocp.args.PyTreeSave(tree, save_args=chunks)
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._failure(error) from error

    def metadata(self, step: int) -> Metadata:
        """What the checkpoint of `step` says of itself; raises ValueError if its version is another."""
        restored = self._manager.restore(step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore()))["metadata"]
        if restored.get("version") != VERSION:
            raise ValueError(f"{self.folder}/{step} has version {restored.get('version')}, this reads {VERSION}")
        return Metadata(**restored)

    def restore_params(self, step: int, abstract):
        """The parameters of `step`, stacked and laid out as `abstract` says."""
        return self._restore(step, "params", abstract)

    def restore_optimizer(self, step: int, abstract):
        """The optimizer state of `step`, or None if the checkpoint has none, as after an import."""
        if not (self.folder / str(step) / "optimizer").exists():
            return None
        return self._restore(step, "optimizer", abstract)

    def close(self) -> None:
        """Waits until the last save is complete; raises OSError if it failed."""
        try:
            self._manager.wait_until_finished()
            self._manager.close()
        except Exception as error:
            raise self._failure(error) from error

    def stored_params(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Path in unstacked parameters -> shape and dtype of each array that the checkpoint of `step` holds."""
        tree = _tree_handler().metadata(self.folder / str(step) / "params").tree
        return {
            path: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
            for path, leaf in ocp.tree.to_flat_dict(tree, sep="/").items()
        }

    def read_params(self, step: int, paths: Sequence[str]) -> dict[str, np.ndarray]:
        """Some arrays of unstacked parameters as they are stored; hosts may read different ones at different times."""
        some: dict[str, Any] = {}
        for path in paths:
            *above, last = path.split("/")
            functools.reduce(lambda tree, key: tree.setdefault(key, {}), above, some)[last] = 0
        args = ocp.args.PyTreeRestore(
            some,
            restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), some),
            partial_restore=True,
        )
        return ocp.tree.to_flat_dict(_tree_handler().restore(self.folder / str(step) / "params", args=args), sep="/")

    def _restore(self, step: int, item: str, abstract):
        """One stacked array after the other, so that only one of them is there twice, as layers and stacked."""
        target = unstack_abstract(abstract)
        self._check_shapes(self.folder / str(step) / item, target)
        leaves, structure = jax.tree_util.tree_flatten_with_path(abstract)
        whole = self._restore_some(step, item, target, lambda path: not _is_below_layers(path))
        restored = structure.flatten_up_to(whole)
        for number, (path, leaf) in enumerate(leaves):
            if _is_below_layers(path):
                some = self._restore_some(step, item, target, lambda other, path=path: other[: len(path)] == path)
                restored[number] = stack(structure.flatten_up_to(some)[number], leaf)
        return structure.unflatten(restored)

    def _restore_some(self, step: int, item: str, target, chosen: Callable[[Any], bool]):
        """`target` with the arrays whose paths are chosen; the others are placeholders."""
        some = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if chosen(path) else ocp.PLACEHOLDER, target)
        args = ocp.args.PyTreeRestore(some, restore_args=ocp.checkpoint_utils.construct_restore_args(some))
        return self._manager.restore(step, args=ocp.args.Composite(**{item: args}))[item]

    @staticmethod
    def _check_shapes(path: epath.Path, target) -> None:
        """Raises ValueError that names the first array which is stored in another shape than `target`'s, or not."""
        stored = _tree_handler().metadata(path).tree
        there, wanted = (ocp.tree.to_flat_dict(tree, sep="/") for tree in (stored, target))
        for name in sorted(there.keys() | wanted.keys()):
            shapes = [tuple(tree[name].shape) if name in tree else "absent" for tree in (there, wanted)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{path} does not hold this model: {name} is {shapes[0]} there and {shapes[1]} in the config"
                )

    def _check_space(self, *trees) -> None:
        """Raises OSError if a local disk has less room than the arrays of this host take: better than half a save."""
        if "://" in os.fspath(self.folder):
            return
        needed = sum(map(_local_bytes, jax.tree.leaves(trees)))
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise self._failure(OSError(f"{needed:,} bytes are to be written and the disk has {free:,} left"))

    def _failure(self, error: Exception) -> OSError:
        logging.debug("the save failed here", exc_info=error)
        # Orbax leaves one failed task per array behind, and asyncio prints a traceback for each at exit.
        standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
        reason = str(error).strip().splitlines()[-1]
        last = self.latest_step()
        return OSError(
            f"a checkpoint could not be written to {self.folder}: {reason}; "
            + (f"step {last} is complete: free space and run again" if last is not None else "none is complete")
        )


def unstack(tree):
    """`tree` with each array below a key `layers` cut along its first dim into a dict "0", "1", ..., on the device.

    >>> import jax.numpy as jnp
    >>> jax.tree.map(lambda x: x.tolist(), unstack({"head": jnp.ones(1), "layers": {"up": jnp.eye(2)}}))
    {'head': [1.0], 'layers': {'up': {'0': [1.0, 0.0], '1': [0.0, 1.0]}}}
    """
    return jax.jit(lambda tree: _map_layers(lambda leaf: {str(i): leaf[i] for i in range(leaf.shape[0])}, tree))(tree)


def unstack_abstract(tree):
    """`unstack` for trees of jax.ShapeDtypeStruct, with the shardings that the layers have."""

    def layers(leaf):
        where = leaf.sharding.update(spec=jax.sharding.PartitionSpec(*leaf.sharding.spec[1:]))
        return {str(i): jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=where) for i in range(leaf.shape[0])}

    return _map_layers(layers, tree)


def stack(layers, abstract: jax.ShapeDtypeStruct) -> jax.Array:
    """The array whose layers are the values of the dict `layers`, laid out as `abstract` says, on the device."""
    return _stack([layers[str(i)] for i in range(len(layers))], abstract.sharding)


@functools.partial(jax.jit, static_argnums=1)
def _stack(layers, sharding):
    return jax.lax.with_sharding_constraint(jnp.stack(layers), sharding)


def _tree_handler() -> ocp.PyTreeCheckpointHandler:
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.ArrayHandler()),
        (np.ndarray, ocp.type_handlers.NumpyHandler()),
        (type(ocp.PLACEHOLDER), ocp.type_handlers.get_type_handler(type(ocp.PLACEHOLDER))),
        (Deferred, _DeferredHandler()),
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry, use_compression=False)


def _local_bytes(leaf) -> int:
    if isinstance(leaf, Deferred):
        return leaf.nbytes // jax.process_count()
    return sum(shard.data.nbytes for shard in leaf.addressable_shards if shard.replica_id == 0)


def _map_layers(function, tree):
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(leaf) if _is_below_layers(path) else leaf, tree)


def _is_below_layers(path) -> bool:
    return any(getattr(key, "key", None) == "layers" for key in path)
