"""Tensors on their way between a Hugging Face folder and a checkpoint, without ever being all in memory.

An import makes each array of the checkpoint when it is written; an export reads one while it writes another. On several
hosts each reads and writes its own part. Which folders these are, and what lies beside the tensors, is `conversion`'s.
"""

import contextlib
import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from emma_jax import checkpoint, conversion_table, model, progress, safetensors_file, safetensors_folder
from emma_jax.checkpoint import Checkpoints, Deferred
from emma_jax.conversion_table import Tensor
from emma_jax.safetensors_folder import Reader

BLOCK_BYTES = 2**22  # of a tensor that is transposed, rounded or checked at a time: what caches hold
GROUP_BYTES = 2**27  # of arrays that are read together
NUM_THREADS = 2  # a tensor of 8B takes up to 1 GiB in bfloat16, and a thread up to two of them
MEGABYTE = 10**6
Item, Result = TypeVar("Item"), TypeVar("Result")


@contextlib.contextmanager
def deferred_params(reader: Reader, config) -> Iterator[model.Params]:
    """The tensors of `reader` as unstacked parameters in their dtypes, each made when it is asked for.

    The arrays are spread over all devices, so that each host reads its own part. Progress is told within the context.
    """
    sizes, params = conversion_table.sizes_of(config), {}
    done: list[int] = []

    def make(name: str, tensor: Tensor) -> jax.Array:
        def part(index):
            rows = conversion_table.rows_of(tensor, sizes, index)
            extents = {dim: len(range(*cut.indices(sizes[dim]))) for dim, cut in zip(tensor.ours, index, strict=True)}
            return _contiguous(tensor.to_ours(reader.read(name, rows), extents))

        where = conversion_table.row_sharding(tensor, sizes, jax.devices())
        array = jax.make_array_from_callback(tensor.shape(sizes), where, part).block_until_ready()
        done.append(array.nbytes)
        return array

    for path, name, tensor in conversion_table.tensors_of(config):
        *above, last = path.split("/")
        branch = functools.reduce(lambda tree, key: tree.setdefault(key, {}), above, params)
        dtype = reader.numpy_dtype(name)
        branch[last] = Deferred(tensor.shape(sizes), dtype, functools.partial(make, name, tensor))
    with _told("MB imported", reader.num_bytes, done):
        yield params


def read_params(reader: Reader, config, abstract: model.Params) -> model.Params:
    """The tensors of `reader` as parameters laid out as `abstract` says, in its dtype; one tensor is read at a time."""
    sizes = conversion_table.sizes_of(config)
    tensors = {path: (name, tensor) for path, name, tensor in conversion_table.tensors_of(config)}

    def place(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name, tensor = tensors[path]
        array = tensor.to_ours(reader.read(name), sizes)
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: array[index].astype(leaf.dtype))

    def restore(path, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        path = "/".join(key.key for key in path)
        if path in tensors:
            return place(path, leaf)
        layers = checkpoint.unstack_abstract({"layers": leaf})["layers"]
        return checkpoint.stack({layer: place(f"{path}/{layer}", part) for layer, part in layers.items()}, leaf)

    return jax.tree_util.tree_map_with_path(restore, abstract)


def export_params(checkpoints: Checkpoints, step: int, config, folder: epath.Path, dtype: np.dtype) -> None:
    """Writes the parameters of `step` as safetensors of `dtype` into `folder`, and reads them back.

    Each host writes and reads back its own files; the first writes the index. Raises OSError if a tensor reads back
    otherwise than it was.
    """
    sizes = conversion_table.sizes_of(config)
    tensors = {name: (path, tensor) for path, name, tensor in conversion_table.tensors_of(config)}
    conversion_table.check_params(checkpoints, step, config)
    files = safetensors_folder.plan({name: tensor.their_shape(sizes) for name, (_, tensor) in tensors.items()}, dtype)
    ours = {file: files[file] for file in list(files)[jax.process_index() :: jax.process_count()]}
    names = [name for shapes in ours.values() for name in shapes]
    digests: dict[str, int] = {}
    done: list[int] = []

    def read(names: list[str]) -> Iterator[np.ndarray]:
        leaves = checkpoints.read_params(step, [tensors[name][0] for name in names])
        digests.update((name, digest(leaves[tensors[name][0]], dtype)) for name in names)
        return (leaves.pop(tensors[name][0]) for name in names)

    # Each reading costs some milliseconds, so small arrays are read together.
    num_bytes = {
        name: int(np.prod(shape)) * dtype.itemsize for shapes in ours.values() for name, shape in shapes.items()
    }
    groups = safetensors_folder.shards(num_bytes, GROUP_BYTES)
    leaves = itertools.chain.from_iterable(_one_ahead(read, groups))

    def blocks(name: str) -> Iterator[np.ndarray]:
        view = tensors[name][1].to_theirs(next(leaves), sizes)
        for block in _in_blocks(view):
            done.append(block.size * dtype.itemsize)
            yield (block if view.flags.c_contiguous else _transposed(block)).astype(dtype, copy=False)

    with _told("MB written", sum(num_bytes.values()), done):
        for file, shapes in ours.items():
            safetensors_file.write(folder / file, shapes, dtype, blocks, {"format": "pt"})
        assert next(leaves, None) is None
    if jax.process_index() == 0:
        safetensors_folder.write_index(folder, files, dtype)
    wait_for_all("indexed")
    done.clear()
    reader = Reader(folder, unfinished=True)
    conversion_table.check_tensors(reader, config)

    def read_back(name: str) -> None:
        array = tensors[name][1].to_ours(reader.read(name), sizes)
        if digest(array, dtype) != digests[name]:
            raise OSError(f"{reader.folder}: {name} reads back otherwise than it was written; export again")
        done.append(array.nbytes)

    with _told("MB read back", sum(num_bytes.values()), done), futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(read_back, names))


