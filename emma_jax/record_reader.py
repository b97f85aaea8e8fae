"""Records of packed rows by number: from a disk, a mounted bucket or gs://, many at a time.

Owns open shards, the threads that wait for them, and what happens when a connection is lost. Which shards there are is
told by `store`, what a record is by `packing`. ArrayRecord reads gs:// itself, by ranges of bytes and with the
credentials of the machine.
"""

import bisect
import itertools
import queue
import resource
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent import futures

from absl import logging
from array_record.python import array_record_module
from etils import epath

from emma_jax import store

OTHER_FILES = 256  # that a process holds open besides shards
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0
GRACE_SECONDS = 10.0  # in which a last attempt may still end


class RecordReader:
    """The records of several stores. A shard is opened when it is first read from, and stays open."""

    def __init__(self, folder: str, stores: Sequence[store.Store], num_threads: int, patience_seconds: float):
        """`num_threads` records are waited for at a time, each for `patience_seconds` if it does not come."""
        folders = [epath.Path(folder) / found.component for found in stores]
        self._paths = [[f"{path / shard.file}" for shard in s.shards] for path, s in zip(folders, stores, strict=True)]
        self._ends = [[*itertools.accumulate(shard.rows for shard in found.shards)] for found in stores]
        self._readers: dict[str, array_record_module.ArrayRecordReader] = {}
        self._patience_seconds = patience_seconds
        if "://" not in folder:
            allow_open_files(sum(map(len, self._paths)))
        self._requests = _start_threads(self, num_threads)

    def read(self, stores: Sequence[int], numbers: Sequence[int]) -> list[bytes]:
        """The record of each number in the store of that index, in order.

        Raises OSError, which names the shard, if one cannot be read for as long as there is patience.
        """
        wanted = [self._locate(index, number) for index, number in zip(stores, numbers, strict=True)]
        pending, records = [], []
        for path, position in wanted:
            pending.append(futures.Future())
            self._requests.put((pending[-1], self._read, path, position))
        for (path, _), result in zip(wanted, pending, strict=True):
            try:
                # A reader that tries again by itself, as that of gs:// for a quarter of an hour, is not waited for.
                records.append(result.result(self._patience_seconds + GRACE_SECONDS))
            except futures.TimeoutError:
                raise self._lost(path, "no answer") from None
        return records

    def _locate(self, index: int, number: int) -> tuple[str, int]:
        """The shard that holds a record, and its number in it."""
        shard = bisect.bisect_right(self._ends[index], number)
        return self._paths[index][shard], number - (self._ends[index][shard - 1] if shard else 0)

    def _read(self, path: str, position: int) -> bytes:
        deadline, delay = time.monotonic() + self._patience_seconds, FIRST_DELAY_SECONDS
        while True:
            try:
                return self._reader(path).read([position])[0]
            except (RuntimeError, IndexError) as error:
                self._readers.pop(path, None)  # one that has failed fails for ever
                if time.monotonic() + delay > deadline:
                    raise self._lost(path, str(error)) from error
                logging.warning("the shard %s could not be read (%s); again in %g s", path, error, delay)
                time.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def _reader(self, path: str) -> array_record_module.ArrayRecordReader:
        # Two threads may open a shard at once; one of the two is then forgotten.
        if path not in self._readers:
            self._readers[path] = array_record_module.ArrayRecordReader(
                path, options="readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=1 << 15
            )
        return self._readers[path]

    def _lost(self, path: str, reason: str) -> OSError:
        return OSError(
            f"the shard {path} could not be read for {self._patience_seconds:g} s ({reason}): "
            "look at the disk or the connection, and run again; the run goes on from its last checkpoint"
        )


def _start_threads(owner: RecordReader, number: int) -> queue.SimpleQueue:
    """A queue of (future, function, arguments), which threads of `owner` serve as long as it exists.

    They are daemons, unlike those of an executor: one that waits for a dead connection lets the program end.
    """
    requests = queue.SimpleQueue()
    for _ in range(number):
        threading.Thread(target=_serve, args=(requests,), daemon=True).start()
        weakref.finalize(owner, requests.put, None)
    return requests


def _serve(requests: queue.SimpleQueue) -> None:
    for future, function, *arguments in iter(requests.get, None):
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        del future, function, arguments  # the owner may go while this waits


def allow_open_files(number: int) -> None:
    """Lets this process hold so many shards open.

    Raises ValueError if the machine does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = number + OTHER_FILES
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"{number} shards are to be open and this machine allows {hard} open files to a process; "
            f"raise that to {needed}, as with `ulimit -n {needed}`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
