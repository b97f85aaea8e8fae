"""Runs a command and notes what it took; without a command, prints what is noted: `measure.py NOTES [NAME COMMAND...]`.

A note is a line of JSON: the step, its seconds, and the peak resident memory of its largest process.
"""

import json
import resource
import subprocess
import sys
import time


def measure(notes: str, name: str, command: list[str]) -> int:
    """The exit status of the command; appends a note if that is 0."""
    start = time.monotonic()
    status = subprocess.run(command).returncode
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    if status == 0:
        note = {"step": name, "seconds": round(time.monotonic() - start, 1), "peak_bytes": peak}
        with open(notes, "a") as file:
            file.write(json.dumps(note) + "\n")
    return status


def show(notes: str) -> None:
    """Prints the longest note of each step (a repeated step that found all done is short) and their total."""
    longest: dict[str, dict] = {}
    with open(notes) as file:
        every = [json.loads(line) for line in file]
    for note in every:
        if note["seconds"] >= longest.get(note["step"], note)["seconds"]:
            longest[note["step"]] = note
    for note in longest.values():
        print(f"{note['step']:<20}{note['seconds']:>8.1f} s{note['peak_bytes'] / 2**30:>8.2f} GiB at most")
    total, peak = sum(n["seconds"] for n in longest.values()), max(n["peak_bytes"] for n in longest.values())
    print(f"{'in all':<20}{total:>8.1f} s{peak / 2**30:>8.2f} GiB at most")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        show(sys.argv[1])
    else:
        sys.exit(measure(sys.argv[1], sys.argv[2], sys.argv[3:]))
