"""Folders of safetensors as Hugging Face lays them out: one file, or shards with an index; local or in a bucket.

It knows file names, the index, shard sizes and how a folder becomes complete; the format of a file is
`safetensors_file`'s. It knows nothing of models and jax.
"""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures

import fsspec
import numpy as np
from etils import epath

from emma_jax import safetensors_file

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # of tensors in one file, the size of the shards on the Hub
UNFINISHED_FILE = "UNFINISHED"  # in a folder of a bucket that is being written

# What epath reads buckets with remembers each listing, and so would miss what another host has written since.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False


class Reader:
    """The tensors of a folder. Opening it reads headers only; it can be used from several threads.

    Raises ValueError, naming the file or tensor, if there is no safetensors file, one that the index names is missing
    or cut off, or a file lacks a tensor that the index puts there.
    """

    def __init__(self, folder, unfinished: bool = False):
        self.folder = epath.Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        if (self.folder / UNFINISHED_FILE).exists() and not unfinished:
            raise ValueError(f"{folder} is an export that was not finished ({UNFINISHED_FILE} is there); export again")
        index = self.folder / INDEX_FILE
        weight_map = _weight_map(index) if index.exists() else None
        if weight_map is None and not (self.folder / SINGLE_FILE).exists():
            pickles = sorted(path.name for path in self.folder.glob("*.bin"))
            hint = f", only {pickles[0]}; save it with safe_serialization=True" if pickles else ""
            raise ValueError(f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}{hint}")
        files = sorted(set(weight_map.values())) if weight_map else [SINGLE_FILE]
        with futures.ThreadPoolExecutor(len(files)) as pool:
            headers = dict(zip(files, pool.map(self._header, files), strict=True))
        self._file_of = weight_map or dict.fromkeys(headers[SINGLE_FILE], SINGLE_FILE)
        for name, file in self._file_of.items():
            if name not in headers[file]:
                raise ValueError(f"{self.folder / file} lacks the tensor {name} that {INDEX_FILE} puts there")
        self._tensors = {name: headers[file][name] for name, file in self._file_of.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """All tensors, file by file in the order of their bytes."""
        return tuple(sorted(self._tensors, key=lambda name: (self._file_of[name], self._tensors[name].start)))

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.end - tensor.start for tensor in self._tensors.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from its file's header."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as safetensors spells it: F32, BF16, F16, ..."""
        return self._tensors[name].dtype

    def numpy_dtype(self, name: str) -> np.dtype:
        """The dtype of a tensor."""
        return safetensors_file.DTYPES[self.dtype(name)]

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The `rows` of a tensor along its first dim, in the dtype it is stored in; no other bytes are read."""
        return safetensors_file.read(self.folder / self._file_of[name], self._tensors[name], rows)

    def _header(self, file: str) -> dict[str, safetensors_file.Tensor]:
        if not (self.folder / file).exists():
            raise ValueError(f"{self.folder} lacks the file {file} that {INDEX_FILE} names; fetch it again")
        return safetensors_file.read_header(self.folder / file)


def plan(shapes: Mapping[str, Sequence[int]], dtype: np.dtype) -> dict[str, dict[str, Sequence[int]]]:
    """The files that tensors of these shapes go to in order, and for each its part of `shapes`."""
    num_bytes = {name: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()}
    groups = shards(num_bytes, SHARD_BYTES)
    return {
        SINGLE_FILE if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors": {
            name: shapes[name] for name in names
        }
        for number, names in enumerate(groups, 1)
    }


def write_index(folder, files: Mapping[str, Mapping[str, Sequence[int]]], dtype: np.dtype) -> None:
    """Writes the index of the files of a `plan`, if they are several."""
    if len(files) > 1:
        total = sum(math.prod(shape) * dtype.itemsize for shapes in files.values() for shape in shapes.values())
        weight_map = {name: file for file, shapes in files.items() for name in shapes}
        write_json(epath.Path(folder) / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})


def shards(num_bytes: Mapping[str, int], limit: int) -> list[list[str]]:
    """The names in order, cut into groups of at most `limit` bytes; a larger tensor is a group of its own.

    >>> shards({"a": 3, "b": 2, "c": 4, "d": 9, "e": 1}, limit=6)
    [['a', 'b'], ['c'], ['d'], ['e']]
    """
    groups, size = [], 0
    for name, length in num_bytes.items():
        if not groups or size + length > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += length
    return groups


def unfinished(target) -> epath.Path:
    """The folder that is written into until it is complete and becomes the folder `target`.

    On a disk it lies beside `target` and is renamed. A bucket has no renaming: there it is `target` itself, and holds
    a file that says it is unfinished.
    """
    if is_bucket(target):
        return epath.Path(target)
    target = epath.Path(os.path.abspath(target))
    return target.with_name(f"{target.name}.partial")


def begin(target) -> None:
    """Makes the empty folder `unfinished(target)`; raises ValueError if `target` cannot be written."""
    check_new(target)
    folder = unfinished(target)
    if folder.exists():
        folder.rmtree()
    folder.mkdir(parents=True)
    if is_bucket(target):
        (folder / UNFINISHED_FILE).write_text("This folder is being written, or its export failed.\n")


def check_space(target, num_bytes: int) -> None:
    """Raises OSError if the disk that `target` is to be on has less room than that; a bucket always has it."""
    if is_bucket(target):
        return
    folder = epath.Path(os.path.abspath(target)).parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise OSError(f"{target} takes {num_bytes:,} bytes and its disk has {free:,} left: free some, or name another")


def finish(target) -> None:
    """Makes `unfinished(target)` the complete folder `target`."""
    folder = unfinished(target)
    if is_bucket(target):
        (folder / UNFINISHED_FILE).unlink()
        return
    target = epath.Path(os.path.abspath(target))
    if target.exists():
        target.rmdir()  # empty, as `begin` has checked
    folder.rename(target)


@contextlib.contextmanager
def removed_on_failure(folder) -> Iterator[None]:
    """Within it, an exception removes `folder`, if that is not None, before it goes on."""
    try:
        yield
    except BaseException:
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.rmtree()
        raise


def check_new(target) -> None:
    """Raises ValueError if `target` exists and is neither an empty folder nor an unfinished export."""
    target = epath.Path(target)
    is_empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not is_empty and not (is_bucket(target) and (target / UNFINISHED_FILE).exists()):
        raise ValueError(f"{target} exists already; name a new folder, or remove it first")


def is_bucket(path) -> bool:
    """Whether a path is of an object store, where nothing can be renamed or appended to.

    >>> is_bucket("gs://models/llama"), is_bucket("/models/llama")
    (True, False)
    """
    return "://" in os.fspath(path)


def read_json(path) -> dict:
    """The JSON object in the file `path`; raises ValueError if it is missing, cut off or no object."""
    try:
        content = json.loads(epath.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, not an object")
    return content


def write_json(path, content: Mapping) -> None:
    """Writes `content` as the indented JSON file `path`."""
    epath.Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _weight_map(index: epath.Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map that says which file holds which tensor; fetch it again")
    if wrong := [file for file in weight_map.values() if not isinstance(file, str) or "/" in file]:
        raise ValueError(f"{index} names {wrong[0]!r}, which is no file of its folder; fetch it again")
    return weight_map
