"""The processes of a live run: started with a log each, watched, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp

_STOP_S = 8.0
_LOG_TAIL = 15
_POLL_S = 0.1
_PACKAGES = Path(__file__).parents[3]


class ChildError(RuntimeError):
    """A process of the run ended early or did not come up; the message has its last words."""


class Child:
    """One running module, tied to this process: a ``carbon-router`` command, or another one.

    ``module``: ends with the process whose id is its first argument. ``python``: runs it; one that
    has not this package installed finds it where it lies.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        module: str = "router.lab.loopback.tethered",
        python: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        environment = None if python is None else os.environ | {"PYTHONPATH": str(_PACKAGES)}
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [str(python or sys.executable), "-m", module, str(os.getpid()), *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # Its own session: Ctrl-C reaches the parent alone, which then ends it in order.
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raises ChildError when the process has ended."""
        code = self.exit_code()
        if code is not None:
            raise ChildError(f"{self.name} ended with exit code {code}; {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
        return f"the end of {self.log}:\n" + "\n".join(lines)

    def cpu_s(self) -> float:
        """CPU seconds used so far; NaN where the system does not say."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return float("nan")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone: it has no time to close or to finish anything."""
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Wait for its end for a few seconds, then kill it."""
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def children() -> Iterator[list[Child]]:
    """A list to put children in; on leaving, by whichever way, they are all ended."""
    started: list[Child] = []
    try:
        yield started
    finally:
        for child in reversed(started):
            child.ask_to_stop()
        for child in reversed(started):
            child.end()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


async def wait_for_ports(ports: Sequence[int], child: Child, timeout_s: float) -> None:
    """Return once every port accepts a connection. Raises ChildError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    for port in ports:
        while True:
            child.check()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if loop.time() > deadline:
                    raise ChildError(
                        f"{child.name} did not listen on port {port} within {timeout_s:g} s; "
                        f"{child.last_words()}"
                    ) from None
                await asyncio.sleep(0.05)
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            break


async def wait_until_ready(
    session: aiohttp.ClientSession, url: str, child: Child, timeout_s: float
) -> None:
    """Return once a GET of ``url`` answers with 200. Raises ChildError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    why = "no answer"
    while loop.time() < deadline:
        child.check()
        try:
            async with session.get(url) as answer:
                if answer.status == 200:
                    return
                why = (await answer.text())[:300]
        except aiohttp.ClientError as error:
            why = str(error)
        await asyncio.sleep(_POLL_S)
    raise ChildError(
        f"{child.name} is not ready after {timeout_s:g} s: {why}; {child.last_words()}"
    )


async def guard(running: Sequence[Child]) -> None:
    """Raise ChildError as soon as one of ``running``, as it then is, ends."""
    while True:
        for child in running:
            child.check()
        await asyncio.sleep(_POLL_S)
