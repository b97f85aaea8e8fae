"""A worker process of Beam on this machine, as `beam_runner` starts them: ends with the process that started it.

Says nothing: what fails in it comes back as an exception.
"""

import logging
import os
import sys
import threading
import time

PARENT = "EMMA_JAX_BEAM_PARENT"  # environment variable: number of that process
SECONDS_BETWEEN_LOOKS = 0.2


def main() -> None:
    """Works until there is no more work."""
    logging.disable(logging.CRITICAL)
    threading.Thread(target=_end_with, args=[int(os.environ[PARENT])], daemon=True).start()
    from apache_beam.runners.worker import sdk_worker_main  # after the above: takes a second, and warns

    sdk_worker_main.main(sys.argv)


def _end_with(process: int) -> None:
    while _is_there(process):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
