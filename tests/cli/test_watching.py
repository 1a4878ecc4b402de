"""`top` and `tail` on a pipe, with a gateway that is there, gone, or none."""

import json
import os
import pty
import subprocess
import sys

import pytest

from router.operator.watching import connection
from tests.cli.command_line import run
from tests.fakes.console_feed import BEGINNING, HEAD, AdminPort, decision, event, tick

RECEIPT = {"gco2e_g": 0.2, "ttft_ms": 80.0, "e2e_ms": 950.0, "attempts": 1}
TICK = event("tick", tick())
DECIDED = event("decisions", [decision(f"d{i}", receipt=RECEIPT) for i in range(3)])


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(connection, "_PAUSES_S", (0.001, 0.002))


def test_top_once_waits_for_rates_and_ends(capsys):
    answer = HEAD + BEGINNING + event("tick", tick(rates=False)) + TICK
    with AdminPort(answer) as port:
        assert run("top", port.address, "--once") == 0
        assert "0.500 g/s" in capsys.readouterr().out
        # A pipe is no terminal: one frame.
        assert run("top", port.address) == 0
        assert "0.500 g/s" in capsys.readouterr().out
        assert run("top", port.address, "--once", "--json") == 0
        assert json.loads(capsys.readouterr().out)["rates"]["seconds"] == 10.0


def test_top_says_that_there_is_nothing(capsys):
    assert run("top", "127.0.0.1:1", "--once") == 1
    assert "127.0.0.1:1: Connection refused" in capsys.readouterr().err
    with AdminPort(HEAD) as port:
        assert run("top", port.address, "--once") == 1
    assert "before its first tick" in capsys.readouterr().err
    with AdminPort(HEAD + b"event: tick\ndata: {\n\n") as port:
        assert run("top", port.address, "--once") == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_key_is_sent_and_one_that_is_missing_is_said(capsys, monkeypatch):
    monkeypatch.setenv("ADMIN", "s3cret")
    with AdminPort(HEAD + BEGINNING + TICK) as port:
        assert run("top", port.address, "--once", "--key-env", "ADMIN") == 0
        assert "Authorization: Bearer s3cret" in port.asked[0]
    with AdminPort(b"HTTP/1.1 401 No\r\n\r\nsend the token") as port:
        assert run("tail", port.address, "--key-env", "ADMIN") == 1
        told = capsys.readouterr().err
    assert "401: send the token (see --key-env)" in told
    assert "s3cret" not in told
    with AdminPort(b"HTTP/1.1 421 No\r\n\r\nsay server.admin_hosts") as port:
        assert run("top", port.address, "--once") == 1
    assert capsys.readouterr().err.strip().endswith("421: say server.admin_hosts")
    assert run("top", "--key-env", "NOT_SET_ANYWHERE", "--once") == 2


def test_tail_tells_each_decision_once_however_often_it_is_lost(capsys):
    parts = [HEAD + BEGINNING + 5 * TICK + DECIDED, b"SSH-2.0\r\n", HEAD + DECIDED]
    last = event("decisions", [decision("z", receipt=RECEIPT, model="last")])
    with AdminPort(*parts, HEAD + DECIDED + last) as port:
        assert run("tail", port.address, "-n", "4") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert "last" in out.splitlines()[-1]
    assert "a sample, of about 25.0% of decisions" in err
    assert "lost" in err


def test_tail_filters_and_speaks_json(capsys):
    wanted = event("decisions", [decision("w", refusal="shed", tenant="beta")])
    with AdminPort(HEAD + DECIDED + wanted) as port:
        assert run("tail", port.address, "-n", "1", "--tenant", "beta", "--json") == 0
    assert json.loads(capsys.readouterr().out)["refusal"] == "shed"


def test_a_reader_that_goes_ends_it_without_a_word():
    many = event("decisions", [decision(f"d{i}", receipt=RECEIPT) for i in range(600)])
    with AdminPort(HEAD + many) as port:
        child = subprocess.Popen(
            [sys.executable, "-m", "router.cli", "tail", port.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        child.stdout.readline()
        child.stdout.close()
        # Each connection tells what was told before; a new key finds the pipe closed.
        port._answers[:] = [
            HEAD + event("decisions", [decision(f"e{i}", receipt=RECEIPT) for i in range(600)])
        ]
        with child.stderr:
            err = child.stderr.read()
        assert child.wait(30) == 0
    assert b"Traceback" not in err and b"BrokenPipe" not in err


def test_top_on_a_terminal_draws_until_it_is_told_to_end():
    with AdminPort(HEAD + BEGINNING + TICK) as port:
        main, side = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-m", "router.cli", "top", port.address],
            stdin=side, stdout=side, stderr=side, start_new_session=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "60", "LINES": "20"},
        )  # fmt: skip
        os.close(side)
        try:
            seen = b""
            # The feed ends after each tick: the frame stays, and says so.
            while b"0.500 g/s" not in seen or b"lost" not in seen:
                seen += os.read(main, 65536)
            child.send_signal(2)
            seen += rest_of(main)
            assert child.wait(30) == 0
        finally:
            child.kill()
            child.wait()
            os.close(main)
    # The screen is as it was before.
    assert b"\x1b[?1049h" in seen and b"\x1b[?1049l" in seen
    assert b"Traceback" not in seen


def rest_of(terminal):
    found = b""
    try:
        while part := os.read(terminal, 65536):
            found += part
    except OSError:
        # Nobody has its other side any more.
        pass
    return found
