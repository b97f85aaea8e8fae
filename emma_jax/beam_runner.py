"""Beam pipelines: on this machine by default, on any runner by its options.

Owns the choice of the runner, and how what a user can mend comes back from a worker. Needs the extra [corpus].
"""

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import create_runner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from emma_jax import beam_worker

# Of a worker: what it frees goes back to the system, or the largest pieces so far would be held by each to the end.
MEMORY = "ARROW_DEFAULT_MEMORY_POOL=system MALLOC_MMAP_THRESHOLD_=1048576 MALLOC_ARENA_MAX=2"
MARK = "\N{SYMBOL FOR UNIT SEPARATOR}"  # around a sentence for the user


class WorkerMistake(ValueError):
    """What a user can mend, met by a worker: its sentence."""


@contextlib.contextmanager
def pipeline(num_workers: int, beam_options: Sequence[str] = ()) -> Iterator[beam.Pipeline]:
    """A pipeline on `num_workers` processes of this machine, or on the runner that `beam_options` name.

    With one worker everything runs in this process. What is run must be importable: a worker imports it by name.

    Raises ValueError if there is not at least one worker, and WorkerMistake with what `mistakes` met in a worker.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; one is the least")
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)  # what it logs is raised too
    try:
        with _pipeline(num_workers, beam_options) as opened:
            yield opened
    except Exception as error:  # each runner has its own
        _, *sentence = str(error).split(MARK)
        if sentence:
            raise WorkerMistake(sentence[0]) from error
        if beam_options and isinstance(error, RuntimeError):  # its own logs have the traceback, if it has begun
            raise WorkerMistake(f"the runner of beam_options {list(beam_options)} failed: {error}") from error
        raise


@contextlib.contextmanager
def mistakes(*kinds: type[Exception], doing: str = "") -> Iterator[None]:
    """Hands exceptions of these kinds, which a worker's user can mend, on to `pipeline` in the process that runs it.

    Without any, ValueError and OSError; `doing` says what failed. A runner brings back the text of an exception at
    most, within that of a traceback.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, kinds or (OSError, ValueError)):
            raise
        failed = f"{doing} failed: " if doing else ""
        raise RuntimeError(f"{MARK}{failed}{error}{MARK}") from error


def check(beam_options: Sequence[str]) -> str:
    """The name of the runner that the options name; "" without options.

    Raises ValueError if they name none, or one that Beam does not have, or are no options of Beam.
    """
    if not beam_options:
        return ""
    try:
        options = PipelineOptions(list(beam_options)).view_as(StandardOptions)
    except SystemExit as error:
        raise ValueError(f"beam_options {list(beam_options)} cannot be read; see Beam's line above") from error
    if not options.runner:
        raise ValueError(f"beam_options {list(beam_options)} name no runner; add one, as --runner=DataflowRunner")
    if options.no_wait_until_finish:
        raise ValueError("beam_options must not have --no_wait_until_finish: what comes next needs what is made")
    try:
        create_runner(options.runner)
    except (ImportError, ValueError) as error:
        raise ValueError(f"beam_options name the runner {options.runner!r}, which cannot be had: {error}") from error
    return options.runner


def _pipeline(num_workers: int, beam_options: Sequence[str]) -> beam.Pipeline:
    if beam_options:
        check(beam_options)
        return beam.Pipeline(options=PipelineOptions(list(beam_options)))
    # The runner is named, because Beam's default on one machine first tries one that it downloads.
    options = PipelineOptions([f"--direct_num_workers={num_workers}", "--direct_running_mode=in_memory"])
    for_workers = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=for_workers)
    worker = None
    if num_workers > 1:
        os.environ[beam_worker.PARENT] = str(os.getpid())
        # Beam gives it to a shell. Ctrl-C, which reaches all processes of a terminal, is for this one.
        command = f"trap '' INT; {MEMORY} exec {shlex.join([sys.executable, '-m', beam_worker.__name__])}"
        worker = SubprocessSDKEnvironment.from_command_string(command)
    runner = fn_runner.FnApiRunner(worker, provision_info=fn_runner.ExtendedProvisionInfo(provision))
    return beam.Pipeline(runner=runner, options=options)
