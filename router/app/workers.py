"""Several gateway processes on one port (SO_REUSEPORT), and the parent that keeps them running."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple, TypeAlias

from router.app.loading import load
from router.app.restart import as_started
from router.clock import WallClock
from router.config.settings import Config
from router.contract import Clock
from router.errors import CarbonRouterError, ConfigError
from router.parent_process import end_with_parent
from router.peers.beats import BeatWatch
from router.peers.memory import SharedMemory
from router.peers.rows import PARENT, Phase
from router.telemetry.exposition import forget_worker, prepare_workers

_CHECK_S = 0.5
# Workers that end this often within the time are no longer replaced at once: something is wrong
# with all of them.
_MAX_STARTS = 10
_STARTS_WITHIN_S = 60.0
# Imports, carbon tables and the first answers of providers take a while.
_START_S: Final = 300.0
_FAILED = 1
# In memory, where the disk for temporary files is full or cannot be written.
_ROOM_OF_LAST_RESORT: Final = "/dev/shm"

_log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What the workers are to be. ``frozen_after_s``: how long a worker may stand still."""

    config: Config
    config_path: Path
    workers: int
    frozen_after_s: float


class WorkerOrder(NamedTuple):
    """What one worker gets. ``config``: in force, whatever the file on disk says by now; ``row``:
    its own in ``memory``; ``gateway``: whose worker it is, among all gateways; ``began_at``: of
    that, unix s: its totals go on where a worker is replaced."""

    config: Config
    config_path: Path
    workers: int
    row: int
    memory: SharedMemory
    parent_pid: int
    gateway: str = ""
    began_at: float = 0.0

    @property
    def speaks(self) -> bool:
        """Whether it does for its gateway what one of the workers does."""
        return self.row == PARENT + 1


Work: TypeAlias = Callable[[WorkerOrder], int]


def run_workers(plan: Plan, work: Work, clock: Clock) -> int:
    """Run ``plan.workers`` processes of ``work``; signals go to all of them.

    A worker that dies or stands still is replaced. Returns when all ended: 0 if that was after
    SIGTERM or SIGINT and all ended well; 1 also when none is left and they end faster than they
    should be replaced. Raises ConfigError without a place for the workers' shared files.
    """
    with _room(plan.config_path) as room:
        prepare_workers(room)
        return _Parent(plan, work, clock).run()


class _Parent:
    def __init__(self, plan: Plan, work: Work, clock: Clock) -> None:
        self._plan = plan
        self._config = plan.config
        self._work = work
        self._clock = clock
        # Spawned, not forked: gRPC's threads do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._memory = SharedMemory(plan.workers)
        self._gateway = secrets.token_hex(8)
        # By the wall, whatever day is replayed.
        self._began_at = WallClock().now()
        self._rows = self._memory.rows
        self._beats = BeatWatch(self._rows.beats, range(1, plan.workers + 1))
        self._started_at: list[float] = []
        self._stopping = False
        self._hangup = False
        self._processes: dict[int, BaseProcess] = {}

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._rows.occupy(PARENT, os.getpid())
        failed = False
        self._fill_up()
        while self._processes:
            for row, process in list(self._processes.items()):
                process.join(_CHECK_S / len(self._processes))
                if process.exitcode is not None:
                    failed = self._take_away(row) or failed
            self._rows.beat(PARENT)
            self._end_the_frozen()
            if self._hangup:
                self._hangup = False
                self._config = _read_again(self._plan, self._config)
            self._fill_up()
        return 0 if self._stopping and not failed else _FAILED

    def _fill_up(self) -> None:
        """Start the workers that are missing."""
        now = self._clock.monotonic()
        self._started_at = [at for at in self._started_at if now - at < _STARTS_WITHIN_S]
        for row in range(1, self._plan.workers + 1):
            too_many = len(self._started_at) >= self._plan.workers + _MAX_STARTS
            if row in self._processes or self._stopping or too_many:
                continue
            self._started_at.append(now)
            self._start(row)

    def _start(self, row: int) -> None:
        order = WorkerOrder(
            self._config, self._plan.config_path, self._plan.workers, row, self._memory,
            os.getpid(), self._gateway, self._began_at,
        )  # fmt: skip
        self._beats.begin(row)
        process = self._context.Process(target=_child, args=(self._work, order))
        # A worker is born with SIGHUP held back; it lets it in once it can reload.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        self._processes[row] = process
        if self._stopping:
            # Told to stop between the last look and now.
            self._pass_on(signal.SIGTERM)

    def _take_away(self, row: int) -> bool:
        """Forget a worker that has ended; True when it should not have ended like that."""
        process = self._processes.pop(row)
        self._rows.clear(row)
        if process.pid is not None:
            forget_worker(process.pid)
        if self._stopping:
            # One that was still starting has no handler yet: SIGTERM just ends it.
            return process.exitcode not in (0, -signal.SIGTERM)
        _log.error("a worker ended", extra={"worker": process.pid, "exit_code": process.exitcode})
        return False

    def _end_the_frozen(self) -> None:
        """Kill who does not turn any more: it is taken away, and replaced, as one that died."""
        self._beats.look(self._clock.monotonic())
        for row, process in self._processes.items():
            starting = self._rows.phase(row) in (Phase.GONE, Phase.STARTING)
            limit_s = _START_S if starting else self._plan.frozen_after_s
            still_s = self._beats.still_s(row)
            if still_s > limit_s and process.pid is not None:
                _log.error(
                    "a worker stands still: killed",
                    extra={"worker": process.pid, "still_s": round(still_s, 1)},
                )
                _signal(process.pid, signal.SIGKILL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._pass_on(signal.SIGTERM)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self._hangup = True
        self._pass_on(signal.SIGHUP)

    def _pass_on(self, number: int) -> None:
        for process in list(self._processes.values()):
            if process.pid is not None and process.exitcode is None:
                _signal(process.pid, number)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _read_again(plan: Plan, in_force: Config) -> Config:
    """What a worker that starts from now on gets: the file, unless the others refuse it too."""
    try:
        config = load(plan.config_path)
    except (CarbonRouterError, OSError):
        # Each worker tells the reason.
        return in_force
    if config.settings.clock != in_force.settings.clock:
        return in_force
    return as_started(config, plan.config)


@contextlib.contextmanager
def _room(config_path: Path) -> Iterator[Path]:
    """A folder for the workers' shared files. Raises ConfigError when there is no place for it."""
    with contextlib.ExitStack() as stack:
        for parent in (None, _ROOM_OF_LAST_RESORT):
            try:
                made = tempfile.TemporaryDirectory(prefix="carbon-router-", dir=parent)
                room = Path(stack.enter_context(made))
                break
            except OSError as error:
                problem = f"workers need a folder for temporary files, and there is none: {error}"
                failure = ConfigError(str(config_path), [("server.workers", problem)])
        else:
            raise failure
        yield room


def _child(work: Work, order: WorkerOrder) -> None:
    end_with_parent(order.parent_pid)
    order.memory.rows.occupy(order.row, os.getpid())
    try:
        code = work(order)
    except CarbonRouterError as error:
        print(f"{error.reason}:\n{error}", file=sys.stderr)
        code = _FAILED
    # What is left to tear down beats no more, and is no worker that stands still.
    order.memory.rows.enter(order.row, Phase.GONE)
    raise SystemExit(code)
