"""The text of a compiled XLA program as computations of instructions: shapes, operands, trip counts, groups, matmuls.

It knows the grammar of the text and no time; that is `compiled_cost`.
"""

import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^  (?:ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
    r"\b(calls|body|condition|to_apply|true_computation|false_computation|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_BITS = {"pred": 8, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation. `shape` and `attributes` are text; `operands` are names in the same computation."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    literal: str  # what stands between the parentheses
    attributes: str
    is_root: bool

    @functools.cached_property
    def arrays(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(dtype, dims) of each array in the shape, which may be a tuple."""
        return tuple((dtype, _dims(dims)) for dtype, dims in _ARRAY.findall(self.shape))

    @functools.cached_property
    def num_bytes(self) -> int:
        """Bytes of the result without the padding of its layout."""
        return sum(_size(array) for array in self.arrays)

    @functools.cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Names of the computations that it calls, by role: calls, body, condition, ..."""
        return {role: tuple(re.findall(r"[\w.\-]+", names)) for role, names in _CALLED.findall(self.attributes)}

    @functools.cached_property
    def cycles(self) -> int:
        """The compiler's estimate; 0 where it gives none."""
        return int(self.quoted("estimated_cycles") or 0)

    @property
    def op_name(self) -> str:
        """The name of the operation in the traced program; "" where the compiler made it."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

    def quoted(self, key: str) -> str:
        """The string of a key in backend_config; "" if it has none."""
        found = re.search(rf'"{key}":"([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Module:
    """Computations by name, each its instructions in the order of the schedule; `entry` is where it starts."""

    entry: str
    computations: Mapping[str, Sequence[Instruction]]

    def named(self, computation: str) -> dict[str, Instruction]:
        """The instructions of a computation by name."""
        return {instruction.name: instruction for instruction in self.computations[computation]}

    def trip_count(self, loop: Instruction, within: str) -> int:
        """How often the body of a while instruction of the computation `within` runs.

        Raises ValueError if the count is not in the text: a loop that depends on values has no cost.
        """
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if found:
            return int(found[1])
        (condition,) = loop.called["condition"]
        there, here = self.named(condition), self.named(within)
        test = next(i for i in there.values() if i.is_root)
        start = here[loop.operands[0]].operands  # of the tuple

        def value(name: str) -> int | None:
            instruction = there[name]
            if instruction.opcode == "constant":
                return int(instruction.literal)
            if instruction.opcode == "get-tuple-element":
                return _constant(here, start[int(re.search(r"index=(\d+)", instruction.attributes)[1])])
            return None

        if test.opcode == "fusion":  # a comparison alone
            bounds = [value(name) for name in test.operands]
            (inner,) = test.called["calls"]
            test = next(i for i in self.computations[inner] if i.is_root)
        else:
            bounds = [value(name) for name in test.operands]
        if test.opcode == "compare" and "direction=LT" in test.attributes and bounds[-1] is not None:
            return bounds[1] - (bounds[0] or 0)
        raise ValueError(f"loop {loop.name} has no trip count in its condition {condition}: {test.attributes[:80]}")


def parse(text: str) -> Module:
    """The module that `compiled.as_text()` prints. Raises ValueError if it is not the text of one."""
    computations: dict[str, list[Instruction]] = {}
    entry, current, pending = "", None, ""
    for line in itertools.chain(text.splitlines(), ["}"]):
        starts, ends = _INSTRUCTION.match(line), line == "}" or line.startswith("}, execution_thread=")
        if pending and (starts or ends):
            current.append(_instruction(pending))
            pending = ""
        if starts:
            pending = line
        elif ends:
            current = None
        elif current is None and (header := _HEADER.match(line)):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif pending:  # attributes of Pallas kernels hold line breaks
            pending += line
    if not entry:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY computation")
    return Module(entry, computations)


def first_group(attributes: str, num_devices: int) -> Sequence[int]:
    """The partitions of the first replica group, in any of the three notations.

    >>> first_group("replica_groups={{0,2},{1,3}}, x", 4)
    [0, 2]
    >>> first_group("replica_groups=[4,2]<=[2,4]T(1,0), x", 8)
    [0, 4]
    >>> first_group("replica_groups=mesh['a'=2,'b'=4] {'b'}, x", 8)
    [0, 1, 2, 3]
    """
    everyone = list(range(num_devices))
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return [int(device) for device in listed[1].split(",")]
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        groups, sizes, order = ([int(n) for n in text.split(",")] if text else None for text in iota.groups())
        return np.arange(math.prod(sizes)).reshape(sizes).transpose(order).reshape(groups)[0].tolist()
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        parts = np.arange(math.prod(sizes.values())).reshape(list(sizes.values()))
        together = re.findall(r"'([^']+)'", mesh[2])
        return parts[tuple(slice(None) if name in together else 0 for name in sizes)].ravel().tolist()
    return everyone


def dot_flops(instruction: Instruction, left: Sequence[int], right: Sequence[int]) -> int:
    """FLOPs of a matmul, written as the convolution that it is to the compiler, whose windows meet padding."""
    ((_, out),) = instruction.arrays[:1]
    if instruction.opcode == "dot":
        dims = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)[1]
        return 2 * math.prod(out) * math.prod(left[int(dim)] for dim in dims.split(",") if dim)
    left_labels, right_labels, out_labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes).groups()
    flops = 2 * out[out_labels.index("b")] * out[out_labels.index("f")] * right[right_labels.index("i")]
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    for number in range(len(out) - 2):
        each = {name: text.split("x")[number] for name, text in fields.items()}
        positions = np.arange(out[out_labels.index(str(number))]) * int(each.get("stride", 1))
        positions -= int(each.get("pad", "0_0").split("_")[0])
        dilation, holes = int(each.get("rhs_dilate", 1)), int(each.get("lhs_dilate", 1))
        length = (left[left_labels.index(str(number))] - 1) * holes + 1
        meets = 0
        for offset in range(right[right_labels.index(str(number))]):
            at = positions + offset * dilation
            meets += int(np.sum((at >= 0) & (at < length) & (at % holes == 0)))
        flops *= meets
    return flops


def _instruction(line: str) -> Instruction:
    name = _INSTRUCTION.match(line)[1]
    rest = line.split(" = ", 1)[1]
    shape_end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:shape_end], rest[shape_end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    literal = rest[opening + 1 : closing - 1]
    operands = tuple(_NAME.findall(literal))
    return Instruction(
        name, rest[:opening], shape, operands, literal, rest[closing:], line.lstrip().startswith("ROOT ")
    )


def _closing(text: str, opening: int) -> int:
    """The index after the parenthesis that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    raise ValueError(f"a parenthesis is not closed in {text[:80]!r}")


def _constant(instructions: Mapping[str, Instruction], name: str) -> int | None:
    """The integer that a name stands for, through copies; None if it is computed."""
    instruction = instructions[name]
    while instruction.opcode in ("copy", "copy-start", "copy-done", "bitcast"):
        instruction = instructions[instruction.operands[0]]
    return int(instruction.literal) if instruction.opcode == "constant" else None


def _dims(text: str) -> tuple[int, ...]:
    return tuple(json.loads(f"[{text}]"))


def _size(array: tuple[str, tuple[int, ...]]) -> int:
    dtype, dims = array
    bits = _BITS.get(dtype) if dtype in _BITS else int(re.search(r"\d+", dtype)[0])
    size = bits
    for dim in dims:
        size *= dim
    return -(-size // 8)
