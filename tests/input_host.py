"""One host of several, as a program: the batches of a run under jax.distributed, hashed where they are.

`run_hosts` starts it as several processes; `python tests/input_host.py ADDRESS COUNT ID RUN` is one of them. Its last
line on stdout is a JSON list, for each part of the run: step -> first row of what a device has of the batch -> SHA-256.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import pickle
import socket
import subprocess
import sys

import jax
import numpy as np
from etils import epath

from emma_jax import checkpoint, program, sharding, train, training_data

ROOT = pathlib.Path(__file__).parent.parent
TIMEOUT_SECONDS = 600


def run_hosts(hosts: int, devices: int, config, folder: pathlib.Path, **run) -> list[dict[int, str]]:
    """Step -> hash of its batch, assembled from what all the `devices` of the hosts hold; of each part of the run.

    `run` is `parts`, starts and stops of batches that are read and no more, each by a reader of its own; or `workdir`,
    in which is trained, and `end`, the step after whose checkpoint all the hosts are stopped.
    """
    (folder / "config.pickle").write_bytes(pickle.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices // hosts}",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }
    arguments = json.dumps(dict(run, folder=str(folder)))
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, address, str(hosts), str(host), arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for host in range(hosts)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=TIMEOUT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), outputs[0][1]
    said = [json.loads(stdout.splitlines()[-1]) for stdout, _ in outputs]
    return [
        {int(step): _assembled([hashes[step] for hashes in of_hosts], devices) for step in of_hosts[0]}
        for of_hosts in zip(*said, strict=True)
    ]


def _assembled(parts: list[dict[str, str]], devices: int) -> str:
    """The hash of a batch from the hashes of its parts on each host, which must be all parts and each once."""
    assert sum(map(len, parts)) == devices
    whole = {int(first): digest for part in parts for first, digest in part.items()}
    assert len(whole) == devices
    return hashlib.sha256("".join(whole[first] for first in sorted(whole)).encode()).hexdigest()


def digests(batch) -> dict[int, str]:
    """First row -> SHA-256 in hex of each part of a batch that a device of this host holds."""
    content = {}
    for name in sorted(batch):
        for shard in batch[name].addressable_shards:
            content.setdefault(shard.index[0].start or 0, []).append(np.asarray(shard.data).tobytes())
    return {first: hashlib.sha256(b"".join(arrays)).hexdigest() for first, arrays in content.items()}


def read(config, parts: list[tuple[int, int]]) -> list[dict[int, dict[int, str]]]:
    """Hashes of the batches of steps from each start to before its stop."""
    built = program.build(config, sharding.make_mesh(config.sharding))
    return [
        {
            step: digests(batch)
            for step, batch in zip(
                range(*part), training_data.TrainingData(config, built).training_batches(part[0]), strict=False
            )
        }
        for part in parts
    ]


def run(config, workdir: str, end: int) -> list[dict[int, dict[int, str]]]:
    """Hashes of the batches of a training run, by the step that they are for, up to the checkpoint of `end`."""
    found, batches, save = {}, training_data.TrainingData.training_batches, checkpoint.Checkpoints.save

    def hashed(self, step):
        for number, batch in enumerate(batches(self, step), step):
            found[number] = digests(batch)
            yield batch

    def stopping(self, step, *arguments):
        save(self, step, *arguments)
        if step == end:
            self.close()
            raise InterruptedError

    training_data.TrainingData.training_batches, checkpoint.Checkpoints.save = hashed, stopping
    with contextlib.suppress(InterruptedError):
        train.train(config, epath.Path(workdir), program.build(config, sharding.make_mesh(config.sharding)))
    return [found]


def main(address: str, num_hosts: str, host: str, arguments: str) -> None:
    """Prints the hashes of this host's run."""
    jax.distributed.initialize(address, int(num_hosts), int(host))
    arguments = json.loads(arguments)
    config = pickle.loads((pathlib.Path(arguments.pop("folder")) / "config.pickle").read_bytes())
    print(json.dumps(read(config, **arguments) if "parts" in arguments else run(config, **arguments)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
