"""Server processes on 127.0.0.1: started, awaited until they are ready, ended by SIGTERM."""

from __future__ import annotations

import http.client
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

SERVER_READY = "/inference.GRPCInferenceService/ServerReady"
TRUE = b"\x08\x01"  # ServerReadyResponse.ready, field 1
POLLS = 900  # of at least 0.1 s each; a first start compiles the cost kernel
POLL_S = 0.1
ASK_S = 5.0
STOP_S = 20.0


def bare_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would reach into another venv or to a proxy."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLSERVER_"))}
    return {**kept, "no_grpc_proxy": "127.0.0.1", "no_proxy": "127.0.0.1", **more}


def grpc_ready(address: str) -> bool:
    """Whether ServerReady says true there."""
    # A channel of its own: one that failed once would wait before it connects again.
    with grpc.insecure_channel(address) as channel:
        try:
            return channel.unary_unary(SERVER_READY)(b"", timeout=ASK_S) == TRUE
        except grpc.RpcError:
            return False  # not listening yet


def http_get(address: str, path: str) -> tuple[int, bytes]:
    """Status and body of what is there, by no proxy; status 0 where nobody answers."""
    with closing(http.client.HTTPConnection(address, timeout=ASK_S)) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""


@contextmanager
def server(
    command: list[str],
    ready: Callable[[], bool],
    cwd: Path,
    log: Path,
    polls: int = POLLS,
    **env: str,
) -> Iterator[None]:
    """A server process, yielded once it is ready, which may take so many ``polls``; afterwards it
    must end on SIGTERM."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=bare_environment(**env), stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _await_ready(process, ready, log, polls)
            yield
            assert process.poll() is None, f"died during the tests:\n{_tail(log)}"
            process.terminate()
            process.wait(STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert process.returncode in (0, -15), f"ended with {process.returncode}:\n{_tail(log)}"


def _await_ready(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path, polls: int
) -> None:
    for _ in range(polls):
        if ready():
            return
        try:
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"{process.args!r} ended before it was ready:\n{_tail(log)}")
    pytest.fail(f"{process.args!r} was not ready after {polls} polls:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
