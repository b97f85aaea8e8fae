"""Progress of work that is done elsewhere, told from what it leaves behind."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from absl import logging

SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def follow(name: str, total: int, count: Callable[[], int]) -> Iterator[None]:
    """Logs, while the context is open and something happens, how many of `total` pieces are done, at what rate, and how
    long the rest will take; `count` says how many are done. Pieces that were done before do not count for the rate."""
    start, before, ended = time.monotonic(), count(), threading.Event()
    said = before

    def tell() -> None:
        nonlocal said
        done, seconds = count(), time.monotonic() - start
        if done > said:
            rate = (done - before) / seconds
            left = f", {(total - done) / rate:.0f} s left" if done < total else ""
            logging.info("%s: %d of %d in %.1f s, %.1f/s%s", name, done, total, seconds, rate, left)
        said = done

    def tell_again_and_again() -> None:
        while not ended.wait(SECONDS_BETWEEN_LINES):
            tell()

    follower = threading.Thread(target=tell_again_and_again, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
        tell()
