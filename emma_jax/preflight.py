"""A run on a TPU pod, before there is one: `python -m emma_jax.preflight --config=CONFIG --topology=v5p:4x4x4`.

Compiles the step of `program.build` for the slice, on a machine without TPU, and says whether it fits, what bounds its
time, and what the run then takes. Owns the report; what a program costs is `compiled_cost`, what a chip has
`tpu_topology`. With --sweep it compiles variants of the config and reports the fastest that fits.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Sequence

import jax
from absl import logging
from etils import epath

from emma_jax import command_line, compiled_cost, model, sharding, tpu_topology
from emma_jax.program import build
from emma_jax.tpu_topology import GIB, Topology

VERSION = 1
ROWS_AT_A_TIME = (1, 2, 4, 8)  # per device, of a sweep
TENSOR_SIZES = (1, 2, 4)
_EXHAUSTED = re.compile(r"(?:Used |temporaries \()([\d.]+)([MG])\)? (?:of|exceeds available HBM) \(?([\d.]+)G")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step: its report (the JSON of --output), and its text and cost where it compiled."""

    report: dict
    text: str = ""
    cost: compiled_cost.Cost | None = None


def main(config, topology: str, output: str, hlo: str, sweep: bool) -> None:
    """Prints the table and writes the files; exit status 1 if the step does not fit."""
    jax.config.update("jax_platforms", "cpu")  # a TPU that is here has nothing to do with it
    if not topology:
        raise ValueError(
            "for which slice? name its chips along each dim: --topology=v5p:4x4x4, which is rented as v5p-128"
        )
    slice_ = tpu_topology.parse(topology)
    for path in filter(None, (output, hlo)):  # before the minutes that a program takes
        epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
    devices = slice_.devices()
    result = best(config, slice_, devices) if sweep else compile_step(config, slice_, devices)
    print(table(result, slice_))
    if output:
        epath.Path(output).write_text(json.dumps(result.report, indent=2) + "\n")
    if hlo and result.text:
        epath.Path(hlo).write_text(result.text)
    if not result.report["fits"]:
        sys.exit(1)


def compile_step(config, topology: Topology, devices: Sequence[jax.Device]) -> Compiled:
    """The step of `config` compiled for `devices` of `topology`. Raises ValueError for what no device could run."""
    mesh = sharding.make_mesh(config.sharding, devices)
    program = build(config, mesh)
    report = _what(config, topology, dict(mesh.shape))
    try:
        lowered = program.step.lower(program.state, program.batch)
        compiled = lowered.compile(compiler_options=dict(topology.generation.flags))
    except jax.errors.JaxRuntimeError as error:
        return Compiled(report | _failure(str(error), topology))
    text = compiled.as_text()
    cost = compiled_cost.read(text, topology, [device.coords for device in mesh.devices.flat])
    memory = hbm(compiled.memory_analysis(), topology)
    report |= {"compiles": True, "hbm_gib_per_chip": memory, "fits": memory["total"] <= memory["limit"]}
    return Compiled(report | _speed(config, topology, cost), text, cost)


def hbm(memory, topology: Topology) -> dict[str, float]:
    """GiB per chip of a compiled program's `memory_analysis()`; what is donated counts once."""
    arguments = memory.argument_size_in_bytes
    temporaries = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    sizes = dict(arguments=arguments, temporaries=temporaries, total=arguments + temporaries)
    return {name: round(size / GIB, 3) for name, size in sizes.items()} | {
        "limit": round(topology.generation.hbm_bytes / GIB, 2)
    }


