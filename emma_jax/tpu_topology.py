"""TPU slices by the user's name, and what a chip of each generation has: v5p:4x4x4 as the torus that it really is.

`python -m emma_jax.tpu_topology` prints the compiler flags recommended for this machine's TPU, for LIBTPU_INIT_ARGS.
Owns all figures of hardware and all flags; compiles nothing.
"""

import dataclasses
import functools
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import jax
from jax.experimental import topologies

from emma_jax import command_line

GIB = 2**30

# libtpu then asks nothing of this machine, lets other programs compile at the same time, and is silent.
COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_ACCELERATOR_TYPE": "v5p-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

# Gathers of weights and reductions of gradients run beside compute, a part of each within a fusion. libtpu has this for
# v5e alone: on others it warns of wrong results, or refuses.
_V5E_FLAGS = {
    "xla_tpu_enable_async_collective_fusion": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter": "true",
    "xla_tpu_enable_async_collective_fusion_multiple_steps": "true",
    "xla_tpu_overlap_compute_collective_tc": "true",
    "xla_enable_async_all_gather": "true",
    "xla_enable_async_all_reduce": "true",
}
# What a fusion may have of a core's fast memory, which is 64 MiB on v5p and 128 MiB on v6e. The default, 16 MiB, makes
# tiles so small that matmuls of the size of an 8B model reach 84% of peak; with three quarters it is 96%.
_VMEM_FLAG = "xla_tpu_scoped_vmem_limit_kib"


@dataclasses.dataclass(frozen=True)
class Generation:
    """One chip of a TPU generation, as one device, and how the compiler calls it.

    Peak, clock and memory are from Google's system architecture pages, the rate of a link (one way, one of
    `2 * num_dims`) is that measured in "How to Scale Your Model" (Austin et al. 2025, chapter 2).
    """

    name: str
    compiler_name: str
    chip_config: str
    num_dims: int
    peak_flops_per_second: float  # bfloat16
    clock_hz: float  # of the compiler's cycles
    hbm_bytes: int  # what the compiler lets a program have
    hbm_bytes_per_second: float
    link_bytes_per_second: float
    pci_device: str
    flags: Mapping[str, str]

    @property
    def slice_example(self) -> str:
        """A name of a slice of this generation."""
        return f"{self.name}:" + ("4x4x4" if self.num_dims == 3 else "16x16")


GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            "v4", "v4", "megacore", 3, 275e12, 1.05e9, int(30.75 * GIB), 1.228e12, 4.5e10, "0x005e", {}
        ),
        Generation(
            "v5e", "v5e", "default", 2, 197e12, 1.5e9, int(15.75 * GIB), 8.1e11, 4.5e10, "0x0063", _V5E_FLAGS
        ),
        Generation(
            "v5p", "v5", "megacore", 3, 459e12, 1.75e9, int(95.74 * GIB), 2.765e12, 9e10, "0x0062",
            {_VMEM_FLAG: "49152"},
        ),
        Generation(
            "v6e", "v6e", "default", 2, 918e12, 1.75e9, int(31.25 * GIB), 1.64e12, 9e10, "0x006f",
            {_VMEM_FLAG: "98304"},
        ),
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: its generation, the chips along each of its dims, and which dims are closed to rings."""

    generation: Generation
    dims: tuple[int, ...]
    wrap: tuple[bool, ...]

    @property
    def name(self) -> str:
        """As the user calls it.

        >>> parse("v5p:4x4x8").name
        'v5p:4x4x8'
        """
        return f"{self.generation.name}:" + "x".join(map(str, self.dims))

    @property
    def num_chips(self) -> int:
        """The number of chips, each of which is one device."""
        return math.prod(self.dims)

    def devices(self) -> list[jax.Device]:
        """Devices to compile for, though no TPU is there. Raises ValueError where libtpu is not installed."""
        command_line.require_extra("tpu", "libtpu")
        for name, value in COMPILE_ONLY.items():
            os.environ.setdefault(name, value)
        pad = 3 - len(self.dims)
        host = (2, 2, 1) if min(self.dims[:2]) > 1 else (1, 1, 1)
        return topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{self.generation.compiler_name}:" + "x".join(map(str, self.dims)),
            chip_config_name=self.generation.chip_config,
            chips_per_host_bounds=host,
            num_slices=1,
            wrap=self.wrap + (False,) * pad,
        ).devices

    def links(self, coordinates: Sequence[Sequence[int]]) -> int:
        """How many links bring data at once into the worst placed of the chips of a group that works together.

        A dim that they fill and that is closed gives two links to each, any other dim along which they lie one.

        >>> parse("v5p:4x4x4").links([(x, y, 0) for x in range(4) for y in range(4)])
        4
        >>> parse("v5e:4x4").links([(x, 0) for x in range(4)])
        1
        """
        along = [len({point[dim] for point in coordinates}) for dim in range(len(self.dims))]
        rings = zip(along, self.dims, self.wrap, strict=True)
        return max(1, sum(0 if size == 1 else 2 if wrap and size == whole else 1 for size, whole, wrap in rings))


def parse(name: str) -> Topology:
    """The slice of a name such as v5p:4x4x4 or v5e:16x16, on which dims are closed where Google closes them.

    On v4 and v5p all dims are, where each is a multiple of 4; on v5e and v6e those of 16, the whole pod.

    >>> parse("v5e:8x16").wrap, parse("v5p:4x4x8").wrap, parse("v5p:2x4x4").wrap
    ((False, True), (True, True, True), (False, False, False))
    >>> parse("v5p-128")
    Traceback (most recent call last):
    ValueError: there is no topology 'v5p-128'; name chips along each dim, as in v5p:4x4x4 (v4, v5e, v5p, v6e)
    """
    generation, _, sizes = name.partition(":")
    if generation not in GENERATIONS or not re.fullmatch(r"\d+(x\d+)*", sizes):
        known = GENERATIONS.get(generation.split("-")[0], GENERATIONS["v5p"]).slice_example
        raise ValueError(
            f"there is no topology {name!r}; name chips along each dim, as in {known} ({', '.join(GENERATIONS)})"
        )
    chip = GENERATIONS[generation]
    dims = tuple(int(size) for size in sizes.split("x"))
    if len(dims) != chip.num_dims or min(dims) < 1:
        raise ValueError(f"a slice of {generation} has {chip.num_dims} dims, {name!r} does not: {chip.slice_example}")
    if any(size > 1 and size % 2 for size in dims):
        raise ValueError(f"{name!r} has a dim that is odd, which no slice has; {chip.slice_example} is one")
    cubes = all(size % 4 == 0 for size in dims)
    return Topology(chip, dims, tuple(cubes if chip.num_dims == 3 else size == 16 for size in dims))


def attached_generation(pci: pathlib.Path = pathlib.Path("/sys/bus/pci/devices")) -> Generation | None:
    """The generation of the TPUs in this machine, from its list of PCI devices; None if it has none."""
    for device in sorted(pci.glob("*")):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "device"))
        except OSError:
            continue
        if vendor == "0x1ae0":  # Google
            for generation in GENERATIONS.values():
                if generation.pci_device == kind:
                    return generation
    return None


@functools.cache
def flags_line(generation: str) -> str:
    """The flags of a generation as LIBTPU_INIT_ARGS has them.

    >>> flags_line("v5e").split()[0]
    '--xla_tpu_enable_async_collective_fusion=true'
    """
    return " ".join(f"--{name}={value}" for name, value in GENERATIONS[generation].flags.items())


if __name__ == "__main__":
    attached = attached_generation()
    print(flags_line(attached.name) if attached else "")
