"""Checkpoints of a run: what is saved, when, how many are kept, and what a restore refuses.

A step holds three Orbax items: `params`, `optimizer` (absent from an import) and `metadata` (JSON). Parameters and
moments are stored layer by layer and stacked again on the device: a stacked matrix of an 8B model is 7.5 GB, a layer's
0.23 GB, and only the second can be streamed.
"""

import dataclasses
import logging as standard_logging
import os
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself: enough to refuse a restore that would not continue the same run.

    `position_rows` counts rows of the training sequence already consumed. `rows` is the fingerprint of that sequence,
    `validation_rows` of what was validated on, `tokenizer` of the vocabulary; each is empty where unknown.
    """

    config: dict[str, Any]
    position_rows: int = 0
    rows: str = ""
    validation_rows: str = ""
    tokenizer: str = ""
    version: int = VERSION


class Checkpoints:
    """The checkpoints of one workdir. `config` is config.checkpoint; without it, for reading only."""

    def __init__(self, workdir, config=None):
        self.folder = epath.Path(workdir).absolute() / "checkpoints"
        self._every_steps = config.save_every_steps if config else 1
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config and config.keep,
            create=config is not None,
            read_only=config is None,
            enable_async_checkpointing=config is not None,
        )
        if config is None and not self.folder.exists():
            raise ValueError(f"{workdir} is no workdir: it has no folder 'checkpoints'")
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest_step(self) -> int | None:
        """The newest complete step, or None. A step whose save was interrupted does not count."""
        return self._manager.latest_step()

    def is_due(self, step: int) -> bool:
        """Whether the policy wants `step` saved."""
        return step % self._every_steps == 0

    def save(self, step: int, params, optimizer, metadata: Metadata) -> None:
        """Begins to save; returns when the arrays are copied. A failure shows at the next call or at `close`."""
        self._check_space(params, optimizer)
        items = {"params": ocp.args.PyTreeSave(unstack(params)), "metadata": ocp.args.JsonSave(vars(metadata))}
        if optimizer is not None:
            items["optimizer"] = ocp.args.PyTreeSave(unstack(optimizer))
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

    def _restore(self, step: int, item: str, abstract):
        target = unstack_abstract(abstract)
        self._check_shapes(self.folder / str(step) / item, target)
        args = ocp.args.PyTreeRestore(target, restore_args=ocp.checkpoint_utils.construct_restore_args(target))
        return stack(self._manager.restore(step, args=ocp.args.Composite(**{item: args}))[item], abstract)

    @staticmethod
    def _check_shapes(path: epath.Path, target) -> None:
        """Raises ValueError that names the first array which is stored in another shape than `target`'s, or not."""
        stored = ocp.PyTreeCheckpointHandler().metadata(path).tree
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
        shards = (shard for leaf in jax.tree.leaves(trees) for shard in leaf.addressable_shards)
        needed = sum(shard.data.nbytes for shard in shards if shard.replica_id == 0)
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


def stack(tree, abstract):
    """The inverse of `unstack`, laid out as `abstract` says, on the device."""

    def stack_layers(tree):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf, part: (
                jnp.stack([part[str(i)] for i in range(leaf.shape[0])]) if _is_below_layers(path) else part
            ),
            abstract,
            tree,
        )

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(stack_layers, out_shardings=shardings)(tree)


def _map_layers(function, tree):
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(leaf) if _is_below_layers(path) else leaf, tree)


def _is_below_layers(path) -> bool:
    return any(getattr(key, "key", None) == "layers" for key in path)