def best(config, topology: Topology, devices: Sequence[jax.Device]) -> Compiled:
    """The fastest variant that fits, by bound; its report lists all that were tried under "sweep".

    Remat policies and rows at a time are tried on one mesh, then the other meshes with the best of these.
    """
    tried: list[Compiled] = []

    def fastest() -> Compiled | None:
        fitting = [result for result in tried if result.report["fits"]]
        return min(fitting, key=lambda result: result.report["step_seconds_bound"], default=None)

    def attempt(**changes) -> bool:
        variant = _variant(config, **changes)
        if variant is None:
            return False
        tried.append(compile_step(variant, topology, devices))
        logging.info("%s", _summary(tried[-1].report))
        return tried[-1].report["fits"]

    for remat in model.REMAT_SAVES:
        for rows in ROWS_AT_A_TIME:
            if not attempt(remat=remat, rows=rows, tensor=1, num_devices=len(devices)):
                break  # what does not fit does not with more rows
    found = fastest()
    for tensor in TENSOR_SIZES[1:] if found else ():
        for rows in sorted({found.report["rows_at_a_time"] * tensor, found.report["rows_at_a_time"]}):
            attempt(remat=found.report["remat"], rows=rows, tensor=tensor, num_devices=len(devices))
    if not tried:
        raise ValueError(
            f"a batch of {config.input_pipeline.batch_rows} rows does not divide over {len(devices)} chips"
        )
    chosen = fastest() or min(tried, key=lambda result: result.report["hbm_gib_per_chip"]["total"])
    return dataclasses.replace(chosen, report=chosen.report | {"sweep": [result.report for result in tried]})


def _variant(config, *, remat: str, rows: int, tensor: int, num_devices: int):
    """A copy of the config with these, or None if its sizes do not divide; `rows` are those of a device at a time."""
    fsdp = num_devices // tensor
    whole, rest = divmod(config.input_pipeline.batch_rows, fsdp * rows)
    if rest or num_devices % tensor or config.model.num_kv_heads % tensor:
        return None
    variant = config.copy_and_resolve_references()
    variant.model.remat = remat
    variant.train.microbatches = whole
    variant.sharding.update(data=1, fsdp=fsdp, tensor=tensor)
    return variant


def _what(config, topology: Topology, mesh: dict[str, int]) -> dict:
    rows, microbatches = config.input_pipeline.batch_rows, config.train.microbatches
    return {
        "version": VERSION,
        "run_name": config.run_name,
        "topology": topology.name,
        "num_chips": topology.num_chips,
        "mesh": mesh,
        "remat": config.model.remat,
        "microbatches": microbatches,
        "rows_at_a_time": rows // (mesh["data"] * mesh["fsdp"] * microbatches),
        "step_tokens": rows * config.pack.row_length,
        "compiler_flags": dict(topology.generation.flags),
    }


def _failure(message: str, topology: Topology) -> dict:
    """What a report says of a step that the compiler refuses."""
    limit = round(topology.generation.hbm_bytes / GIB, 2)
    exhausted = _EXHAUSTED.search(message)
    total = None
    if exhausted:
        total = float(exhausted[1]) / (1 if exhausted[2] == "G" else 1024)
        limit = float(exhausted[3])
    why = message.strip().splitlines()[0] if message.strip() else "no reason given"
    return {
        "compiles": False,
        "why_not": f"it needs {total} GiB of {limit} GiB of a chip's memory" if exhausted else why,
        "fits": False,
        "hbm_gib_per_chip": dict(arguments=None, temporaries=None, total=total, limit=limit),
    }


def _speed(config, topology: Topology, cost: compiled_cost.Cost) -> dict:
    rows, length = config.input_pipeline.batch_rows, config.pack.row_length
    tokens = rows * length
    # As if documents filled the rows: shorter ones need less attention.
    model_per_token = float(model.training_flops(config.model, tokens, rows * length * (length + 1) / 2)) / tokens
    rate = tokens / cost.bound_seconds / topology.num_chips
    seconds = config.train.steps * cost.bound_seconds
    return {
        "flops_per_token": {
            "model": model_per_token,
            "hardware": cost.matmul_flops * topology.num_chips / tokens,
        },
        "static_step_seconds": cost.static_seconds,
        "kernel_seconds": cost.kernel_seconds,
        "kernel_utilization": compiled_cost.KERNEL_UTILIZATION,
        "exposed_collective_seconds": cost.exposed_collective_seconds,
        "step_seconds_bound": cost.bound_seconds,
        "collectives": cost.collectives,
        "tokens_per_second_per_chip_bound": rate,
        "mfu_bound": rate * model_per_token / topology.generation.peak_flops_per_second,
        "run": {
            "tokens": config.train.steps * tokens,
            "days_bound": seconds / 86400,
            "chip_hours_bound": seconds / 3600 * topology.num_chips,
        },
    }


