"""TensorBoard event files that an interrupted and resumed run writes exactly as an undisturbed one does.

What a run computes goes to one file whose bytes depend on the values alone: the wall time of an event is its step. What
the machine did (speed) goes to a second file with real times. On resume, events after the restored step are cut off.
"""

import os
import struct
import time
from collections.abc import Iterator, Mapping

from absl import logging
from etils import epath
from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.record_writer import masked_crc32c

FILE_NAME = "events.out.tfevents.0"
HEADER_BYTES, FOOTER_BYTES = 12, 4  # of a TFRecord: length and its checksum before the data, the data's after it


class MetricWriter:
    """Appends scalars to the event file of `folder`, keeping what it holds up to `step` and no more.

    An object in a bucket cannot be appended to: there the file is written anew by `sync`.
    """

    def __init__(self, folder, step: int = 0, real_time: bool = False):
        path = epath.Path(folder) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        self._real_time = real_time
        kept = [record for event, record in _records(path) if event.step <= step] if path.exists() else []
        if not kept:
            kept = [_record(event_pb2.Event(file_version="brain.Event:2"))]
        # Rewritten whole and renamed: a crash here must not lose the history.
        temporary = path.with_name(FILE_NAME + ".partial")
        temporary.write_bytes(b"".join(kept))
        temporary.replace(path)
        in_bucket = "://" in os.fspath(path)
        self._path, self._records = path, kept if in_bucket else []
        self._file = None if in_bucket else open(os.fspath(path), "ab")  # noqa: SIM115 - open while the writer lives

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the scalars of one step; in a local file they are with the operating system when this returns."""
        summary = summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]
        )
        wall_time = time.time() if self._real_time else float(step)
        record = _record(event_pb2.Event(step=step, wall_time=wall_time, summary=summary))
        if self._file is None:
            self._records.append(record)
        else:
            self._file.write(record)
            self._file.flush()

    def sync(self) -> None:
        """Returns when every event is in the file."""
        if self._file is None:
            self._path.write_bytes(b"".join(self._records))

    def close(self) -> None:
        """Closes the file, with every event in it."""
        self.sync()
        if self._file is not None:
            self._file.close()


def read(folder) -> dict[str, list[tuple[int, float]]]:
    """For each tag, the (step, value) pairs of the event file of `folder` in order; empty if there is no file."""
    series: dict[str, list[tuple[int, float]]] = {}
    path = epath.Path(folder) / FILE_NAME
    for event, _ in _records(path) if path.exists() else ():
        for value in event.summary.value:
            series.setdefault(value.tag, []).append((event.step, value.simple_value))
    return series


def _record(event: event_pb2.Event) -> bytes:
    data = event.SerializeToString(deterministic=True)
    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]


def _records(path: epath.Path) -> Iterator[tuple[event_pb2.Event, bytes]]:
    """Each whole event with its bytes; stops before a record that a killed writer left unfinished."""
    data, start = path.read_bytes(), 0
    while start + HEADER_BYTES <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        end = start + HEADER_BYTES + length + FOOTER_BYTES
        if end > len(data):
            return
        yield event_pb2.Event.FromString(data[start + HEADER_BYTES : end - FOOTER_BYTES]), data[start:end]
        start = end


class RunLog:
    """What a run tells while it goes: event files for TensorBoard, and a line with rate and estimate now and then.

    The metrics of a step are written when the next step has been dispatched, so that the device never waits. Of several
    hosts one writes; on the others `writes` is false. Speed is per chip of `chips`; where `peak_flops`, that of a chip
    in a second, is known, it is also told as the share of it that the model needs (MFU), without recomputation.
    """

    SECONDS_BETWEEN_LINES = 10.0

    def __init__(
        self, folder, name: str, step: int, steps: int, writes: bool = True, chips: int = 1, peak_flops: float = 0.0
    ):
        restored, speed = step if step else -1, epath.Path(folder) / "speed"
        self._metrics = MetricWriter(folder, restored) if writes else None
        self._speed = MetricWriter(speed, restored, real_time=True) if writes else None
        self._name, self._steps = name, steps
        self._pending: tuple[int, Mapping] | None = None
        self._chips, self._peak_flops = chips, peak_flops
        self._mark = (time.monotonic(), step)  # when and at which step the last line was, and what was done since
        self._tokens = self._flops = 0.0

    def step(self, step: int, metrics: Mapping) -> None:
        """Takes the metrics of `step`, still being computed, and writes those of the step before."""
        self.flush()
        self._pending = step, metrics

    def validation(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of a validation pass over the parameters after `step`."""
        self.flush()
        if scalars and self._metrics:
            self._metrics.write(step, scalars)
            means = {tag: value for tag, value in scalars.items() if tag.endswith(("/mono", "/pair"))}
            logging.info("%s step %d: %s", self._name, step, ", ".join(f"{k} {v:.4f}" for k, v in means.items()))

    def flush(self) -> None:
        """Waits for the step in flight and writes its metrics."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        if self._metrics is None:
            return
        values = {tag: float(value) for tag, value in metrics.items()}
        self._metrics.write(step, values)
        self._tokens += values["tokens"]
        self._flops += values.get("model_flops", 0.0)
        if time.monotonic() - self._mark[0] >= self.SECONDS_BETWEEN_LINES or step == self._steps:
            self._line(step, values["loss"])

    def _line(self, step: int, loss: float) -> None:
        now, (then, marked_step) = time.monotonic(), self._mark
        speed = {"tokens_per_second_per_chip": self._tokens / (now - then) / self._chips}
        said = f"{speed['tokens_per_second_per_chip']:,.0f} tokens/s/chip"
        if self._peak_flops:
            speed["mfu"] = self._flops / (now - then) / self._chips / self._peak_flops
            said += f", MFU {100 * speed['mfu']:.1f}%"
        seconds_per_step = (now - then) / (step - marked_step)
        speed |= {"tokens_per_second": self._tokens / (now - then), "seconds_per_step": seconds_per_step}
        self._speed.write(step, speed)
        self._speed.sync()
        left = _duration((self._steps - step) * seconds_per_step)
        logging.info("%s step %d/%d: loss %.4f, %s, %s left", self._name, step, self._steps, loss, said, left)
        self._mark, self._tokens, self._flops = (now, step), 0.0, 0.0

    def sync(self) -> None:
        """Returns when all metrics up to the step in flight are in the file, as they must be before it is saved."""
        self.flush()
        if self._metrics:
            self._metrics.sync()

    def close(self) -> None:
        """Writes what is pending and closes the files."""
        self.flush()
        for writer in (self._metrics, self._speed):
            if writer:
                writer.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
