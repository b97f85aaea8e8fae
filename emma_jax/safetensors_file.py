"""One file in the format safetensors: a JSON header that places each tensor, then their bytes.

The format's own library maps a file into memory to read it and wants all of a file's tensors to write it. Here a part
of a tensor is read, and a part of one written, at a time, on a disk or in a bucket. It knows no folders and models.
"""

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np
from etils import epath

LENGTH = struct.Struct("<Q")  # of the header, in the first bytes of a file
MAX_HEADER_BYTES = 100_000_000  # what the format allows
ALIGNMENT = 8  # of the first tensor in a file
CPU_ALIGNMENT = 64  # of an array in memory
DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in dict(
        F64="f8", F32="f4", F16="f2", BF16=ml_dtypes.bfloat16, I64="i8", I32="i4", I16="i2", I8="i1", U8="u1", BOOL="?"
    ).items()
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
BIT_MASKS = {"F32": (np.uint32, 0x7F800000), "F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80)}  # exponents
CHECKED_BYTES = 2**20  # at a time: what stays in a processor's cache


class Tensor(NamedTuple):
    """Where a file has a tensor: its dtype as the format spells it, and its bytes counted from the file's begin."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path) -> dict[str, Tensor]:
    """The tensors of a file by name, in the order of their bytes.

    Raises ValueError if the file is cut off, or is no file of this format.
    """
    path = epath.Path(path)
    size = path.stat().length
    try:
        with path.open("rb") as file:
            (length,) = LENGTH.unpack(file.read(LENGTH.size))
            if length > min(MAX_HEADER_BYTES, size - LENGTH.size):
                raise ValueError(f"its header would have {length} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        first = LENGTH.size + length
        tensors = {
            name: Tensor(entry["dtype"], tuple(entry["shape"]), *(first + offset for offset in entry["data_offsets"]))
            for name, entry in header.items()
        }
        for name, tensor in tensors.items():
            if tensor.dtype in DTYPES and tensor.end - tensor.start != _num_bytes(tensor.shape, DTYPES[tensor.dtype]):
                raise ValueError(f"{name} has {tensor.end - tensor.start} bytes, which its shape contradicts")
        last = max((tensor.end for tensor in tensors.values()), default=first)
        if size != last:
            raise ValueError(f"it has {size:,} bytes, its header says {last:,}")
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"{path} is damaged or cut off ({error}); fetch it again") from error
    return dict(sorted(tensors.items(), key=lambda item: item[1].start))


def read(path, tensor: Tensor, rows: slice = slice(None)) -> np.ndarray:
    """The `rows` of a tensor along its first dim, in the dtype it is stored in; no other bytes are read."""
    dtype = DTYPES[tensor.dtype]
    start, stop, _ = rows.indices(tensor.shape[0]) if tensor.shape else (0, 1, 1)
    shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
    array = empty(shape, dtype)
    row_bytes = _num_bytes(tensor.shape[1:], dtype)
    with epath.Path(path).open("rb") as file:
        file.seek(tensor.start + start * row_bytes)
        buffer, filled = memoryview(array.reshape(-1).view(np.uint8)), 0
        while filled < len(buffer):
            count = file.readinto(buffer[filled:])
            if not count:
                raise OSError(f"{path} ends before its tensors do")
            filled += count
    return array


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """A new array that begins where a device of jax on a CPU can take it without a copy."""
    size = _num_bytes(shape, dtype)
    memory = np.empty(size + CPU_ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % CPU_ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def is_finite(array: np.ndarray, dtype: str) -> bool:
    """Whether no value of `array`, of the dtype that the format calls `dtype`, is infinite or NaN.

    >>> is_finite(np.array([1, 65504], np.float16), "F16"), is_finite(np.array([1, np.nan], np.float32), "F32")
    (True, False)
    """
    bits, mask = BIT_MASKS[dtype]
    flat, count = array.reshape(-1).view(bits), CHECKED_BYTES // np.dtype(bits).itemsize
    return all((flat[i : i + count] & bits(mask)).max() < mask for i in range(0, flat.size, count))


def write(
    path,
    shapes: Mapping[str, Sequence[int]],
    dtype: np.dtype,
    blocks: Callable[[str], Iterable[np.ndarray]],
    metadata: Mapping[str, str],
) -> None:
    """Writes the tensors of the given shapes, each the concatenation of `blocks(name)` along its first dim, as `dtype`.

    Blocks are contiguous arrays of `dtype` and are asked for in order. Raises OSError, naming the file, if it cannot be
    written.
    """
    header, offset = {"__metadata__": dict(metadata)}, 0
    for name, shape in shapes.items():
        end = offset + _num_bytes(shape, dtype)
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    try:
        with epath.Path(path).open("wb") as file:
            file.write(LENGTH.pack(len(text)) + text)
            for name, shape in shapes.items():
                written = 0
                for block in blocks(name):
                    assert block.dtype == dtype and block.flags.c_contiguous, name
                    file.write(memoryview(block.reshape(-1).view(np.uint8)))
                    written += block.nbytes
                assert written == _num_bytes(shape, dtype), name
    except OSError as error:
        raise OSError(f"{os.fspath(path)} could not be written: {error.strerror or error}") from error


def _num_bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize
