"""What a compiled TPU program costs, read off its text: compute, kernels, collectives that nothing hides, their sum.

One rule for any program, ours or another's. Compute is the compiler's own estimate of cycles per fusion, times the trip
counts of the loops around it. A Pallas kernel has no estimate: it takes the time of the matmul FLOPs that it executes
at KERNEL_UTILIZATION of the chip's peak, or of its arguments and results once through HBM, if that is longer. A
collective takes the time of the bytes that a chip must receive over the links that its group has. What is scheduled
between an asynchronous collective's start and its end hides it; where fusions carry its parts, only these do.
Latencies, and contention for HBM and links, are left out: so the sum is a bound.
"""

import base64
import dataclasses
import itertools
import re
from collections.abc import Sequence

from emma_jax import hlo_text, kernel_flops
from emma_jax.hlo_text import Instruction
from emma_jax.tpu_topology import Topology

KERNEL_UTILIZATION = 0.5
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_KERNEL_BODY = re.compile(r'"body":"([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Line:
    """What one instruction adds to a step. All but `times` is of all its `times` executions together.

    `seconds` is of a fusion or kernel the time that it runs, of a collective the time that the program waits for it.
    `flops` are of matmuls; `num_bytes` those of a collective's whole result (its argument, if it scatters).
    """

    kind: str  # fusion, kernel, or one of KINDS
    name: str
    op_name: str
    times: int
    seconds: float
    flops: int = 0
    num_bytes: int = 0

    def repeated(self, times: int) -> "Line":
        """The line of a loop's body, for the whole loop."""
        return dataclasses.replace(
            self,
            times=self.times * times,
            seconds=self.seconds * times,
            flops=self.flops * times,
            num_bytes=self.num_bytes * times,
        )


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one execution of a program on one chip."""

    lines: Sequence[Line]

    @property
    def static_seconds(self) -> float:
        """Compute outside of kernels."""
        return self._sum("seconds", "fusion")

    @property
    def kernel_seconds(self) -> float:
        """Pallas kernels."""
        return self._sum("seconds", "kernel")

    @property
    def exposed_collective_seconds(self) -> float:
        """Waiting for collectives."""
        return self._sum("seconds", *KINDS)

    @property
    def bound_seconds(self) -> float:
        """All three together."""
        return self._sum("seconds", "fusion", "kernel", *KINDS)

    @property
    def matmul_flops(self) -> int:
        """FLOPs of matmuls that a chip executes, in kernels and outside, recomputation included."""
        return self._sum("flops", "fusion", "kernel")

    @property
    def collectives(self) -> dict[str, dict[str, int]]:
        """kind -> count and bytes, for the kinds that occur."""
        return {
            kind: {"count": self._sum("times", kind), "bytes": self._sum("num_bytes", kind)}
            for kind in KINDS
            if any(line.kind == kind for line in self.lines)
        }

    def _sum(self, field: str, *kinds: str):
        return sum(getattr(line, field) for line in self.lines if line.kind in kinds)


def read(text: str, topology: Topology, coordinates: Sequence[Sequence[int]] = ()) -> Cost:
    """The cost of the program that `compiled.as_text()` gives, on `topology`.

    `coordinates` are those of the device of each partition; without them partitions lie in the order of a torus.
    Raises ValueError for what cannot be costed: a loop without a trip count, a kernel that cannot be read.
    """
    reader = _Reader(hlo_text.parse(text), topology, coordinates or list(itertools.product(*map(range, topology.dims))))
    return Cost(reader.execute(reader.module.entry))


@dataclasses.dataclass
class _Flight:
    """A collective that has started and not ended: its line, with the seconds that are still to go."""

    line: Line
    carriers: str  # the channel whose number the fusions carry that bring it on; "" if all compute hides it


class _Reader:
    """One walk through a program. `execute` follows the schedule of a computation."""

    def __init__(self, module: hlo_text.Module, topology: Topology, coordinates: Sequence[Sequence[int]]):
        self.module, self.topology, self.chip = module, topology, topology.generation
        self.coordinates = coordinates

    def execute(self, computation: str) -> list[Line]:
        """The lines of one execution. It ends when all collectives that it started have ended."""
        flights: dict[str, _Flight] = {}  # by the name of the start, or by the channel of a fused one
        lines: list[Line] = []
        for instruction in self.module.computations[computation]:
            collective = self._collective(instruction, computation)
            ran: list[Line] = []
            if collective is None or collective.role == "carry":
                ran = self._lines(instruction, computation)
                _hide(flights.values(), ran, collective.channel if collective else "")
            elif collective.role == "start":
                flights[collective.key] = _Flight(self._collective_line(collective), collective.channel)
            elif collective.role == "whole":
                ran = [self._collective_line(collective)]
            elif collective.key in flights:  # its end
                ran = [flights.pop(collective.key).line]
            lines += ran
        return lines + [flight.line for flight in flights.values()]

    def _lines(self, instruction: Instruction, computation: str) -> list[Line]:
        """What an instruction that is no collective adds, with all that it calls."""
        if instruction.opcode == "while":
            times = self.module.trip_count(instruction, computation)
            (body,) = instruction.called["body"]
            return [line.repeated(times) for line in self.execute(body)]
        if instruction.opcode in ("call", "conditional"):
            branches = [self.execute(name) for names in instruction.called.values() for name in names]
            return max(branches, key=_seconds)
        if instruction.opcode == "custom-call" and '"tpu_custom_call"' in instruction.attributes:
            return [self._kernel(instruction, computation)]
        flops = self._matmul_flops(instruction, computation)
        if not instruction.cycles and not flops:
            return []
        seconds = instruction.cycles / self.chip.clock_hz
        return [Line("fusion", instruction.name, instruction.op_name, 1, seconds, flops)]

    def _kernel(self, instruction: Instruction, computation: str) -> Line:
        flops = kernel_flops.matmul_flops(base64.b64decode(_KERNEL_BODY.search(instruction.attributes)[1]))
        num_bytes = instruction.num_bytes + self._argument_bytes(instruction, computation)
        seconds = max(
            flops / (KERNEL_UTILIZATION * self.chip.peak_flops_per_second),
            num_bytes / self.chip.hbm_bytes_per_second,
        )
        return Line("kernel", instruction.name, instruction.op_name, 1, seconds, flops)

    def _matmul_flops(self, instruction: Instruction, computation: str) -> int:
        if instruction.opcode in ("convolution", "dot"):
            there = self.module.named(computation)
            return hlo_text.dot_flops(instruction, *(there[name].arrays[0][1] for name in instruction.operands[:2]))
        called = instruction.called.get("calls", ()) if instruction.opcode == "fusion" else ()
        return sum(self._matmul_flops(inner, name) for name in called for inner in self.module.computations[name])

    def _argument_bytes(self, instruction: Instruction, computation: str) -> int:
        there = self.module.named(computation)
        return sum(there[name].num_bytes for name in instruction.operands)

    def _collective(self, instruction: Instruction, computation: str) -> "_Collective | None":
        """What an instruction is to a collective; None if nothing.

        It is one, or its start or end, or a fusion around one, which starts it, carries a part of it beside compute,
        ends it, or is all of it.
        """
        if instruction.opcode.endswith("-done"):
            return _Collective("end", instruction.operands[0])
        if instruction.opcode.removesuffix("-start") in KINDS:
            role = "start" if instruction.opcode.endswith("-start") else "whole"
            return self._described(role, instruction.name, instruction, computation)
        if instruction.opcode not in ("fusion", "async-start") or (inner := self._inner(instruction)) is None:
            return None
        if instruction.opcode == "async-start":
            return self._described("start", instruction.name, *inner)
        channel = re.search(r"channel_id=(\d+)", inner[0].attributes)[1]
        targets = " ".join(i.attributes for i in self.module.computations[inner[1]] if i.opcode == "custom-call")
        for role, target in (("start", "AsyncCollectiveStart"), ("end", "AsyncCollectiveDone")):
            if target in targets:
                return self._described(role, channel, *inner, channel)
        if "async_collective_fusion_config" in inner[0].attributes:
            return _Collective("carry", channel, channel)
        return self._described("whole", channel, *inner)

    def _inner(self, instruction: Instruction) -> tuple[Instruction, str] | None:
        """The collective in what a fusion or async start calls, and the computation that it is in."""
        for name in instruction.called.get("calls", ()):
            for inner in self.module.computations[name]:
                if inner.opcode in KINDS:
                    return inner, name
        return None

    def _described(
        self, role: str, key: str, instruction: Instruction, computation: str, channel: str = ""
    ) -> "_Collective":
        kind = instruction.opcode.removesuffix("-start")
        here = self.module.computations[computation]
        # In a fusion, an all-reduce of which a slice is kept is a reduce-scatter.
        if kind == "all-reduce" and computation != self.module.entry and here[-1].opcode == "dynamic-slice":
            kind = "reduce-scatter"
        num_bytes = self._argument_bytes(instruction, computation)
        group = hlo_text.first_group(instruction.attributes, len(self.coordinates))
        return _Collective(role, key, channel, kind, num_bytes, group, instruction)

    def _collective_line(self, collective: "_Collective") -> Line:
        """The collective with the seconds that it takes if nothing hides it."""
        size = len(collective.group)
        links = self.topology.links([self.coordinates[device] for device in collective.group])
        whole = collective.num_bytes * (size if collective.kind == "all-gather" else 1)
        received = whole * (size - 1) / size * (2 if collective.kind == "all-reduce" else 1)
        if collective.kind == "collective-permute":
            links, received = 1, whole
        seconds = received / (links * self.chip.link_bytes_per_second)
        instruction = collective.instruction
        return Line(collective.kind, instruction.name, instruction.op_name, 1, seconds, num_bytes=whole)


@dataclasses.dataclass(frozen=True)
class _Collective:
    """What an instruction is to a collective."""

    role: str  # whole, start, carry or end
    key: str  # the same for start and end
    channel: str = ""  # of one whose parts are carried by fusions, which have the same channel
    kind: str = ""
    num_bytes: int = 0  # of its arguments on a chip
    group: Sequence[int] = ()  # partitions of one group
    instruction: Instruction | None = None


def _seconds(lines: Sequence[Line]) -> float:
    return sum(line.seconds for line in lines)


def _hide(flights, ran: Sequence[Line], channel: str) -> None:
    """Takes the compute in `ran` from what is to go of collectives; the links carry one at a time, first come first."""
    available = sum(line.seconds for line in ran if line.kind in ("fusion", "kernel"))
    for flight in flights:
        if not flight.carriers or flight.carriers == channel:
            hidden = min(available, flight.line.seconds)
            flight.line = dataclasses.replace(flight.line, seconds=flight.line.seconds - hidden)
            available -= hidden
