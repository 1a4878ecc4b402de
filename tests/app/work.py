"""Workers for `test_workers`, run by ``python -m tests.app.work KIND FOLDER``.

Each says what happens to it by files in FOLDER, named by its process id.
"""

import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from router.app import workers
from router.app.workers import Plan, WorkerOrder, run_workers
from router.clock import WallClock
from router.errors import TraceError
from router.peers.rows import Phase

# Nobody here reads it, and there is no file to read it from again.
CONFIG: Any = None


def steady(order: WorkerOrder) -> int:
    """Serves until SIGTERM; notes SIGHUP."""
    return _serve(order)


def stopped(order: WorkerOrder) -> int:
    """As steady; the test stops one."""
    return _serve(order)


def stubborn(order: WorkerOrder) -> int:
    """Ends badly when told to stop."""
    return _serve(order) or 5


def failing(order: WorkerOrder) -> int:
    """Does not even start."""
    (order.config_path / f"{os.getpid()}.tried").touch()
    raise TraceError("grid.csv: row 3: unusable")


def slow_start(order: WorkerOrder) -> int:
    """Needs a while before it listens to signals."""
    (order.config_path / f"{os.getpid()}.starting").touch()
    time.sleep(0.5)
    return _serve(order)


def crowded(order: WorkerOrder) -> int:
    """Only the first one can start."""
    try:
        (order.config_path / "taken").touch(exist_ok=False)
    except FileExistsError:
        return failing(order)
    return _serve(order)


def frozen(order: WorkerOrder) -> int:
    """The first one stops to turn once it serves."""
    try:
        (order.config_path / "taken").touch(exist_ok=False)
    except FileExistsError:
        return _serve(order)
    return _serve(order, beats=3)


def slow(order: WorkerOrder) -> int:
    """Turns seldom, but does."""
    return _serve(order, every_s=1.5)


def _serve(order: WorkerOrder, beats: float = math.inf, every_s: float = 0.0) -> int:
    """``beats``: that it shows, at most; ``every_s``: at least so long apart."""
    folder, rows = order.config_path, order.memory.rows
    caught: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: caught.append(got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    me = str(os.getpid())
    written = folder / f"{me}.written"
    written.write_text(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    written.rename(folder / f"{me}.ready")  # never seen half written
    rows.enter(order.row, Phase.SERVING)
    beaten_at = -math.inf
    while signal.SIGTERM not in caught:
        now = WallClock().monotonic()
        if beats > 0 and now - beaten_at >= every_s:
            rows.beat(order.row)
            beats, beaten_at = beats - 1, now
            if rows.beats(order.row) == 5:
                (folder / f"{me}.beaten_5").touch()
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
    # A busy machine holds up the others, too, and for longer than a test should wait.
    frozen_after_s = {"frozen": 1.0, "stopped": 1.0, "slow": 5.0}.get(sys.argv[1], math.inf)
    plan = Plan(CONFIG, Path(sys.argv[2]), 2, frozen_after_s)
    sys.exit(run_workers(plan, getattr(work, sys.argv[1]), WallClock()))
