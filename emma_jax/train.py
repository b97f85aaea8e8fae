"""Continual pre-training: `python -m emma_jax.train --config=configs/bilingual.py --workdir=DIR`.

Owns the order of a run: what it starts from, the loop, when it validates and saves. The computation is `program`, the
batches `training_data`, the files `checkpoint` and `metric_writer`. Running it again continues where it stopped.
"""

import functools
import json
import os

import jax
import numpy as np
import psutil
from absl import logging
from etils import epath

from emma_jax import command_line, composition, sharding, tokenizer, tpu_topology
from emma_jax.checkpoint import Checkpoints
from emma_jax.metric_writer import RunLog
from emma_jax.program import Program, TrainState, build, bytes_per_device
from emma_jax.training_data import TrainingData

GIB = 2**30
# What makes two runs the same run; everything else may change between a run and its continuation.
RUN_KEYS = (
    "run_name",
    "seed",
    "mixture",
    "model",
    "optimizer",
    "train.steps",
    "train.base",
    "input_pipeline.batch_rows",
)
FREE_KEYS = ("model.remat", "model.attention")  # how it is computed, not what


def main(config, workdir: str, profile: str = "") -> None:
    """Trains until `config.train.steps`, from the newest checkpoint of `workdir` if there is one.

    `profile` is the number of steps to trace, "" for none.
    """
    if not workdir:
        raise ValueError("where to? --workdir=DIR, a folder or a bucket for checkpoints and metrics")
    if profile and not (profile.isdigit() and int(profile)):
        raise ValueError(f"--profile={profile} is no number of steps; --profile=5 traces five")
    if config.sharding.distributed:
        jax.distributed.initialize()
    check_ranges(config)
    if any(folder.startswith("gs://") for folder in (workdir, config.pack.folder)):
        command_line.require_extra("tpu", "gcsfs")
    mesh = sharding.make_mesh(config.sharding)
    program = build(config, mesh)
    check_memory(program.state, mesh.local_devices)
    train(config, epath.Path(workdir), program, int(profile or 0))


def train(config, workdir: epath.Path, program: Program, profile_steps: int = 0) -> None:
    """The run of `config` in `workdir`, whose `program` was built on the mesh of all devices.

    A trace of `profile_steps` steps, from the third that this process makes, is written to `workdir`/profile.
    """
    data = TrainingData(config, program)
    check_same_run(config, workdir)
    checkpoints = Checkpoints(workdir, config.checkpoint)
    step, state = begin(config, program, checkpoints, data)
    base = base_name(config, checkpoints)
    record_run(config, workdir, data)
    if step == config.train.steps:
        logging.info("%s is done: %d steps are in %s", config.run_name, step, workdir)
        return
    chip = tpu_topology.attached_generation()
    log = RunLog(
        workdir / "events", config.run_name, step, config.train.steps, writes=jax.process_index() == 0,
        chips=jax.device_count(), peak_flops=chip.peak_flops_per_second if chip else 0.0,
    )  # fmt: skip
    trace = Trace(workdir / "profile", step + 2, profile_steps)
    validate = data.validator(program)
    if step == 0:
        log.validation(0, validate(state.params))
    for batch in data.training_batches(step):
        trace.before(step, state)
        state, metrics = program.step(state, batch)
        step += 1
        log.step(step, metrics)
        last = step == config.train.steps
        if last or is_every(config.train.validate_every_steps, step):
            log.validation(step, validate(state.params))
        if last or checkpoints.is_due(step):
            log.sync()
            checkpoints.save(step, state.params, state.optimizer, data.metadata(step, base))
        if last:
            break
    trace.close(state)
    checkpoints.close()
    log.close()


class Trace:
    """A trace of `steps` steps from `first` for TensorBoard's profile page: what ran on the device, and when."""

    def __init__(self, folder, first: int, steps: int):
        self._folder, self._first, self._end = folder, first, first + steps
        self._runs = False

    def before(self, step: int, state: TrainState) -> None:
        """Begins or ends the trace, if it is time to before the step after `step`."""
        if step == self._first and step < self._end:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._runs = True
        elif step == self._end:
            self.close(state)

    def close(self, state: TrainState) -> None:
        """Ends the trace if it runs, when `state` is there."""
        if self._runs:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            logging.info("a trace is in %s", self._folder)
            self._runs = False


