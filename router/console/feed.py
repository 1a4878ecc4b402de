"""One stream of server-sent events for all who may see the same, encoded once.

What was sent is kept for a while, so that a lost connection goes on where it was. Whoever reads too
slowly is let go, never waited for: its connection comes again, and goes on as far as that is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

# Blobs that wait for one who looks on; one a tick.
MOST_WAITING: Final = 16
# What is kept to go on from.
MOST_KEPT: Final = 120
MOST_KEPT_BYTES: Final = 8 * 2**20
HEARTBEAT: Final = b":\n\n"

_encoder = msgspec.json.Encoder()


class Event(NamedTuple):
    """``name`` is ours; ``data`` as JSON holds it."""

    name: str
    data: object


class Onlooker:
    """One who looks on. ``lost``: called when it is let go, to break a write that hangs."""

    def __init__(self, lost: Callable[[], None], most: int = MOST_WAITING) -> None:
        self._lost = lost
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._woken = asyncio.Event()
        self.is_gone = False

    def offer(self, blob: bytes) -> None:
        """One more tick; whoever has not read so many is let go."""
        if self.is_gone:
            return
        if len(self._waiting) >= self._most:
            self.leave()
            self._lost()
            return
        self._waiting.append(blob)
        self._woken.set()

    def leave(self) -> None:
        """There is no more."""
        self.is_gone = True
        self._waiting.clear()
        self._woken.set()

    async def next(self, within_s: float) -> bytes | None:
        """What comes next, a heartbeat if nothing does ``within_s``; None at the end."""
        if not self._waiting and not self.is_gone:
            self._woken.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._woken.wait()
            except TimeoutError:
                return HEARTBEAT
        if self.is_gone:
            return None
        return self._waiting.popleft()


class Feed:
    """``boot``: of this feed alone, so that ids of another are known not to be its own. ``latest``:
    the newest of each event, as it stands."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.seq = 0
        self.onlookers: set[Onlooker] = set()
        self.latest: dict[str, object] = {}
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0

    def publish(self, events: Sequence[Event]) -> None:
        """One tick: to all who look on, and kept."""
        blobs = []
        for event in events:
            self.seq += 1
            self.latest[event.name] = event.data
            blobs.append(encoded(event, f"{self.boot}-{self.seq}"))
        blob = b"".join(blobs)
        self._kept.append((self.seq, blob))
        self._bytes += len(blob)
        while len(self._kept) > MOST_KEPT or self._bytes > MOST_KEPT_BYTES:
            self._bytes -= len(self._kept.popleft()[1])
        for onlooker in list(self.onlookers):
            onlooker.offer(blob)
            if onlooker.is_gone:
                self.onlookers.discard(onlooker)

    def since(self, last_id: str) -> bytes | None:
        """All that came after the event ``last_id``, b"" for nothing; None where that is not kept:
        then it begins anew."""
        boot, _, number = last_id.rpartition("-")
        if boot != self.boot or not number.isascii() or not number.isdecimal() or len(number) > 18:
            return None
        last = int(number)
        if last == self.seq:
            return b""
        # The end of a tick: within one nobody stops, as it is written whole.
        ends = [end for end, _ in self._kept]
        if last not in ends:
            return None
        return b"".join(blob for end, blob in self._kept if end > last)

    def beginning(self, events: Sequence[Event]) -> bytes:
        """What one who begins is told first, as of the last tick."""
        return b"".join(encoded(event, f"{self.boot}-{self.seq}") for event in events)

    def join(self, onlooker: Onlooker) -> None:
        """From the next tick on."""
        self.onlookers.add(onlooker)

    def leave(self, onlooker: Onlooker) -> None:
        """It has gone."""
        onlooker.leave()
        self.onlookers.discard(onlooker)


def encoded(event: Event, event_id: str) -> bytes:
    """As text/event-stream has it. JSON holds no line ends, so that data is one line."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event_id.encode(),
        event.name.encode(),
        _encoder.encode(event.data),
    )


def json_of(value: Mapping[str, object]) -> bytes:
    """``value`` as JSON; a figure that is not known is null."""
    return _encoder.encode(value)
