"""What one client connection has under way: calls, messages held, and bytes still inside gRPC."""

from __future__ import annotations

import math
from typing import Protocol

from router.gateway.oip.resets import ResetCount


class MessageWait(Protocol):
    """A call that waits for a message."""

    @property
    def is_cut(self) -> bool:
        """Whether it was told to read no further."""
        ...

    def cut(self) -> None:
        """Read no further: the message is to be refused."""
        ...


class Connection:
    """Counted by `router.gateway.oip.intake.Intake`."""

    __slots__ = ("calls", "delivered_bytes", "held_bytes", "peer", "reading", "resets",
                 "start_bytes", "unread_bytes")  # fmt: skip

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.calls = 0
        self.held_bytes = 0
        self.resets = ResetCount()
        # Calls that wait for a message, oldest first.
        self.reading: dict[MessageWait, None] = {}
        # Since `start_bytes` were received: delivered to us, and still inside gRPC.
        self.start_bytes: int | None = None
        self.delivered_bytes = 0
        self.unread_bytes = 0

    def measure(self, received_bytes: int) -> None:
        """Work out ``unread_bytes`` from all that this connection has received."""
        if self.start_bytes is None:
            self.start_bytes, self.delivered_bytes = received_bytes, 0
        unread = received_bytes - self.start_bytes - self.delivered_bytes
        if unread < 0:
            self.delivered_bytes += unread
            unread = 0
        self.unread_bytes = unread

    def stop_reading(self, call: MessageWait, delivered_bytes: int) -> None:
        """``call`` has its message, of this size, or wants it no longer."""
        if not delivered_bytes:
            # gRPC lets go of what it had of this one: an equal part, for want of anything better.
            delivered_bytes = self.unread_bytes // len(self.reading)
        del self.reading[call]
        self.delivered_bytes += delivered_bytes
        self.unread_bytes = max(0, self.unread_bytes - delivered_bytes)
        if not self.reading:
            self.start_bytes = None
            self.unread_bytes = 0

    def cut(self, excess: int) -> int:
        """Refuse the youngest of what is under way, to be rid of ``excess`` bytes; those that go.

        How much there is of each is not known: an equal part is assumed.
        """
        if excess <= 0 or not self.unread_bytes:
            return 0
        under_way = [call for call in self.reading if not call.is_cut]
        if not under_way:
            return self.unread_bytes
        each = self.unread_bytes / len(under_way)
        count = min(len(under_way), math.ceil(excess / each))
        for call in under_way[len(under_way) - count :]:
            call.cut()
        return int(each * count)