def begin(config, program: Program, checkpoints: Checkpoints, data: TrainingData) -> tuple[int, TrainState]:
    """(step, state) to go on from: this run's newest checkpoint, else the parameters of the base, else random ones.

    Raises ValueError if a checkpoint is of other rows, another tokenizer or another model.
    """
    random_state = functools.partial(program.init, jax.random.key(config.seed))
    step = checkpoints.latest_step()
    if step is not None:
        data.check_continues(step, checkpoints.metadata(step))
        logging.info("continuing at step %d of %d", step, config.train.steps)
        # An import has no moments. What is not needed of a random state is freed before the restored arrays come.
        optimizer = checkpoints.restore_optimizer(step, program.state.optimizer) or random_state().optimizer
        params = checkpoints.restore_params(step, program.state.params)
        return step, TrainState(jax.device_put(np.int32(step), program.state.step.sharding), params, optimizer)
    if config.train.base:
        base = Checkpoints(config.train.base)
        base_step = base.latest_step()
        if base_step is None:
            raise ValueError(f"train.base {config.train.base} holds no complete checkpoint")
        data.check_base(base.metadata(base_step), config.train.base)
        logging.info("starting from the parameters of %s at its step %d", config.train.base, base_step)
        state = random_state()._replace(params=None)
        state = state._replace(params=base.restore_params(base_step, program.state.params))
        if base_step == 0:
            data.check_start(program, state.params, config.train.base)
        return 0, state
    logging.info("starting from random parameters")
    return 0, random_state()


def base_name(config, checkpoints: Checkpoints) -> str:
    """Name of the model that the run's first parameters came from; empty if they were random.

    A continuation has it from the run's own checkpoint: its base may be gone.
    """
    step = checkpoints.latest_step()
    if step is not None:
        return checkpoints.metadata(step).base
    if not config.train.base:
        return ""
    base = Checkpoints(config.train.base)
    metadata = base.metadata(base.latest_step())
    return metadata.base or metadata.config.get("run_name") or os.path.basename(os.path.abspath(config.train.base))


def check_memory(state: TrainState, devices) -> None:
    """Raises ValueError if the state and its gradients alone exceed the memory of this host's `devices`."""
    needed = bytes_per_device(state) * len(devices)
    if devices[0].platform == "cpu":
        there, where = psutil.virtual_memory().available, "this machine has free"
    else:
        stats = devices[0].memory_stats() or {}
        there, where = stats.get("bytes_limit", needed) * len(devices), f"its {len(devices)} devices have"
    if needed > there:
        raise ValueError(
            f"parameters, moments and gradients need {needed:,} bytes ({needed / GIB:.1f} GiB), {where} {there:,} "
            f"({there / GIB:.1f} GiB); train it on a TPU slice: bash launch/tpu_vm.sh --help, "
            "or try the whole way at the size of a laptop: bash launch/quickstart.sh"
        )


def check_same_run(config, workdir: epath.Path) -> None:
    """Raises ValueError if the config that is recorded in `workdir` is of another run."""
    path = workdir / "config.json"
    flat = dict(_leaves(json.loads(config.to_json_best_effort())))
    if not path.exists():
        return
    try:
        recorded = dict(_leaves(json.loads(path.read_text())))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it if you are sure that the run is this one") from error
    for key in sorted(flat.keys() | recorded.keys()):
        if f"{key}.".startswith(tuple(f"{run_key}." for run_key in RUN_KEYS)) and key not in FREE_KEYS:
            there, here = recorded.get(key), flat.get(key)
            if there != here:
                raise ValueError(
                    f"{workdir} is of another run: its {key} is {there!r}, this config says {here!r}; "
                    "use that config again, or another --workdir"
                )


def record_run(config, workdir: epath.Path, data: TrainingData) -> None:
    """Writes the config and the composition, where none is there, and the tokenizer to `workdir`; one host does."""
    if jax.process_index() != 0:
        return
    tokenizer.copy_files(config.tokenizer.folder, workdir / "tokenizer")
    composition.write(workdir, data.composition())
    if not (workdir / "config.json").exists():
        unfinished = workdir / "config.json.partial"
        unfinished.write_text(config.to_json_best_effort(indent=2))
        unfinished.replace(workdir / "config.json")


def check_ranges(config) -> None:
    """Raises ValueError for numbers that no run can have."""
    least = {
        "train.steps": 1,
        "train.microbatches": 1,
        "loss.vocab_chunks": 1,
        "train.validate_every_steps": 0,
        "train.validation_batch_rows": 1,
        "input_pipeline.num_threads": 1,
        "input_pipeline.patience_seconds": 0,
    }
    for key, bound in {**least, "checkpoint.save_every_steps": 1, "checkpoint.keep": 1}.items():
        section, name = key.split(".")
        if config[section][name] < bound:
            raise ValueError(f"config.{key} is {config[section][name]}; it must be {bound} or more")


def is_every(interval: int, step: int) -> bool:
    """Whether something done every `interval` steps, or never if that is 0, is due."""
    return interval > 0 and step % interval == 0


def _leaves(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


if __name__ == "__main__":
    flag_help = {
        "workdir": "folder of checkpoints and metrics, local or gs://",
        "profile": "number of steps to trace, into workdir/profile",
    }
    command_line.run(main, flag_help=flag_help)
