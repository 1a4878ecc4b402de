"""Several gateway processes on one port (SO_REUSEPORT), and the parent that keeps them running."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from router.telemetry.exposition import forget_worker, prepare_workers

_CHECK_S = 0.5
# A worker that ends this often in a row is not restarted: something is wrong for good.
_MAX_RESTARTS = 10


def run_workers(config_path: Path, count: int, work: Callable[[Path, int], int]) -> int:
    """Run ``count`` processes of ``work(config_path, count)``; signals go to all of them.

    A worker that dies is replaced. Returns when all ended after SIGTERM or SIGINT: 0 if well.
    """
    with tempfile.TemporaryDirectory(prefix="carbon-router-") as room:
        prepare_workers(Path(room))
        return _Parent(config_path, count, work).run()


class _Parent:
    def __init__(self, config_path: Path, count: int, work: Callable[[Path, int], int]) -> None:
        self._arguments = (config_path, count)
        self._work = work
        # Spawned, not forked: gRPC's threads do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._restarts = 0
        self._stopping = False
        self._processes: list[BaseProcess] = [self._start() for _ in range(count)]

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        failed = False
        while self._processes:
            for process in list(self._processes):
                process.join(_CHECK_S / len(self._processes))
                if process.exitcode is None:
                    continue
                self._processes.remove(process)
                if process.pid is not None:
                    forget_worker(process.pid)
                failed = failed or process.exitcode != 0
                if not self._stopping and self._restarts < _MAX_RESTARTS:
                    self._restarts += 1
                    self._processes.append(self._start())
        return 1 if failed else 0

    def _start(self) -> BaseProcess:
        process = self._context.Process(target=_child, args=(self._work, *self._arguments))
        process.start()
        return process

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
    raise SystemExit(work(config_path, count))
