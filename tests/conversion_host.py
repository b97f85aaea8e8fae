"""One host of several, as a program: hf's verbs under jax.distributed, with what this host read and wrote.

`python tests/conversion_host.py ADDRESS COUNT ID SHARD_BYTES COMMANDS`; COMMANDS is a JSON list of keyword arguments of
`hf.main`. The last line of stdout is a JSON list of what each command did; a mistake ends as in `command_line`.
"""

import functools
import json
import os
import sys

import jax
from absl import logging

from emma_jax import command_line, conversion_stream, hf, safetensors_file, safetensors_folder


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


def main(address: str, num_hosts: str, host: str, shard_bytes: str, commands: str) -> None:
    """Runs the commands on this host."""
    jax.distributed.initialize = functools.partial(jax.distributed.initialize, address, int(num_hosts), int(host))
    safetensors_folder.SHARD_BYTES = int(shard_bytes)
    seen, all_seen = {}, []
    count(seen)
    try:
        for number, command in enumerate(json.loads(commands)):
            seen.update(num_bytes_read=0, num_bytes_checked=0, written=[])
            hf.main(**{"from": "", "to": "", "dtype": "", **command}, distributed="no" if number else "yes")
            all_seen.append(dict(seen))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(command_line.USER_MISTAKE)
    print(json.dumps(all_seen), flush=True)


if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    main(*sys.argv[1:])