def check_finite(reader: Reader) -> None:
    """Raises ValueError that names the first tensor of `reader` with a value that is infinite or NaN."""
    done: list[int] = []

    def is_bad(name: str) -> bool:
        shape = reader.shape(name)
        rows = max(1, BLOCK_BYTES // max(1, int(np.prod(shape[1:])) * 4)) if shape else 1
        for start in range(0, shape[0] if shape else 1, rows):
            block = reader.read(name, slice(start, start + rows))
            done.append(block.nbytes)
            if not safetensors_file.is_finite(block, reader.dtype(name)):
                return True
        return False

    names = [name for name in reader.names if reader.dtype(name) in safetensors_file.BIT_MASKS]
    own = names[jax.process_index() :: jax.process_count()]
    with (
        _told("MB checked", reader.num_bytes // jax.process_count(), done),
        futures.ThreadPoolExecutor(NUM_THREADS) as pool,
    ):
        bad = [names.index(name) for name, found in zip(own, pool.map(is_bad, own), strict=True) if found]
    # All hosts learn of it, so that none waits for one that has stopped.
    first = np.min(multihost_utils.process_allgather(np.int32(min(bad, default=len(names)))))
    if first < len(names):
        raise ValueError(f"{reader.folder}: {names[first]} holds values that are infinite or not a number")


def digest(array: np.ndarray, dtype: np.dtype) -> int:
    """A checksum of the values of `array` in order, rounded to `dtype`; neither is ever whole in memory."""
    value = 0
    for block in _in_blocks(array):
        block = block if array.flags.c_contiguous else _transposed(block)
        value = zlib.crc32(block.astype(dtype, copy=False).reshape(-1).view(np.uint8), value)
    return value


def wait_for_all(what: str) -> None:
    """Returns when every host has got to here; `what` tells the places apart."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"conversion: {what}")


def _in_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """`array` in views along its first dim of about BLOCK_BYTES, or of one row if that is more."""
    rows = max(1, BLOCK_BYTES * len(array) // array.nbytes)
    return (array[start : start + rows] for start in range(0, len(array), rows))


def _contiguous(view: np.ndarray) -> np.ndarray:
    """`view` with its values in order in memory. XLA transposes some ten times as fast as NumPy."""
    if view.flags.c_contiguous:
        return view
    array, start = safetensors_file.empty(view.shape, view.dtype), 0
    # In blocks that stay in a processor's cache, into memory that NumPy asks for in huge pages.
    for block in _in_blocks(view):
        array[start : start + len(block)] = _transposed(block)
        start += len(block)
    return array


def _transposed(view: np.ndarray) -> np.ndarray:
    return np.asarray(jax.device_put(view, jax.local_devices(backend="cpu")[0]))


def _one_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` of each item, computed in a thread while the result before it is used."""
    with futures.ThreadPoolExecutor(1) as pool:
        coming = None
        for item in items:
            current, coming = coming, pool.submit(function, item)
            if current is not None:
                yield current.result()
                del current
        if coming is not None:
            yield coming.result()


@contextlib.contextmanager
def _told(name: str, num_bytes: int, done: list[int]) -> Iterator[None]:
    """Within it, progress is told in megabytes from the growing list of bytes `done`."""
    with progress.follow(name, round(num_bytes / MEGABYTE), lambda: round(sum(done) / MEGABYTE)):
        yield
