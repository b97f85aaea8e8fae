"""Folders of safetensors as Hugging Face lays them out: one file, or shards with an index; read and written by name.

It knows file names, the index, shard sizes and how a folder becomes complete; nothing of models, JSON configs or jax.
"""

import contextlib
import json
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # of tensors in one file, the size of the shards on the Hub


class Reader:
    """The tensors of a folder. Opening it reads headers only.

    Raises ValueError, naming the file or tensor, if there is no safetensors file, one that the index names is missing
    or cut off, or a file lacks a tensor that the index puts there.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        index = self.folder / INDEX_FILE
        weight_map = read_json(index).get("weight_map") if index.exists() else None
        if weight_map is None and not (self.folder / SINGLE_FILE).exists():
            pickles = sorted(path.name for path in self.folder.glob("*.bin"))
            hint = f", only {pickles[0]}; save it with safe_serialization=True" if pickles else ""
            raise ValueError(f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}{hint}")
        files = sorted(set(weight_map.values())) if weight_map else [SINGLE_FILE]
        self._files = {file: self._open(file) for file in files}
        self._where = weight_map or dict.fromkeys(self._files[SINGLE_FILE].keys(), SINGLE_FILE)
        held = {file: set(handle.keys()) for file, handle in self._files.items()}
        for name, file in self._where.items():
            if name not in held[file]:
                raise ValueError(f"{self.folder / file} lacks the tensor {name} that {INDEX_FILE} puts there")

    @property
    def names(self) -> tuple[str, ...]:
        """All tensors."""
        return tuple(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from its file's header."""
        return tuple(self._slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as safetensors spells it: F32, BF16, F16, ..."""
        return self._slice(name).get_dtype()

    def read(self, name: str) -> np.ndarray:
        """A tensor, in the dtype it is stored in."""
        return self._files[self._where[name]].get_tensor(name)

    def _slice(self, name: str):
        return self._files[self._where[name]].get_slice(name)

    def _open(self, file: str):
        path = self.folder / file
        if not path.exists():
            raise ValueError(f"{self.folder} lacks the file {file} that {INDEX_FILE} names; fetch it again")
        try:
            return safe_open(path, framework="np")
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or cut off ({error}); fetch it again") from error


def write(folder, shapes: Mapping[str, Sequence[int]], dtype, read: Callable[[str], np.ndarray]) -> None:
    """Writes the tensors `read(name)` of the given shapes as `dtype`, with an index if they need several files.

    One file's tensors are in memory at a time. Raises OSError if a file cannot be written.
    """
    folder, dtype = pathlib.Path(folder), np.dtype(dtype)
    num_bytes = {name: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()}
    groups = shards(num_bytes, SHARD_BYTES)
    weight_map = {}
    for number, names in enumerate(groups, 1):
        file = SINGLE_FILE if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        # safetensors writes the memory behind an array: a transposed view would be stored with its values mixed up.
        tensors = {name: np.ascontiguousarray(read(name), dtype) for name in names}
        try:
            save_file(tensors, folder / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{folder / file} could not be written: {error}") from error
        weight_map.update(dict.fromkeys(names, file))
    if len(groups) > 1:
        write_json(folder / INDEX_FILE, {"metadata": {"total_size": sum(num_bytes.values())}, "weight_map": weight_map})


def shards(num_bytes: Mapping[str, int], limit: int) -> list[list[str]]:
    """The names in order, cut into groups of at most `limit` bytes; a larger tensor is a group of its own.

    >>> shards({"a": 3, "b": 2, "c": 4, "d": 9, "e": 1}, limit=6)
    [['a', 'b'], ['c'], ['d'], ['e']]
    """
    groups, size = [[]], 0
    for name, length in num_bytes.items():
        if groups[-1] and size + length > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += length
    return groups


@contextlib.contextmanager
def new_folder(target) -> Iterator[pathlib.Path]:
    """A folder beside `target` to write into; it becomes `target` when the block ends, and vanishes if that fails.

    Raises ValueError if `target` exists and is not an empty folder.
    """
    target = pathlib.Path(target).absolute()
    check_new(target)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_new(target) -> None:
    """Raises ValueError if `target` exists and is not an empty folder."""
    target = pathlib.Path(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"{target} exists already; name a new folder, or remove it first")


def read_json(path) -> dict:
    """The JSON object in the file `path`; raises ValueError if it is missing, cut off or no object."""
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, not an object")
    return content


def write_json(path, content: Mapping) -> None:
    """Writes `content` as the indented JSON file `path`."""
    pathlib.Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
