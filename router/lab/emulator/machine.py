"""A replica driven at wall speed by the event loop: one timer, set to the next event."""

from __future__ import annotations

import asyncio
import math
from collections import deque

from router.core.prefixes import NO_KEYS, Keys
from router.lab.replay.replica import Ended, Event, Replica
from router.model import Profile


class EmulatedRequest:
    """One request on a machine. Ends by itself, or by ``cancel``; read by one task only."""

    def __init__(self, machine: Machine, key: int) -> None:
        self._machine = machine
        self._key = key
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> Event:
        """The next event of this request; the last one is `Ended`."""
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._events.popleft()

    async def ended(self) -> Ended:
        """Wait for the last event."""
        while True:
            event = await self.next()
            if isinstance(event, Ended):
                return event

    def cancel(self) -> Ended | None:
        """Free its slot at once; None when it has ended already. Safe to call twice."""
        return self._machine.cancel(self._key)

    def put(self, event: Event) -> None:
        """Hand the reader an event; called by the machine."""
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Machine:
    """Runs one replica of ``profile`` in real time. Everything happens on the loop's thread."""

    def __init__(self, profile: Profile, loop: asyncio.AbstractEventLoop) -> None:
        self.profile = profile
        self._loop = loop
        self.replica = Replica(profile, loop.time())
        self._runs: dict[int, EmulatedRequest] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._serial = 0

    def submit(
        self,
        input_tokens: float,
        output_tokens: float,
        stream_every: int = 0,
        chain: Keys = NO_KEYS,
    ) -> EmulatedRequest:
        """Start or queue a request. ``stream_every``, ``chain`` as in `Replica.admit`; raises
        ValueError."""
        self._serial += 1
        run = EmulatedRequest(self, self._serial)
        self.replica.admit(
            self._now(), self._serial, input_tokens, output_tokens, stream_every, chain
        )
        self._runs[self._serial] = run
        self._pump(self._now())
        return run

    def cancel(self, key: int) -> Ended | None:
        """Drop request ``key``; None when it has ended."""
        if self._runs.pop(key, None) is None:
            return None
        record = self.replica.cancel(self._now(), key)
        self._pump(self._now())
        return record

    def settle(self) -> Replica:
        """The replica with its integrals up to now."""
        self._pump(self._now())
        return self.replica

    def stop(self) -> None:
        """Drop every request and the timer; readers get nothing more."""
        for key in list(self._runs):
            self.cancel(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> float:
        # The loop may run a timer up to its clock resolution early; time must not step back.
        return max(self._loop.time(), self.replica.now)

    def _pump(self, now: float) -> None:
        """Deliver what is due by ``now`` and set the timer to what comes next."""
        for event in self.replica.advance(now):
            key = event.key
            assert isinstance(key, int)
            run = self._runs.pop(key, None) if isinstance(event, Ended) else self._runs.get(key)
            if run is not None:
                run.put(event)
        due = self.replica.next_event_at()
        if self._timer is not None:
            if self._timer.when() == due:
                return
            self._timer.cancel()
            self._timer = None
        if due < math.inf:
            self._timer = self._loop.call_at(due, self._fire, due)

    def _fire(self, due: float) -> None:
        self._timer = None
        self._pump(max(due, self._now()))
