"""Where arrays live: the device mesh, and the one table from logical axes to mesh axes.

The model names its dimensions with words (`embed`, `mlp`, `batch`, ...); this module alone knows which mesh axis each
word is split over. It knows nothing of models, only of names and shapes.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "tensor")

# Every logical axis has a rule; one that is missing here is an error, not silently replicated.
RULES: dict[str | None, str | tuple[str, ...] | None] = {
    None: None,  # a dim that is not split, whatever it is
    "batch": ("data", "fsdp"),
    "length": None,
    "activation": None,  # the model dimension of activations: only weights are split over fsdp
    "embed": "fsdp",
    "norm": None,
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "vocab": "tensor",
    "layers": None,
}

_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


def make_mesh(config, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh with axes `data fsdp tensor` of the sizes in `config` (config.sharding); -1 takes what remains.

    Raises ValueError if the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config[axis] for axis in MESH_AXES]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if math.prod(sizes) != len(devices) or min(sizes) < 1:
        asked = " x ".join(f"{axis} {config[axis]}" for axis in MESH_AXES)
        raise ValueError(
            f"a mesh of {asked} does not fit {len(devices)} devices; let one axis be -1 and the others divide them"
        )
    return jax.make_mesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def inference_mesh(config, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh on which a model of `config` (config.model) is run without training.

    A step of decoding reads all weights for a few tokens, so no device should wait for those of others: weights are
    split over as many devices as heads allow, and whatever devices remain hold copies for other rows.
    """
    devices = jax.devices() if devices is None else devices
    tensor = math.gcd(len(devices), config.num_kv_heads, config.mlp_dim, config.vocab_size)
    return make_mesh(dict(data=-1, fsdp=1, tensor=tensor), devices)


def spec(logical_axes: Sequence[str]) -> PartitionSpec:
    """The partition of an array whose dims have these logical axes.

    >>> tuple(spec(("vocab", "embed")))
    ('tensor', 'fsdp')
    >>> spec(("embed", "embed"))
    Traceback (most recent call last):
    ValueError: logical axes ('embed', 'embed') use a mesh axis twice
    """
    for axis in logical_axes:
        if axis not in RULES:
            raise ValueError(f"logical axis {axis!r} has no rule; known are {', '.join(filter(None, RULES))}")
    rules = [RULES[axis] for axis in logical_axes]
    used = [name for rule in rules if rule for name in ((rule,) if isinstance(rule, str) else rule)]
    if len(used) != len(set(used)):
        raise ValueError(f"logical axes {tuple(logical_axes)} use a mesh axis twice")
    return PartitionSpec(*rules)


def named(mesh: Mesh, logical_axes: Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """The sharding of an array of `shape`; raises ValueError if a dim does not divide over its mesh axes."""
    sharding = NamedSharding(mesh, spec(logical_axes))
    for axis, size, rule in zip(logical_axes, shape, sharding.spec, strict=True):
        axes = (rule,) if isinstance(rule, str) else rule or ()
        parts = math.prod(mesh.shape[name] for name in axes)
        if size % parts:
            low = size // parts * parts
            raise ValueError(
                f"{axis} of {size} does not divide over {parts} devices; nearest are {low or parts} and {low + parts}"
            )
    return sharding


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


@contextlib.contextmanager
def use(mesh: Mesh) -> Iterator[None]:
    """Within it, `constrain` applies to `mesh`."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


def constrain(x: jax.Array, logical_axes: Sequence[str]) -> jax.Array:
    """`x`, laid out by its logical axes on the mesh in use; unchanged where none is."""
    mesh = _mesh.get()
    return x if mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(logical_axes)))


def device() -> jax.Device:
    """A device of the mesh in use, which may be one that is only described, or else of the default platform."""
    mesh = _mesh.get()
    return jax.devices()[0] if mesh is None else mesh.devices.flat[0]


def num_shards(logical_axis: str) -> int:
    """Into how many parts the mesh in use splits a dim; 1 without a mesh."""
    mesh, rule = _mesh.get(), RULES[logical_axis]
    axes = (rule,) if isinstance(rule, str) else rule or ()
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in axes)


def per_shard(function: Callable, in_axes: Sequence, out_axes) -> Callable:
    """`function`, applied on each device to its shards of arrays with these logical axes; as it is without a mesh.

    `out_axes` is a tuple of names, or a tree of them like the output.
    """
    mesh = _mesh.get()
    if mesh is None:
        return function
    in_specs, out_specs = jax.tree.map(spec, (tuple(in_axes), out_axes), is_leaf=_is_axes)
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _is_axes(axes) -> bool:
    return isinstance(axes, tuple) and all(axis is None or isinstance(axis, str) for axis in axes)


def host_block(rows_sharding: NamedSharding, rows: int) -> tuple[int, int]:
    """(block, num_blocks): which of equal parts of a batch of `rows` this host reads.

    Hosts that hold the same rows (a tensor axis across hosts) read the same block. Raises ValueError if the rows do not
    divide over the devices.
    """
    parts = math.prod(rows_sharding.mesh.shape[axis] for axis in RULES["batch"])
    if rows % parts:
        low = rows // parts * parts or parts
        raise ValueError(
            f"batch of {rows} rows does not divide over {parts} devices; nearest are {low} and {low + parts}"
        )
    starts: dict[int, set[int]] = {}
    for device, index in rows_sharding.devices_indices_map((rows, 1)).items():
        starts.setdefault(device.process_index, set()).add(index[0].start or 0)
    return block_of(jax.process_index(), starts)


def block_of(host: int, starts: dict[int, set[int]]) -> tuple[int, int]:
    """(block, num_blocks) of a host, where `starts` says of each host at which rows the shards it holds begin.

    On a torus the devices of a host are neighbours in space, and their shards need not be neighbours in the batch.

    >>> block_of(1, {0: {0, 8}, 1: {4, 12}})
    (1, 2)
    >>> block_of(1, {0: {0}, 1: {0}, 2: {4}, 3: {4}})
    (0, 2)
    """
    blocks = sorted({tuple(sorted(held)) for held in starts.values()})
    shards = [start for block in blocks for start in block]
    if len(set(shards)) != len(shards) or len({len(block) for block in blocks}) > 1:
        raise ValueError(f"hosts share some rows of a batch but not all: {starts}; choose other mesh sizes")
    return blocks.index(tuple(sorted(starts[host]))), len(blocks)


def from_host(block: np.ndarray, rows_sharding: NamedSharding, num_blocks: int) -> jax.Array:
    """The global array [rows, ...] of which this host gives `block` [rows / num_blocks, ...].

    The rows of the block go to the shards of this host in order; the batch holds the rows of all blocks, though on a
    torus not in the order of the blocks.
    """
    shape = (block.shape[0] * num_blocks, *block.shape[1:])
    held = rows_sharding.addressable_devices_indices_map(shape).values()
    starts = sorted({index[0].start or 0 for index in held})
    size = block.shape[0] // len(starts)

    def shard(index):
        first = starts.index(index[0].start or 0) * size
        return block[first : first + size]

    return jax.make_array_from_callback(shape, rows_sharding, shard)
