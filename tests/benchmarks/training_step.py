"""`python tests/benchmarks/training_step.py`: our step against MaxText's on TPU pods, both compiled, on no TPU.

Llama 3.1 8B in rows of 8,192 tokens, fp32 master weights and moments, bf16 compute. Both programs are compiled with the
same jax and libtpu and judged by the same reading, `emma_jax.compiled_cost`. That wants an environment of Python 3.12
that holds both; without MaxText, as on Python 3.11, it prints our side alone. MaxText says nothing of what it needs
unless an extra is named, and those bring 235 packages; to compile, these do:

    pip install -e '.[tpu]' datasets transformers tiktoken omegaconf pydantic jaxtyping jsonlines pandas pillow \\
        fastapi uvicorn immutabledict xprof fire termcolor six google-cloud-storage
    pip install --no-deps maxtext==0.2.5 aqtp qwix tokamax drjax pathwaysutils google-tunix ml-goodput-measurement \\
        google-cloud-mldiagnostics cloud-accelerator-diagnostics cloud-tpu-diagnostics

MaxText's side is what this compiles, the last line being that of the row "full"; ROWS has those of the others:

    python -m maxtext.trainers.pre_train.train_compile maxtext/configs/base.yml model_name=llama3.1-8b \\
        max_target_length=8192 attention=flash enable_checkpointing=false compile_topology_num_slices=1 \\
        compile_topology=v5p-128 per_device_batch_size=1 remat_policy=full

It is compiled without flags, as that command does, or with --same-flags with those that we recommend for the generation
and compile our own side with. --keep=DIR keeps the texts of the programs, and takes those that are there instead of
compiling again.
"""

import argparse
import collections
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent))

from configs import bilingual
from emma_jax import compiled_cost, preflight, tpu_topology

# What is compared: the slice, our changes to the config, MaxText's arguments, rows per chip, and the ratios wanted.
ROWS = {
    "full": dict(
        topology="v5p:4x4x4",
        ours={"model.remat": "full"},
        maxtext=["compile_topology=v5p-128", "per_device_batch_size=1", "remat_policy=full"],
        rows=1,
        wanted={"HBM": 0.86, "bound": 0.94},
    ),
    "best": dict(
        topology="v5p:4x4x4",
        ours={"model.remat": "minimal"},
        maxtext=["compile_topology=v5p-128", "per_device_batch_size=2", "remat_policy=minimal_flash"],
        rows=2,
        wanted={"bound": 0.92},
    ),
    "v5e": dict(
        topology="v5e:16x16",
        ours={"model.remat": "full"},
        maxtext=["compile_topology=v5e-256", "per_device_batch_size=1", "remat_policy=full"],
        rows=1,
        wanted={},
    ),
}
MAXTEXT = [
    "model_name=llama3.1-8b",
    "max_target_length=8192",
    "attention=flash",
    "enable_checkpointing=false",
    "compile_topology_num_slices=1",
]


