"""Beam pipelines: on this machine by default, on any runner by its options.

Owns the choice of the runner, and how what a user can mend comes back from a worker. Needs the extra [corpus].
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

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
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    try:
        with _pipeline(num_workers, beam_options) as opened:
            yield opened
    except RuntimeError as error:
        _, *sentence = str(error).split(MARK)
        if not sentence:
            raise
        raise WorkerMistake(sentence[0]) from error


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
    """Hands what a worker's user can mend, ValueError or OSError, on to `pipeline` in the process that runs it.

    A runner brings back the text of an exception at most, within that of a traceback.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise RuntimeError(f"{MARK}{error}{MARK}") from error


def _pipeline(num_workers: int, beam_options: Sequence[str]) -> beam.Pipeline:
    if beam_options:
        if not any(option.startswith("--runner") for option in beam_options):
            raise ValueError(f"beam_options {list(beam_options)} name no runner; add one, as --runner=DataflowRunner")
        return beam.Pipeline(options=PipelineOptions(list(beam_options)))
    # Named, because Beam's default on one machine first tries a runner that it downloads.
    mode = "in_memory" if num_workers == 1 else "multi_processing"
    options = PipelineOptions(
        [
            f"--direct_num_workers={num_workers}",
            f"--direct_running_mode={mode}",
            "--default_sdk_harness_log_level=ERROR",
        ]
    )
    for_workers = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=for_workers)
    runner = fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))
    return beam.Pipeline(runner=runner, options=options)
