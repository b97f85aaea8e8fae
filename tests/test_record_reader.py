"""A record that does not come is asked for again, of a shard that is opened anew; then the shard is named."""

import resource
import threading
import time

import numpy as np
import pytest
import synthetic

from emma_jax import packing, record_reader, store


@pytest.fixture
def found(tmp_path):
    """A store of about a hundred rows in tmp_path."""
    synthetic.write_rows(tmp_path, "code", ["code.a"], "tokenizer", row_length=24)
    return store.load(tmp_path, "code")


def reader_of(tmp_path, found, num_threads=2, patience_seconds=0.0):
    return record_reader.RecordReader(str(tmp_path), [found, found], num_threads, patience_seconds)


@pytest.fixture
def opened(monkeypatch):
    """Paths of the shards as they are opened, and what reading from the next ones does first, to be filled."""
    real = record_reader.array_record_module.ArrayRecordReader
    paths, faults = [], []

    class Faulty:
        def __init__(self, path, **options):
            self.reader, self.fault = real(path, **options), faults.pop(0) if faults else None
            paths.append(path)

        def read(self, positions):
            if self.fault:
                self.fault()
            return self.reader.read(positions)

    monkeypatch.setattr(record_reader.array_record_module, "ArrayRecordReader", Faulty)
    monkeypatch.setattr(record_reader, "FIRST_DELAY_SECONDS", 0.01)
    return paths, faults


def fail():
    raise RuntimeError("the connection was reset")


def test_records_come_in_the_order_they_were_asked_for(tmp_path, found):
    in_order = reader_of(tmp_path, found).read([0] * found.rows, range(found.rows))
    assert sum(packing.decode_row(record).num_targets for record in in_order) == found.tokens
    numbers = np.random.default_rng(0).permutation(found.rows).tolist()
    shuffled = reader_of(tmp_path, found, num_threads=7).read([number % 2 for number in numbers], numbers)
    assert shuffled == [in_order[number] for number in numbers]


def test_a_shard_that_fails_is_opened_again(tmp_path, found, opened, caplog):
    paths, faults = opened
    faults += [fail, fail]
    (record,) = reader_of(tmp_path, found, 1, patience_seconds=5.0).read([0], [3])
    assert packing.decode_row(record).num_targets
    assert len(paths) == 3
    assert sum("could not be read (the connection was reset); again in" in r.getMessage() for r in caplog.records) == 2


def test_a_shard_that_goes_on_failing_is_named_when_patience_ends(tmp_path, found, opened):
    paths, faults = opened
    faults += [fail] * 1000
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"code/rows-00000.* could not be read for 0.2 s \(the connection was reset\)"):
        reader_of(tmp_path, found, 1, patience_seconds=0.2).read([0], [3])
    assert time.monotonic() - begun < 2
    assert 3 < len(paths) < 12  # each time later


def test_a_shard_that_does_not_answer_is_named_too(tmp_path, found, opened, monkeypatch):
    monkeypatch.setattr(record_reader, "GRACE_SECONDS", 0.1)
    _, faults = opened
    faults.append(threading.Event().wait)
    with pytest.raises(OSError, match=r"code/rows-00000.* could not be read for 0.1 s \(no answer\)"):
        reader_of(tmp_path, found, 1, patience_seconds=0.1).read([0], [3])


def test_latency_is_waited_for_by_many_threads_at_once(tmp_path, found, opened):
    _, faults = opened
    faults += [lambda: time.sleep(0.1)] * found.rows  # each time that a record is read
    reader = reader_of(tmp_path, found, num_threads=16)
    begun = time.monotonic()
    reader.read([0] * 48, range(48))
    assert 0.3 <= time.monotonic() - begun < 2.4  # one after the other they take 4.8


def test_threads_end_with_their_reader(tmp_path, found):
    before = set(threading.enumerate())  # those of other tests may end at any time
    reader = reader_of(tmp_path, found, num_threads=5)
    reader.read([0], [0])
    started = set(threading.enumerate()) - before
    assert len(started) == 5
    del reader
    for thread in started:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in started)


def test_as_many_files_may_be_open_as_there_are_shards():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
        record_reader.allow_open_files(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
        record_reader.allow_open_files(1250)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1250 + record_reader.OTHER_FILES
        with pytest.raises(
            ValueError, match=r"10000000000 shards are to be open and this machine allows .* `ulimit -n"
        ):
            record_reader.allow_open_files(10**10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
