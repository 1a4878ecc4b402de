"""Servers as processes of a benchmark: on free ports, ready before they are used, ended after."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

from benchmarks.contender import Contender

START_S = 120.0  # a gateway's first start compiles the cost kernel


def free_addresses(count: int) -> list[str]:
    """``count`` addresses on 127.0.0.1 that nobody listened on just now."""
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


@contextmanager
def server(
    name: str,
    address: str,
    command: Sequence[str],
    is_ready: Callable[[str], bool],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Contender]:
    """A server for which ``is_ready`` holds, asked with ``address``; ``environment``: beside ours.

    SystemExit with its output when it does not get ready.
    """
    with tempfile.TemporaryFile("w+b") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
        )
        try:
            deadline = time.monotonic() + START_S
            while not is_ready(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    sys.exit(f"{name} did not get ready:\n{log.read().decode()[-4000:]}")
                time.sleep(0.1)
            yield Contender(name, address, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(path: str, body: bytes | None = None) -> Callable[[str], bool]:
    """Whether an HTTP server answers ``path`` with status 200; a POST where there is a ``body``."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"content-type": "application/json"}

    def asked(address: str) -> bool:
        request = urllib.request.Request(f"http://{address}{path}", body, headers)
        try:
            with opener.open(request, timeout=5.0) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    return asked
