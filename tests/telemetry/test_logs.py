"""Lines are JSON, bounded, free of payloads, and never make the event loop wait."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.logs import (
    MAX_FIELD,
    REQUESTS,
    LogOutput,
    RequestLine,
    RequestLog,
    install,
    sanitised,
)
from router.telemetry.throttle import LineThrottle

LINE = RequestLine(
    decision_id="d1", reason="shed", code="RESOURCE_EXHAUSTED", model="llama", origin="us-west",
    endpoint="west-0", attempts=2, elapsed_ms=12.34567, upstream_ms=11.0,
)  # fmt: skip


class Sink:
    """Collects lines; can be told to stall like a full pipe, or to fail like a closed one."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.breaks = 0

    def write(self, line: bytes) -> None:
        self.entered.set()
        assert self.open.wait(20)
        if self.breaks:
            self.breaks -= 1
            raise BrokenPipeError
        self.raw.append(line)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def output(sink: Sink) -> Iterator[LogOutput]:
    root = logging.getLogger()
    before = root.level
    installed = install(write=sink.write, max_lines=5)
    yield installed
    sink.open.set()
    installed.close()
    root.setLevel(before)


def test_one_line_holds_what_an_operator_needs(sink: Sink, output: LogOutput) -> None:
    RequestLog().write("refused", LINE, now=0.0)
    output.close()
    (line,) = sink.lines
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "level": "WARNING", "logger": REQUESTS, "message": "request refused", "event": "refused",
        "decision_id": "d1", "reason": "shed", "code": "RESOURCE_EXHAUSTED", "model": "llama",
        "origin": "us-west", "endpoint": "west-0", "attempts": 2, "elapsed_ms": 12.346,
        "upstream_ms": 11.0,
    }  # fmt: skip
    assert sink.raw[0].endswith(b"}\n")


def test_what_is_not_known_is_left_out_and_levels_follow_the_event(
    sink: Sink, output: LogOutput
) -> None:
    log = RequestLog()
    log.write("invalid", RequestLine("model_unknown", "NOT_FOUND", "x"), now=0.0)
    log.write("failed", RequestLine("upstream_fault", "UNAVAILABLE", "x"), now=0.0)
    output.close()
    assert [line["level"] for line in sink.lines] == ["INFO", "ERROR"]
    known = {"timestamp", "level", "logger", "message", "event", "reason", "code", "model"}
    assert all(line.keys() == known for line in sink.lines)


def test_repeats_are_held_back_and_counted(sink: Sink, output: LogOutput) -> None:
    log = RequestLog(LineThrottle(interval_s=10.0))
    for number in range(1000):
        log.write("refused", LINE._replace(decision_id=f"d{number}"), now=number * 0.001)
    log.write("refused", LINE, now=11.0)
    log.write("refused", LINE, now=11.1)
    log.close()
    output.close()
    assert [line.get("suppressed") for line in sink.lines] == [None, 999, 1]


def test_invented_model_names_do_not_use_up_the_lines(sink: Sink, output: LogOutput) -> None:
    log = RequestLog()
    for number in range(1000):
        log.write("invalid", RequestLine("model_unknown", "NOT_FOUND", f"x{number}"), now=0.0)
    for model in ("a", "b"):
        log.write("failed", LINE._replace(model=model), now=0.0)
    output.close()
    assert [line["model"] for line in sink.lines] == ["x0", "a", "b"]


def test_an_internal_fault_logs_type_and_stack_but_not_the_text(
    sink: Sink, output: LogOutput
) -> None:
    try:
        raise RuntimeError("the prompt was: my secret")
    except RuntimeError as error:
        RequestLog().write("failed", LINE._replace(reason="internal"), 0.0, error)
    output.close()
    (line,) = sink.lines
    assert line["error"] == "RuntimeError"
    assert "test_logs.py" in line["stack"][0]
    assert b"secret" not in sink.raw[0]


@given(st.text(max_size=400))
def test_what_a_caller_writes_is_one_bounded_printable_field(text: str) -> None:
    clean = sanitised(text)
    assert len(clean) <= MAX_FIELD
    assert clean.isprintable()
    if text.isprintable() and len(text) <= MAX_FIELD:
        assert clean == text


