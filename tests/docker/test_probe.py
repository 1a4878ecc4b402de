"""docker/probe.py against real HTTP servers; what it kills with is a stand-in."""

from __future__ import annotations

import signal
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

DOCKER = Path(__file__).parents[2] / "docker"


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(DOCKER))
    monkeypatch.delitem(sys.modules, "probe", raising=False)
    import probe

    monkeypatch.setattr(probe, "ALIVE", tmp_path / "alive")
    monkeypatch.setattr(probe, "PAUSE_S", 0.0)
    return probe


@pytest.fixture
def killed(probe: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(probe.os, "kill", lambda *call: calls.append(call))
    return calls


@contextmanager
def server(*statuses: int, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that answers with each status in turn, then with the last."""
    left = list(statuses)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as http:
        if tls:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{http.server_port}/healthz"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (204, 1)])
def test_the_status_is_the_exit_code(probe: Any, status: int, code: int) -> None:
    with server(status) as url:
        assert probe.main([url]) == code


def test_the_environment_names_another_address(probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(200) as url:
        monkeypatch.setenv("PROBE_URL", url)
        assert probe.main([]) == 0


def test_a_certificate_for_another_name_is_no_matter(probe: Any) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("gateway.example").configure_cert(tls)
    with server(200, tls=tls) as url:
        assert probe.main([url]) == 0


def test_no_other_host_is_asked(probe: Any) -> None:
    with pytest.raises(ValueError, match="its own container"):
        probe.main(["http://gateway.example:9500/readyz"])


def test_one_answer_of_three_is_enough(probe: Any, killed: list[tuple[int, int]]) -> None:
    with server(503, 503, 200) as url:
        assert probe.main(["--attempts=3", "--kill", url]) == 0
    assert probe.ALIVE.exists()
    assert not killed


@pytest.mark.parametrize("has_answered", [False, True])
def test_a_gateway_that_hangs_is_killed_only_if_it_ever_answered(
    probe: Any, killed: list[tuple[int, int]], has_answered: bool
) -> None:
    if has_answered:
        probe.ALIVE.touch()
    with server(503) as url:
        assert probe.main(["--attempts=3", "--kill", url]) == 1
    assert killed == ([(-1, signal.SIGKILL)] if has_answered else [])
    assert not probe.ALIVE.exists()


def test_without_leave_nothing_is_killed(probe: Any, killed: list[tuple[int, int]]) -> None:
    probe.ALIVE.touch()
    with server(503) as url:
        assert probe.main([url]) == 1
    assert not killed
