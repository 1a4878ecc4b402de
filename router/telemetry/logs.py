"""Structured logs: JSON lines on stderr, one for each request that was refused or failed.

A line holds identifiers, routing metadata and durations; never payloads, never error texts (an
upstream's text may quote the request), and no metadata beyond what routing reads.

The event loop must not write to stderr itself: a full pipe (a log collector that stalls) would
block every request. So records go through a bounded queue to one writer thread. When the queue
is full, lines are lost and counted rather than waited for.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from router.telemetry.throttle import LineThrottle

REQUESTS = "router.requests"

# Long enough for any name an operator gives, short enough for one line.
MAX_FIELD = 128

_STDERR = 2
_RESERVED = frozenset((*RESERVED_ATTRS, "message"))
_OWN = "router"
# Of a message, before what a caller can vary in it.
_KIND_CHARACTERS = 24

Write = Callable[[bytes], object]
Event = Literal["refused", "invalid", "failed"]
_TEXTS = ("decision_id", "request_id", "method", "origin", "endpoint", "trace_id", "span_id")
_LEVELS: Mapping[str, int] = {
    "refused": logging.WARNING,
    "invalid": logging.INFO,
    "failed": logging.ERROR,
}


class RequestLine(NamedTuple):
    """What is logged of a request without a good answer; what is not known is left out.

    ``reason``: from the error tree. ``code``: gRPC status name. ``request_id``: the caller's own.
    ``client_retries``: how often its client asked before. ``trace_id``, ``span_id``: in
    hexadecimal, "" where no span of it is kept.
    ``elapsed_ms``: in the gateway altogether; ``upstream_ms``: of it, waiting for endpoints.
    """

    reason: str
    code: str
    model: str
    decision_id: str = ""
    request_id: str = ""
    method: str = ""
    origin: str = ""
    endpoint: str = ""
    attempts: int = 0
    client_retries: int = 0
    elapsed_ms: float = math.nan
    upstream_ms: float = math.nan
    trace_id: str = ""
    span_id: str = ""


def sanitised(text: str) -> str:
    """``text`` with anything unprintable replaced, at most MAX_FIELD characters long."""
    cut = text[: MAX_FIELD - 1] + "…" if len(text) > MAX_FIELD else text
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)


class RequestLog:
    """Writes request lines, throttled where event, reason, code, endpoint and model repeat."""

    def __init__(self, throttle: LineThrottle | None = None) -> None:
        self._throttle = throttle or LineThrottle()
        self._log = logging.getLogger(REQUESTS)

    def write(
        self, event: Event, line: RequestLine, now: float, error: BaseException | None = None
    ) -> None:
        """Log ``line`` unless it repeats too soon; ``now`` in seconds, never stepping back.

        ``invalid``: the caller's mistake. ``error``: given for a fault of the gateway's own; its
        type and stack are logged, its text is not.
        """
        level = _LEVELS[event]
        if not self._log.isEnabledFor(level):
            return
        model = sanitised(line.model)
        # A caller can invent model names: were each a kind of its own, they would use up the lines
        # that a real failure needs.
        subject = "" if event == "invalid" else model
        suppressed = self._throttle.admit(
            (event, line.reason, line.code, line.endpoint, subject), now
        )
        if suppressed is None:
            return
        fields: dict[str, object] = {
            "event": event,
            "reason": line.reason,
            "code": line.code,
            "model": model,
        }
        for name in _TEXTS:
            text = getattr(line, name)
            if text:
                fields[name] = sanitised(text)
        if line.attempts:
            fields["attempts"] = line.attempts
        if line.client_retries:
            fields["client_retries"] = line.client_retries
        if math.isfinite(line.elapsed_ms):
            fields["elapsed_ms"] = round(line.elapsed_ms, 3)
        if math.isfinite(line.upstream_ms):
            fields["upstream_ms"] = round(line.upstream_ms, 3)
        if suppressed:
            fields["suppressed"] = suppressed
        if error is not None:
            fields["error"] = type(error).__qualname__
            fields["stack"] = _stack(error)
        self._log.log(level, "request %s", event, extra=fields)

    def close(self) -> None:
        """Say how many lines were held back and not yet accounted for."""
        pending = self._throttle.pending()
        if pending:
            self._log.warning("repeated lines held back", extra={"suppressed": pending})


def _stack(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-20:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


class ForeignLines(logging.Filter):
    """Throttles what libraries log: strangers can make some of them complain of every request."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now``: seconds on a clock that does not step back."""
        super().__init__()
        self._now = now
        self._throttle = LineThrottle()
        # Libraries log from threads of their own.
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it; one that ends a silence says how many were ``suppressed``."""
        if record.name == _OWN or record.name.startswith(_OWN + "."):
            return True
        kind = (record.name, record.levelname, str(record.msg)[:_KIND_CHARACTERS])
        with self._lock:
            suppressed = self._throttle.admit(kind, self._now())
        if suppressed:
            record.suppressed = suppressed
        return suppressed is not None


class QueueWriter(logging.Handler):
    """Hands records to one writer thread; counts what does not fit instead of waiting."""

    def __init__(self, formatter: logging.Formatter, write: Write, max_lines: int) -> None:
        super().__init__()
        # Two counters, because two threads count: callers what finds the queue full, the writer
        # what the stream does not take.
        self._unqueued = 0
        self._unwritten = 0
        self._reported = 0
        self._write = write
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(max_lines)
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self.setFormatter(formatter)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that could not be queued or written."""
        return self._unqueued + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        """Queue ``record`` or count it as lost; never waits."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._unqueued += 1

    def finish(self, timeout_s: float) -> None:
        """Write out what is queued, giving up after ``timeout_s`` on a stream that has stalled."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            self._write_line(record)
            lost = self.lost
            if lost != self._reported:
                news, self._reported = lost - self._reported, lost
                self._write_line(_record(logging.WARNING, "log lines lost", lost=news))

    def _write_line(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            # A record that does not fit its own format string must not end the writer.
            kind = type(error).__qualname__
            line = self.format(
                _record(logging.ERROR, "unformattable log record", origin=record.name, error=kind)
            )
        try:
            self._write(line.encode(errors="replace") + b"\n")
        except OSError:
            self._unwritten += 1


Field = str | bool | int | float | tuple[str, ...]


def fields_of(record: logging.LogRecord) -> dict[str, Field]:
    """What a line says beside its message: what its writer gave it as ``extra``."""
    found: dict[str, Field] = {}
    for key, value in record.__dict__.items():
        if key in _RESERVED or key.startswith("_") or value is None:
            continue
        if isinstance(value, str | bool | int | float):
            found[key] = value
        elif isinstance(value, list | tuple | set | frozenset):
            found[key] = tuple(str(one) for one in value)
        else:
            found[key] = str(value)
    return found


def exception_lines(record: logging.LogRecord) -> str:
    """The stack of an error that a line is about, as the log has it."""
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


class LogOutput:
    """The installed logging; close it last, so that the queue is written out."""

    def __init__(self, writer: QueueWriter) -> None:
        self._writer = writer

    @property
    def lost(self) -> int:
        """Lines that could not be queued or written."""
        return self._writer.lost

    def close(self, timeout_s: float = 2.0) -> None:
        """Uninstall, and write out what is queued for about ``timeout_s`` at most."""
        logging.getLogger().removeHandler(self._writer)
        self._writer.finish(timeout_s)


def install(
    level: int = logging.INFO,
    write: Write | None = None,
    max_lines: int = 10_000,
    now: Callable[[], float] | None = None,
) -> LogOutput:
    """Send every logger's records to ``write`` (stderr) as JSON lines; call once a process.

    ``now``: throttles what is not our own, see `ForeignLines`.
    """
    formatter = JsonFormatter(
        ["levelname", "name", "message"],
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
    )
    writer = QueueWriter(formatter, write or _to_stderr, max_lines)
    if now is not None:
        writer.addFilter(ForeignLines(now))
    root = logging.getLogger()
    root.addHandler(writer)
    root.setLevel(level)
    return LogOutput(writer)


def _record(level: int, message: str, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": level, "levelname": logging.getLevelName(level),
         "msg": message, **fields}
    )  # fmt: skip


def _to_stderr(line: bytes) -> None:
    # Not sys.stderr: a thread stuck in its buffer would hang or abort the interpreter's exit.
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(_STDERR, rest) :]
