"""Event files: what TensorBoard reads, and what a resumed run leaves of them."""

import pytest

from emma_jax import metric_writer
from emma_jax.metric_writer import FILE_NAME, MetricWriter


def write(folder, steps, start=-1):
    writer = MetricWriter(folder, start)
    for step in steps:
        writer.write(step, {"loss": 1 / step, "tokens": 4096})
    writer.close()
    return (folder / FILE_NAME).read_bytes()


def test_values_come_back(tmp_path):
    write(tmp_path, [1, 2, 4])
    series = metric_writer.read(tmp_path)
    assert series["tokens"] == [(1, 4096), (2, 4096), (4, 4096)]
    assert series["loss"] == [(1, 1.0), (2, 0.5), (4, 0.25)]


def test_no_file_is_no_values(tmp_path):
    assert metric_writer.read(tmp_path / "none") == {}


def test_resumed_file_equals_the_undisturbed_one(tmp_path):
    expected = write(tmp_path / "whole", range(1, 8))
    write(tmp_path / "resumed", range(1, 7))  # lost: steps 5 and 6, after the checkpoint of step 4
    assert write(tmp_path / "resumed", range(5, 8), start=4) == expected


def test_a_record_cut_by_a_kill_is_dropped(tmp_path):
    expected = write(tmp_path / "whole", range(1, 8))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / FILE_NAME).write_bytes(expected[:-7])
    assert [step for step, _ in metric_writer.read(tmp_path / "cut")["loss"]] == [1, 2, 3, 4, 5, 6]
    assert write(tmp_path / "cut", [7], start=6) == expected


def test_a_fresh_start_keeps_nothing(tmp_path):
    write(tmp_path / "again", range(1, 8))
    assert write(tmp_path / "again", [1]) == write(tmp_path / "new", [1])


def test_tensorboard_reads_it(tmp_path):
    """The checksums are right: TensorBoard's own loader verifies them."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    write(tmp_path, [1, 2])
    events = list(EventFileLoader(str(tmp_path / FILE_NAME)).Load())
    assert [event.step for event in events] == [0, 1, 2]
    assert events[2].summary.value[0].tensor.float_val[0] == 0.5


def test_speed_is_per_chip_and_a_share_of_peak(tmp_path):
    log = metric_writer.RunLog(tmp_path, "run", 0, 2, chips=4, peak_flops=1e9)
    log._mark = (log._mark[0] - 100.0, 0)  # as if it had begun 100 seconds ago
    for step in (1, 2):
        log.step(step, {"loss": 1.0, "tokens": 1000.0, "model_flops": 5e10})
    log.close()
    speed = {tag: values[0][1] for tag, values in metric_writer.read(tmp_path / "speed").items()}
    assert speed["tokens_per_second_per_chip"] == pytest.approx(1000 / 100 / 4, rel=0.05)
    assert speed["mfu"] == pytest.approx(5e10 / 100 / 4 / 1e9, rel=0.05)
