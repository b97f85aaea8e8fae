"""Progress of work whose pieces each leave a file, wherever they are done."""

import contextlib
import threading
import time
from collections.abc import Iterator

from absl import logging
from etils import epath

SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def of_files(name: str, folder: epath.Path, total: int) -> Iterator[None]:
    """Logs, while the context is open, how many of `total` files are in the folder, at what rate, and what is left."""
    start, finished = time.monotonic(), threading.Event()

    def line() -> None:
        done, seconds = sum(1 for _ in folder.iterdir()), time.monotonic() - start
        rate = done / seconds
        left = f", {(total - done) / rate:.0f} s left" if 0 < done < total else ""
        logging.info("%s: %d of %d in %.1f s, %.1f/s%s", name, done, total, seconds, rate, left)

    def follow() -> None:
        while not finished.wait(SECONDS_BETWEEN_LINES):
            line()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
        line()
    finally:
        finished.set()
        follower.join()
