"""Progress of work that is done elsewhere, told from what it leaves behind."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from absl import logging

SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def follow(name: str, total: int | Callable[[], int], count: Callable[[], int]) -> Iterator[None]:
    """Logs, while the context is open and something happens, how many of `total` pieces are done, at what rate, and how
    long the rest will take; `count` says how many are done. Pieces that were done before do not count for the rate, nor
    does the time until work begins. Where the total is not known from the start, it is a function.
    """
    start, before, ended = time.monotonic(), count(), threading.Event()
    said = before

    def tell() -> None:
        nonlocal said, start
        done, now = count(), time.monotonic()
        if done > said:
            pieces = total() if callable(total) else total
            rate = (done - before) / (now - start)
            left = f", {(pieces - done) / rate:.0f} s left" if done < pieces else ""
            logging.info("%s: %d of %d in %.1f s, %.1f/s%s", name, done, pieces, now - start, rate, left)
        elif done == before:
            start = now
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