def main() -> None:
    """Prints a table per row, and what is furthest from its floor."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--row", choices=ROWS, action="append", help="which rows; all if none is named")
    parser.add_argument("--keep", help="folder that keeps the programs")
    parser.add_argument("--lines", type=int, default=40, help="of the table of what is furthest from its floor")
    parser.add_argument("--set", action="append", default=[], help="another change to our config, as model.remat=dots")
    parser.add_argument("--same-flags", action="store_true", help="compile MaxText with our compiler flags too")
    parser.add_argument("--compile", choices=("ours", "maxtext"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compile:
        compile_side = {"ours": compile_ours, "maxtext": compile_maxtext}[arguments.compile]
        return compile_side(ROWS[arguments.row[0]], pathlib.Path(arguments.keep), arguments)
    sides = ["ours"] + ["maxtext"] * (importlib.util.find_spec("maxtext") is not None)
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.row or ROWS:
            folder = pathlib.Path(arguments.keep or temporary, name)
            report(name, {side: program(side, name, folder, arguments) for side in sides}, arguments.lines)
    return None


def program(side: str, name: str, folder: pathlib.Path, arguments: argparse.Namespace) -> dict:
    """Memory in GiB and cost of a side's program, compiled in a process of its own."""
    target = folder / side
    if not (target / "memory.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, f"--compile={side}", f"--row={name}", f"--keep={target}"]
        environment = os.environ | tpu_topology.COMPILE_ONLY | {"JAX_PLATFORMS": "cpu"}
        log = target / "log.txt"
        with log.open("w") as output:
            command += [f"--set={change}" for change in arguments.set] + ["--same-flags"] * arguments.same_flags
            subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
        if not (target / "memory.json").exists():
            reason = [line for line in log.read_text().splitlines() if line.strip()][-1]
            return {"failed": reason[:300]}
    memory = json.loads((target / "memory.json").read_text())
    topology = tpu_topology.parse(ROWS[name]["topology"])
    return {"memory": memory, "cost": compiled_cost.read((target / "program.hlo").read_text(), topology)}


def compile_ours(row: dict, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Writes the text and the memory of our step to `folder`."""
    topology = tpu_topology.parse(row["topology"])
    config = bilingual.get_config()
    config.input_pipeline.batch_rows = row["rows"] * topology.num_chips
    for key, value in [*row["ours"].items(), *(change.split("=") for change in arguments.set)]:
        section, name = key.rsplit(".", 1)
        config[section][name] = type(config[section][name])(value)
    result = preflight.compile_step(config, topology, topology.devices())
    if not result.text:
        sys.exit(result.report["why_not"])
    write(folder, result.text, result.report["hbm_gib_per_chip"])


def compile_maxtext(row: dict, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Writes the text and the memory of MaxText's step, as its own `train_compile` makes it, to `folder`."""
    from absl import app
    from maxtext.trainers.pre_train import train_compile

    topology = tpu_topology.parse(row["topology"])
    compile_step = train_compile.jit_and_compile

    def compile_and_write(*arguments, **keywords):
        compiled = compile_step(*arguments, **keywords)
        write(folder, compiled.as_text(), preflight.hbm(compiled.memory_analysis(), topology))
        return compiled

    train_compile.jit_and_compile = compile_and_write
    base = pathlib.Path(importlib.util.find_spec("maxtext").origin).parent / "configs" / "base.yml"
    flags = [f"compile_xla_flags={tpu_topology.flags_line(topology.generation.name)}"] * arguments.same_flags
    app.run(train_compile.main, argv=["train_compile", str(base), *MAXTEXT, *row["maxtext"], *flags])


def write(folder: pathlib.Path, text: str, memory: dict[str, float]) -> None:
    """Writes a program; memory.json comes last, and says that it is whole."""
    (folder / "program.hlo").write_text(text)
    (folder / "memory.json").write_text(json.dumps(memory))


def report(name: str, programs: dict[str, dict], num_lines: int) -> None:
    """Prints the figures of all sides of a row, the ratios, and our table."""
    row = ROWS[name]
    wanted = ", ".join(f"{what} at most {ratio}" for what, ratio in row["wanted"].items()) or "that it fits"
    print(f"\n{name}: {row['topology']}, {row['rows']} x 8,192 tokens per chip; wanted: {wanted}")
    for side, result in programs.items():
        if "failed" in result:
            print(f"  {side:<8} does not compile: {result['failed']}")
            continue
        cost, memory = result["cost"], result["memory"]
        print(
            f"  {side:<8} HBM {memory['total']:6.2f} of {memory['limit']:.2f} GiB, step at least "
            f"{cost.bound_seconds:.3f} s: compute {cost.static_seconds:.3f}, kernels {cost.kernel_seconds:.3f}, "
            f"waiting {cost.exposed_collective_seconds:.3f};  {cost.bound_seconds / row['rows']:.3f} s a row; "
            + ", ".join(f"{kind} {c['count']} {c['bytes'] / 1e9:.1f} GB" for kind, c in cost.collectives.items())
        )
    if all(side in programs and "cost" in programs[side] for side in ("ours", "maxtext")):
        ours, maxtext = programs["ours"], programs["maxtext"]
        print(
            f"  ratio    HBM {ours['memory']['total'] / maxtext['memory']['total']:.3f}, "
            f"bound {ours['cost'].bound_seconds / maxtext['cost'].bound_seconds:.3f}"
        )
    if "cost" in programs["ours"]:
        topology = tpu_topology.parse(row["topology"])
        print("\n".join([*parts(programs["ours"]["cost"], topology), ""]))
        print("\n".join(preflight.gaps(programs["ours"]["cost"], topology, num_lines)))


def parts(cost: compiled_cost.Cost, topology: tpu_topology.Topology) -> list[str]:
    """Lines of a table: ms of matmuls, kernels, all other fusions and collectives, beside the time of their FLOPs."""
    seconds, flops = collections.Counter(), collections.Counter()
    for line in cost.lines:
        kind = line.kind if line.kind != "fusion" else "matmuls" if line.flops else "other fusions"
        seconds[kind] += line.seconds
        flops[kind] += line.flops
    peak = topology.generation.peak_flops_per_second
    return [f"{seconds[kind] * 1e3:8.1f} {flops[kind] / peak * 1e3:8.1f}  {kind}" for kind, _ in seconds.most_common()]


if __name__ == "__main__":
    main()