def test_hostile_names_stay_inside_their_line(sink: Sink, output: LogOutput) -> None:
    hostile = '"}\n{"level":"CRITICAL"}\x1b[2J\u2028' + "A" * 10_000
    RequestLog().write("refused", LINE._replace(model=hostile, origin=hostile), 0.0)
    output.close()
    assert len(sink.raw) == 1
    assert sink.raw[0].count(b"\n") == 1
    assert b"\x1b" not in sink.raw[0]
    assert len(sink.raw[0]) < 2_000
    assert sink.lines[0]["level"] == "WARNING"


def test_a_stalled_stream_never_blocks_and_losses_are_reported(
    sink: Sink, output: LogOutput
) -> None:
    sink.open.clear()
    log = logging.getLogger("router.test")
    log.warning("the writer takes this one and stalls")
    assert sink.entered.wait(20)
    for number in range(20):
        log.warning("line %d", number)
    assert output.lost == 15
    sink.open.set()
    output.close()
    messages = [line["message"] for line in sink.lines]
    assert messages.count("log lines lost") == 1
    assert next(line["lost"] for line in sink.lines if "lost" in line) == 15
    assert {f"line {number}" for number in range(5)} <= set(messages)


def test_closing_gives_up_on_a_stream_that_stalled_for_good(sink: Sink, output: LogOutput) -> None:
    sink.open.clear()
    for _ in range(20):
        logging.getLogger("router.test").warning("stuck")
    output.close(timeout_s=0.01)
    assert sink.raw == []


def test_a_broken_stream_and_a_broken_record_do_not_end_the_writer(
    sink: Sink, output: LogOutput
) -> None:
    sink.breaks = 1
    logging.getLogger("router.test").warning("lost")
    # Straight to the writer: pytest's own handler would trip over the record first.
    broken = logging.makeLogRecord({"name": "router.test", "msg": "%d of them", "args": ("x",)})
    output._writer.handle(broken)
    output.close()
    assert output.lost == 1
    assert [line["message"] for line in sink.lines] == [
        "log lines lost",
        "unformattable log record",
    ]
    assert sink.lines[1]["origin"] == "router.test"


def test_lines_reach_stderr_and_a_stalled_stderr_does_not_hang_the_exit(tmp_path: Path) -> None:
    program = (
        "import logging, sys\n"
        "from router.telemetry.logs import install\n"
        "output = install()\n"
        "for number in range(int(sys.argv[1])):\n"
        "    logging.getLogger('router.test').warning('x' * 1000)\n"
        "output.close(timeout_s=0.2)\n"
        "print('ended')\n"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [*command, "3"], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["x" * 1000] * 3
    reading, writing = os.pipe()
    try:
        # Nobody reads: the pipe fills after 64 KiB and the writer thread hangs in write().
        ended = subprocess.run(
            [*command, "200"], stdout=subprocess.PIPE, stderr=writing, timeout=60, check=False,
            env=environment,
        )  # fmt: skip
    finally:
        os.close(reading)
        os.close(writing)
    assert ended.returncode == 0
    assert ended.stdout == b"ended\n"


def test_what_libraries_repeat_is_throttled_and_counted() -> None:
    sink, times = Sink(), iter([0.0, 1.0, 2.0, 30.0])
    output = install(write=sink.write, now=lambda: next(times))
    try:
        for number in range(4):
            logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding of byte %d", number)
        for _ in range(4):
            logging.getLogger("router.app").warning("our own")
    finally:
        output.close()
    lines = sink.lines
    theirs = [line for line in lines if line["logger"].startswith("grpc")]
    assert [line.get("suppressed") for line in theirs] == [None, 2]
    assert len(lines) - len(theirs) == 4


def test_what_libraries_vary_is_bounded_altogether() -> None:
    sink = Sink()
    output = install(write=sink.write, now=lambda: 0.0)
    try:
        for number in range(1000):
            logging.getLogger("grpc").error(f"{number} is odd")
    finally:
        output.close()
    assert len(sink.raw) <= 100
