"""Workers for `test_workers`, run by ``python -m tests.app.work KIND FOLDER``.

Each says what happens to it by files in FOLDER, named by its process id.
"""

import os
import signal
import sys
import time
from pathlib import Path

from router.app import workers
from router.app.workers import run_workers
from router.clock import WallClock
from router.errors import TraceError


def steady(folder: Path, count: int) -> int:
    """Serves until SIGTERM; notes SIGHUP."""
    return _serve(folder)


def stubborn(folder: Path, count: int) -> int:
    """Ends badly when told to stop."""
    return _serve(folder) or 5


def failing(folder: Path, count: int) -> int:
    """Does not even start."""
    (folder / f"{os.getpid()}.tried").touch()
    raise TraceError("grid.csv: row 3: unusable")


def slow_start(folder: Path, count: int) -> int:
    """Needs a while before it listens to signals."""
    (folder / f"{os.getpid()}.starting").touch()
    time.sleep(0.5)
    return _serve(folder)


def crowded(folder: Path, count: int) -> int:
    """Only the first one can start."""
    try:
        (folder / "taken").touch(exist_ok=False)
    except FileExistsError:
        return failing(folder, count)
    return _serve(folder)


def _serve(folder: Path) -> int:
    caught: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: caught.append(got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    me = str(os.getpid())
    written = folder / f"{me}.written"
    written.write_text(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    written.rename(folder / f"{me}.ready")  # never seen half written
    while signal.SIGTERM not in caught:
        if signal.SIGHUP in caught:
            caught.remove(signal.SIGHUP)
            (folder / f"{me}.hangup").touch()
        time.sleep(0.005)
    (folder / f"{me}.ended").touch()
    return 0


if __name__ == "__main__":
    # Importable by name, as a spawned worker needs it.
    from tests.app import work

    workers._MAX_STARTS = 2  # each costs a second of imports
    sys.exit(run_workers(Path(sys.argv[2]), 2, getattr(work, sys.argv[1]), WallClock()))
