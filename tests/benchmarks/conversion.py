"""Rate and memory of both directions at the size of 8B, against `cp` of the same files: run by hand.

`python tests/benchmarks/conversion.py FOLDER` needs 50 GB free there. It makes an 8B-shaped random model in bfloat16,
converts it to a workdir and back with `cp` before each, all from a cold page cache, compares the two folders' hashes,
and deletes each intermediate after its hash. Rates count bytes read plus written; a conversion's only those of the two
folders, though it reads its source or target once more to check it. `--layers=4` is a smaller model.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import ml_dtypes
import numpy as np

from configs import base
from emma_jax import conversion_config, conversion_table, safetensors_file, safetensors_folder

ROOT = pathlib.Path(__file__).parents[2]
GIB = 2**30
SCALE = 0.02  # of the random weights


def main() -> None:
    """Prints a line per step and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    config = base.get_config().model
    config.num_layers = options.layers
    if not (folder / "hf" / "config.json").exists():
        write_random_model(folder / "hf", config)
    before = hashes(folder / "hf")
    rates = {"cp": [], "import": [], "export": []}
    peaks = {"import": 0, "export": 0}
    for _ in range(options.repeats):
        rates["cp"].append(timed("cp", ["cp", "-r", folder / "hf", folder / "copy"], folder / "hf", folder / "copy")[0])
        shutil.rmtree(folder / "copy")
        command = [sys.executable, "-m", "emma_jax.hf", "import", f"--from={folder}/hf", f"--to={folder}/run"]
        rate, peak = timed("import", command, folder / "hf", folder / "run")
        rates["import"].append(rate)
        peaks["import"] = max(peak, peaks["import"])
        rates["cp"].append(timed("cp", ["cp", "-r", folder / "hf", folder / "copy"], folder / "hf", folder / "copy")[0])
        shutil.rmtree(folder / "copy")
        command = [sys.executable, "-m", "emma_jax.hf", "export", f"--from={folder}/run", f"--to={folder}/back"]
        rate, peak = timed("export", command, folder / "run", folder / "back")
        rates["export"].append(rate)
        peaks["export"] = max(peak, peaks["export"])
        shutil.rmtree(folder / "run")
        assert hashes(folder / "back") == before, "the folder that came back is another"
        shutil.rmtree(folder / "back")
        print("the files that came back have the hashes of those that went")
    report(config, rates, peaks)


def report(config, rates: dict[str, list[float]], peaks: dict[str, float]) -> None:
    """The ratios to cp, the peaks, and both projected to the shape of 70B."""
    sizes = conversion_table.sizes_of(config)
    largest = max(int(np.prod(tensor.shape(sizes))) for tensor in conversion_table.TABLE)
    larger = conversion_table.sizes_of(config) | {"D": 8192, "F": 28672, "H": 64}
    largest_70b = max(int(np.prod(tensor.shape(larger))) for tensor in conversion_table.TABLE)
    num_bytes_70b = 2 * 70_553_706_496
    bare = statistics.median(rates["cp"])
    for verb, limit in (("import", 0.4), ("export", 0.3)):
        rate = statistics.median(rates[verb])
        print(
            f"{verb}: {rate:.2f} GB/s, {rate / bare:.2f} of cp's {bare:.2f} (wanted {limit}); peak RSS "
            f"{peaks[verb] / GIB:.2f} GiB, wanted at most {largest * 4 / GIB + 1:.2f}"
        )
        # Memory grows with the largest tensor alone: in bfloat16 some copies of it over what the program itself takes.
        projected = peaks[verb] + (largest_70b - largest) * 4
        print(
            f"  70B, projected: {2 * num_bytes_70b / 1e9 / rate / 60:.0f} minutes at the same rate; peak RSS "
            f"{projected / GIB:.2f} GiB, limit {largest_70b * 4 / GIB + 1:.2f}"
        )


def write_random_model(folder: pathlib.Path, config) -> None:
    """A folder as transformers writes it, of normal weights in bfloat16, no two tensors alike."""
    sizes, dtype = conversion_table.sizes_of(config), np.dtype(ml_dtypes.bfloat16)
    shapes = {name: tensor.their_shape(sizes) for _, name, tensor in conversion_table.tensors_of(config)}
    files = safetensors_folder.plan(shapes, dtype)
    generator = np.random.default_rng(0)
    pool = (SCALE * generator.standard_normal(2**24, np.float32)).astype(dtype)

    def blocks(name):
        left = int(np.prod(shapes[name]))
        while left:
            block = np.roll(pool, generator.integers(len(pool)))[: min(left, len(pool))]
            left -= len(block)
            yield np.ascontiguousarray(block)

    folder.mkdir(parents=True)
    for file, part in files.items():
        safetensors_file.write(folder / file, part, dtype, blocks, {"format": "pt"})
    safetensors_folder.write_index(folder, files, dtype)
    ids = {key: None for key in conversion_config.TOKEN_IDS}
    content = conversion_config.from_model(config, "bfloat16", ids)
    (folder / "config.json").write_text(json.dumps(content))


def timed(name: str, command: list, *folders: pathlib.Path) -> tuple[float, float]:
    """(GB/s, peak RSS in bytes) of a command that reads the first folder and writes the second."""
    forget_files()
    start = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    assert status == 0, f"{name} failed: {command}"
    num_bytes = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    rate, peak = num_bytes / 1e9 / seconds, usage.ru_maxrss * 1024
    print(
        f"{name}: {seconds:.1f} s, {num_bytes / 1e9:.2f} GB, {rate:.2f} GB/s, peak RSS {peak / GIB:.2f} GiB", flush=True
    )
    return rate, peak


def forget_files() -> None:
    """Empties the page cache, so that each command finds its files on the disk; that takes root on Linux."""
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        print("the page cache could not be emptied: what was touched last is faster")


def hashes(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of the bytes of each tensor file."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


if __name__ == "__main__":
    main()
