"""Several gateway processes on one port (SO_REUSEPORT), and the parent that keeps them running."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from router.contract import Clock
from router.errors import CarbonRouterError
from router.telemetry.exposition import forget_worker, prepare_workers

_CHECK_S = 0.5
# Workers that end this often within the time are no longer replaced at once: something is wrong
# with all of them.
_MAX_STARTS = 10
_STARTS_WITHIN_S = 60.0
_FAILED = 1

_log = logging.getLogger(__name__)


def run_workers(
    config_path: Path, count: int, work: Callable[[Path, int], int], clock: Clock
) -> int:
    """Run ``count`` processes of ``work(config_path, count)``; signals go to all of them.

    A worker that dies is replaced. Returns when all ended: 0 if that was after SIGTERM or SIGINT
    and all ended well; 1 also when none is left and they end faster than they should be replaced.
    """
    with tempfile.TemporaryDirectory(prefix="carbon-router-") as room:
        prepare_workers(Path(room))
        return _Parent(config_path, count, work, clock).run()


class _Parent:
    def __init__(
        self, config_path: Path, count: int, work: Callable[[Path, int], int], clock: Clock
    ) -> None:
        self._arguments = (config_path, count)
        self._count = count
        self._work = work
        self._clock = clock
        # Spawned, not forked: gRPC's threads do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._started_at: list[float] = []
        self._stopping = False
        self._processes: list[BaseProcess] = []

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        failed = False
        self._fill_up()
        while self._processes:
            for process in list(self._processes):
                process.join(_CHECK_S / len(self._processes))
                if process.exitcode is not None:
                    failed = self._take_away(process) or failed
            self._fill_up()
        return 0 if self._stopping and not failed else _FAILED

    def _fill_up(self) -> None:
        """Start the workers that are missing."""
        now = self._clock.monotonic()
        self._started_at = [at for at in self._started_at if now - at < _STARTS_WITHIN_S]
        while (
            not self._stopping
            and len(self._processes) < self._count
            and len(self._started_at) < self._count + _MAX_STARTS
        ):
            self._started_at.append(now)
            self._start()

    def _start(self) -> None:
        process = self._context.Process(target=_child, args=(self._work, *self._arguments))
        # A worker is born with SIGHUP held back; it lets it in once it can reload.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        self._processes.append(process)
        if self._stopping:
            # Told to stop between the last look and now.
            self._pass_on(signal.SIGTERM, None)

    def _take_away(self, process: BaseProcess) -> bool:
        """Forget a worker that has ended; True when it should not have ended like that."""
        self._processes.remove(process)
        if process.pid is not None:
            forget_worker(process.pid)
        if self._stopping:
            # One that was still starting has no handler yet: SIGTERM just ends it.
            return process.exitcode not in (0, -signal.SIGTERM)
        _log.error("a worker ended", extra={"worker": process.pid, "exit_code": process.exitcode})
        return False

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._pass_on(signal.SIGTERM, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for process in self._processes:
            if process.pid is not None and process.exitcode is None:
                _signal(process.pid, number)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _child(work: Callable[[Path, int], int], config_path: Path, count: int) -> None:
    try:
        code = work(config_path, count)
    except CarbonRouterError as error:
        print(f"{error.reason}:\n{error}", file=sys.stderr)
        code = _FAILED
    raise SystemExit(code)
