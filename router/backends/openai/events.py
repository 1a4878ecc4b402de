"""Server-sent events, as they came: which are whole, and which are not passed on.

Nothing is decoded. What arrives usually ends with an event, and is then passed on as it is. Lines
end in LF or CRLF, as all known servers have it; where the first one ends in CR alone, which the
standard allows, all of them are passed on as ending in LF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from router.errors import UpstreamFaultError
from router.http_api import (
    END,
    ENERGY,
    LAST_USAGE,
    USAGE,
    HttpApi,
    closes_with_usage,
    states_usage,
)

# The end of an event: a blank line.
_ENDS: Final = (b"\n\n", b"\n\r\n")
_FIRST_END: Final = re.compile(rb"\n|\r\n?")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_BLANK_LINES: Final = re.compile(rb"(?:\r?\n)+")
# What no event begins with, but comments and blank lines.
_NO_EVENT: Final = (b":", b"\n", b"\r\n")
_ENERGY: Final = re.compile(rb"^: energy ([^\r\n]*)\r?\n", re.MULTILINE)
_FINISHED: Final = re.compile(rb'"finish_reason"\s*:\s*"')
# Of what is kept for its figures: usage takes a few hundred bytes.
_KEPT_BYTES: Final = 64 * 1024
# Of the object of usage alone, in an event that is longer.
_OBJECT_BYTES: Final = 8 * 1024
_QUOTED_OR_BRACE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]')


class Events:
    """Of one stream. Feed it what comes; `finish` when nothing more does.

    ``ended``: the event came that ends the stream: what is fed from then on is of no use.
    ``torn``: it ended within an event.
    """

    __slots__ = (
        "_api", "_before", "_end", "_ends", "_energy", "_held", "_hides_usage", "_last",
        "_lines", "_most_bytes", "_pending", "_usage", "ended", "torn",
    )  # fmt: skip

    def __init__(self, api: HttpApi, most_bytes: int, hides_usage: bool = False) -> None:
        """``most_bytes``: of one event. ``hides_usage``: events that state usage alone are not
        passed on wherever they come; llama.cpp has one for each choice of several."""
        self._api = api
        self._hides_usage = hides_usage
        self._ends = api.ends.search if api.ends is not None else None
        self._most_bytes = most_bytes
        # The beginning of an event, of which the rest has not come.
        self._held = bytearray()
        # Makes LF of the ends of lines; None once they are known not to be CR.
        self._lines: _Lines | None = _Lines()
        # An event that closes with usage, until what follows tells whether it is the last.
        self._pending = b""
        self._usage: list[bytes] = []
        self._energy = b""
        self._end = b""
        # Passed on last, where a stream of old servers says that it is done.
        self._last = self._before = b""
        self.ended = False
        self.torn = False

    def feed(self, chunk: bytes) -> bytes:
        """The whole events among what has come, but for those that are not passed on; b"" of none.

        Raises UpstreamFaultError for an event that is too long.
        """
        if self._lines is not None:
            chunk = self._lines.in_lf(chunk)
            if self._lines.are_as_usual:
                self._lines = None
        held = self._held
        if held:
            searched = max(0, len(held) - 2)
            held += chunk
            cut = _last_end(held, searched)
            chunk = bytes(held[:cut])
            del held[:cut]
        elif not chunk.endswith(_ENDS):
            cut = _last_end(chunk, 0)
            held += memoryview(chunk)[cut:]
            chunk = chunk[:cut]
        if held and (blank := _BLANK_LINES.match(held)):
            chunk += blank[0]
            del held[: len(blank[0])]
        if len(held) > self._most_bytes:
            raise UpstreamFaultError(
                f"an event of the answer is longer than {self._most_bytes} bytes"
            )
        return self._passed(chunk) if chunk else b""

    def finish(self) -> bytes:
        """What was left, as `feed`: an event without its blank line, usage that nothing ended."""
        if self._lines is not None:
            self._held += self._lines.rest
        held = bytes(self._held)
        self._held.clear()
        passed = b""
        if self._ends is None or not held.strip():
            passed = held
        elif held.endswith(b"\n") or self._ends(held + b"\n"):
            passed = self._passed(held + (b"\n" if held.endswith(b"\n") else b"\n\n"))
        else:
            self.torn = True
        return passed if self.ended else passed + self._released()

    def is_complete(self) -> bool:
        """Whether the stream, which has ended, is all of an answer.

        Old servers of OpenAI's API send no event that ends it.
        """
        if self.ended or self._ends is None:
            return True
        if self.torn:
            return False
        return any(map(_FINISHED.search, (self._last, self._before))) or any(
            map(_FINISHED.search, self._usage[-1:])
        )

    def trailers(self) -> list[tuple[str, str | bytes]]:
        """What was not passed on, or is worth reading, under the names of `router.http_api`."""
        found: list[tuple[str, str | bytes]] = [(USAGE, event) for event in self._usage]
        if self._energy:
            found.append((ENERGY, self._energy))
        if self.ended and self._pending:
            found.append((LAST_USAGE, self._pending))
        if self.ended:
            found.append((END, self._end))
        return found

    def _passed(self, events: bytes) -> bytes:
        """``events``, which are whole, less what is not passed on."""
        if (
            # A part first: some servers state a usage of null in every event.
            (b'usage":' in events and states_usage(events))
            or b": energy " in events
            or self._pending
            or (self._ends is not None and self._ends(events))
        ):
            events = self._sorted(events)
        # Servers keep a connection alive by comments after the last token, too.
        if events and (b"data:" in events or not events.startswith(_NO_EVENT)):
            self._before, self._last = self._last, events
        return events

    def _sorted(self, events: bytes) -> bytes:
        passed = []
        for event in _split(events):
            if b": energy " in event:
                event = self._without_energy(event)
                if not event.strip(b"\r\n"):
                    continue
            if self._is_end(event):
                if states_usage(event):
                    self._keep_usage(event)
                self._end = event
                self.ended = True
                break
            if not states_usage(event):
                if not event.startswith(_NO_EVENT):
                    passed.append(self._released())
                passed.append(event)
                continue
            passed.append(self._released())
            self._keep_usage(event)
            if closes_with_usage(self._api, event):
                self._pending = event
            else:
                passed.append(event)
        return b"".join(passed)

    def _released(self) -> bytes:
        """What closed with usage and was not the last: in its place it is an event like others."""
        pending, self._pending = self._pending, b""
        return b"" if self._hides_usage else pending

    def _is_end(self, event: bytes) -> bool:
        ends = self._api.ends
        return ends is not None and any(
            found.start() == 0 or event[found.start() - 1] == 0x0A for found in ends.finditer(event)
        )

    def _without_energy(self, event: bytes) -> bytes:
        for said in _ENERGY.finditer(event):
            if len(said[1]) <= _KEPT_BYTES:
                self._energy = said[1]
        return _ENERGY.sub(b"", event)

    def _keep_usage(self, event: bytes) -> None:
        kept = event if len(event) <= _KEPT_BYTES else _usage_in(event)
        if kept:
            del self._usage[1:]
            self._usage.append(kept)


class _Lines:
    """Ends of lines, until the first of them tells that they are no CR; else of all of them.

    ``rest``: what may be a CR or the beginning of a CRLF; ``are_as_usual``: LF or CRLF.
    """

    __slots__ = ("_in_cr", "are_as_usual", "rest")

    def __init__(self) -> None:
        self.rest = b""
        self.are_as_usual = self._in_cr = False

    def in_lf(self, chunk: bytes) -> bytes:
        """``chunk``, with LF for a CR that ends a line by itself."""
        chunk, self.rest = self.rest + chunk, b""
        if chunk.endswith(b"\r"):
            chunk, self.rest = chunk[:-1], b"\r"
        if not self._in_cr:
            first = _FIRST_END.search(chunk)
            if first is None:
                return chunk
            if first[0] != b"\r":
                self.are_as_usual = True
                chunk, self.rest = chunk + self.rest, b""
                return chunk
            self._in_cr = True
        if self.rest:
            # It ends a line, whatever follows.
            chunk, self.rest = chunk + b"\r", b""
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _last_end(data: bytes | bytearray, start: int) -> int:
    """Where the last whole event of ``data`` ends, looked for from ``start`` on; 0 of none."""
    return max(
        data.rfind(end, start) + len(end) if data.rfind(end, start) >= 0 else 0 for end in _ENDS
    )


def _split(events: bytes) -> Iterator[bytes]:
    """Each event, and each run of blank lines beyond the one that ends an event."""
    start = 0
    while start < len(events):
        found = _BLANK_LINES.match(events, start) or _BLANK_LINE.search(events, start)
        stop = len(events) if found is None else found.end()
        yield events[start:stop]
        start = stop


def _usage_in(event: bytes) -> bytes:
    """An event of the last object of usage of ``event`` alone; b"" where that is too long."""
    start = event.rfind(b'"usage"')
    window = event[start : start + _OBJECT_BYTES]
    depth = 0
    for found in _QUOTED_OR_BRACE.finditer(window):
        if found[0] == b"{":
            depth += 1
        elif found[0] == b"}":
            depth -= 1
            if depth <= 0:
                return b"data: {" + window[: found.end()] + b"}\n\n"
    return b""
