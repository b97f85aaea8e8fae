"""One host of several, as a program: hf's verbs under jax.distributed, with what this host read and wrote.

`run_hosts` starts it as several processes; `python tests/conversion_host.py ADDRESS COUNT ID COMMANDS` is one of them.
Its last line on stdout is a JSON list of what each command did; a mistake ends as in `command_line`.
"""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
from absl import logging

from emma_jax import command_line, conversion_stream, hf, safetensors_file, safetensors_folder

ROOT = pathlib.Path(__file__).parent.parent
TIMEOUT_SECONDS = 600


def run_hosts(hosts, devices, *commands, **environment):
    """(exit status, what each command did or None, stderr) of each of the hosts, which run the commands together.

    A command is a dict of the arguments of `hf.main`, and `shard_bytes`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        **environment,
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, address, str(hosts), str(host), json.dumps(commands)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for host in range(hosts)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=TIMEOUT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, json.loads(stdout.splitlines()[-1]) if process.returncode == 0 else None, stderr)
        for process, (stdout, stderr) in zip(processes, outputs, strict=True)
    ]


def count(seen: dict) -> None:
    """Makes `seen` tell what the functions that read and write do from now on."""
    read, write, check = safetensors_file.read, safetensors_file.write, conversion_stream.check_finite

    def counted_read(*arguments):
        array = read(*arguments)
        seen["num_bytes_read"] += array.nbytes
        return array

    def counted_write(path, *arguments):
        write(path, *arguments)
        seen["written"].append(os.path.basename(path))

    def counted_check(reader):
        check(reader)
        seen["num_bytes_checked"], seen["num_bytes_read"] = seen["num_bytes_read"], 0

    safetensors_file.read, safetensors_file.write = counted_read, counted_write
    conversion_stream.check_finite = counted_check


def main(address: str, num_hosts: str, host: str, commands: str) -> None:
    """Runs the commands on this host."""
    jax.distributed.initialize = functools.partial(jax.distributed.initialize, address, int(num_hosts), int(host))
    seen, all_seen = {}, []
    count(seen)
    try:
        for number, command in enumerate(json.loads(commands)):
            seen.update(num_bytes_read=0, num_bytes_checked=0, written=[])
            safetensors_folder.SHARD_BYTES = command.pop("shard_bytes")
            hf.main(**{"from": "", "to": "", "dtype": "", **command}, distributed="no" if number else "yes")
            all_seen.append(dict(seen))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(command_line.USER_MISTAKE)
    print(json.dumps(all_seen), flush=True)


if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    main(*sys.argv[1:])
