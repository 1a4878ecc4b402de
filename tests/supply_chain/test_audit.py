"""tools/audit.py against a database that the test itself is."""

from __future__ import annotations

import datetime
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

DAY = datetime.date(2026, 6, 1)
KNOWN = {
    "vulns": [
        {
            "id": "GHSA-1",
            "aliases": ["CVE-1"],
            "summary": "bad",
            "affected": [
                {
                    "package": {"name": "numpy", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "99.0"}]}],
                }
            ],
        }
    ]
}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> Any:
    import audit

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return audit


@contextmanager
def database(known: dict[str, Any], status: int = 200) -> Iterator[str]:
    """The address of a database that knows this of numpy, and nothing of anything else."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            bad = asked.get("package", {}).get("name") == "numpy"
            body = json.dumps(known if bad else {}).encode()
            self.send_response(status if bad else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/v1/query"
        finally:
            http.shutdown()
            thread.join()


def test_an_advisory_fails_and_is_named(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "LOCKS", ("docker/build.lock",))
    monkeypatch.setattr(audit, "pins", lambda _: {("numpy", "2.4.6"), ("pip", "26.3")})
    with database(KNOWN) as url:
        monkeypatch.setenv("OSV_URL", url)
        assert audit.main() == 1
    said = capsys.readouterr().err
    assert "numpy 2.4.6: " in said
    assert "CVE-1" in said
    assert "99.0" in said


def test_a_database_that_breaks_off_is_no_clean_bill(audit: Any) -> None:
    with database({}, status=500) as url, pytest.raises(audit.AuditSkipped):
        audit.pip_audit({"numpy": "2.4.6"}, url)


def test_what_is_wrong_here_is_not_blamed_on_the_database(
    audit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "duplicate requirements")

    monkeypatch.setattr(audit.subprocess, "run", failing)
    with pytest.raises(ChildProcessError, match="duplicate"):
        audit.pip_audit({"numpy": "2.4.6"}, "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="names no version"):
        audit.pins("numpy>=2\n")


def test_without_a_database_it_is_told_and_does_not_fail(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OSV_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/v1/query")
        assert audit.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("AUDIT SKIPPED")


def test_a_database_that_never_answers_is_waited_for_briefly(audit: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/query"
        with pytest.raises(audit.AuditSkipped):
            audit.probe(url, within_s=0.05)


def test_pins_are_read_without_hashes_and_for_every_platform(audit: Any) -> None:
    text = (
        "a==1 ; sys_platform == 'win32' \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\nA==2\n"
    )
    assert audit.pins(text) == {("a", "1"), ("a", "2")}
    assert audit.one_version_each({("a", "1"), ("a", "2"), ("b", "1")}) == [
        {"a": "1", "b": "1"},
        {"a": "2"},
    ]


def test_every_lock_is_audited(audit: Any) -> None:
    locks = [
        *Path(audit.ROOT / "docker").glob("*.lock"),
        *Path(audit.ROOT / "tools").glob("*.lock"),
    ]
    assert {audit.ROOT / name for name in audit.LOCKS} == {
        audit.ROOT / "constraints.txt",
        *locks,
    }


@pytest.mark.parametrize(
    ("id", "until", "said"),
    [
        ("CVE-1", DAY, []),
        ("GHSA-1", DAY, []),
        ("CVE-1", DAY - datetime.timedelta(days=1), ["some 1: GHSA-1 = CVE-1, fixed in 2"]),
        ("CVE-2", DAY, ["some 1: GHSA-1 = CVE-1, fixed in 2", "CVE-2: concerns nothing here"]),
    ],
)
def test_what_is_borne_has_a_last_day_and_a_use(
    audit: Any, id: str, until: datetime.date, said: list[str]
) -> None:
    found = [audit.Finding("some 1", ("GHSA-1", "CVE-1"), "2")]
    assert audit.problems(found, [audit.Borne(id, "why", until)], DAY) == said


def test_what_is_borne_says_why_and_until_when(audit: Any, tmp_path: Path) -> None:
    assert all(len(entry.because) > 20 for entry in audit.borne())
    path = tmp_path / "audit.toml"
    path.write_text('[[borne]]\nid = "CVE-1"\nuntil = 2026-06-01\n', encoding="utf-8")
    with pytest.raises(TypeError, match="because"):
        audit.borne(path)