def _summary(report: dict) -> str:
    total = report["hbm_gib_per_chip"]["total"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in report["mesh"].items() if size > 1) or "one chip"
    what = f"remat {report['remat']}, {report['rows_at_a_time']} rows at a time, {mesh}"
    memory = f"{total:.2f} GiB" if total is not None else "memory unknown"
    if not report["fits"]:
        return f"{what}: {memory}, does not fit"
    return f"{what}: {memory}, {report['step_seconds_bound']:.3f} s a step, {report['mfu_bound']:.1%} MFU"


def table(result: Compiled, topology: Topology, num_lines: int = 12) -> str:
    """The report for people, with the `num_lines` parts that are furthest from their floor."""
    rows = list(_rows(result.report))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if result.cost:
        lines += ["", *gaps(result.cost, topology, num_lines)]
    if "sweep" in result.report:
        lines += ["", "tried:", *(f"  {_summary(report)}" for report in result.report["sweep"])]
    return "\n".join(lines)


def _rows(report: dict) -> Iterator[tuple[str, str]]:
    memory = report["hbm_gib_per_chip"]
    yield "step", f"{report['run_name']}, {report['step_tokens']:,} tokens on {report['topology']}"
    yield "as", _summary(report)
    if not report["compiles"]:
        yield "compiles", f"no: {report['why_not']}"
        yield "a way out", "--sweep, more --config.train.microbatches, or a larger --topology"
        return
    yield (
        "HBM per chip",
        (
            f"{memory['total']:.2f} of {memory['limit']:.2f} GiB: "
            f"arguments {memory['arguments']:.2f}, temporaries {memory['temporaries']:.2f}"
        ),
    )
    yield (
        "step, at least",
        (
            f"{report['step_seconds_bound']:.3f} s: compute {report['static_step_seconds']:.3f}, "
            f"kernels {report['kernel_seconds']:.3f} (at {report['kernel_utilization']:.0%} of peak), "
            f"waiting for collectives {report['exposed_collective_seconds']:.3f}"
        ),
    )
    yield "tokens/s/chip, at most", f"{report['tokens_per_second_per_chip_bound']:,.0f}"
    flops = report["flops_per_token"]
    yield (
        "MFU, at most",
        (
            f"{report['mfu_bound']:.1%} ({flops['model'] / 1e9:.1f} GFLOP a token, causal; "
            f"{flops['hardware'] / 1e9:.1f} executed)"
        ),
    )
    for kind, total in report["collectives"].items():
        yield kind, f"{total['count']:,}, {total['bytes'] / 1e9:,.1f} GB"
    run = report["run"]
    if run["tokens"]:
        yield (
            "run, at least",
            (
                f"{run['tokens'] / 1e9:,.1f} billion tokens: {run['days_bound']:,.1f} days, "
                f"{run['chip_hours_bound']:,.0f} chip-hours"
            ),
        )


def gaps(cost: compiled_cost.Cost, topology: Topology, num_lines: int) -> list[str]:
    """Lines of a table: what is furthest above the time of its matmul FLOPs at the peak, in ms a step."""
    peak = topology.generation.peak_flops_per_second
    ordered = sorted(cost.lines, key=lambda line: line.seconds - line.flops / peak, reverse=True)
    texts = [f"{'ms':>8} {'floor':>8} {'times':>6}  {'what':<18} where"]
    for line in ordered[:num_lines]:
        where = line.op_name.removeprefix("jit(").replace("/while/body/closed_call", "")
        texts.append(
            f"{line.seconds * 1e3:8.2f} {line.flops / peak * 1e3:8.2f} {line.times:6,}  {line.kind:<18} {where[-80:]}"
        )
    rest = ordered[num_lines:]
    seconds, floor = sum(line.seconds for line in rest), sum(line.flops for line in rest) / peak
    return [*texts, f"{seconds * 1e3:8.2f} {floor * 1e3:8.2f} {'':6}  all else"]


if __name__ == "__main__":
    command_line.run(
        main,
        flag_help={
            "topology": "slice to compile for, such as v5p:4x4x4 or v5e:16x16",
            "output": "file for the report, as JSON",
            "hlo": "file for the text of the compiled program",
        },
        switch_help={"sweep": "try remat policies, microbatches and mesh shapes; report the fastest that fits"},
    )
