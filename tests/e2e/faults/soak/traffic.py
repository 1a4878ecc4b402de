"""Requests at random times, over both fronts, whole and streamed, as a balancer would send them."""

import asyncio
import contextlib
from typing import NamedTuple

from tests.e2e.faults.fleet import FRONTS
from tests.e2e.faults.fronts import Ended, caller
from tests.e2e.faults.soak.rig import PAIR

# In the mean, of all gateways together, over each front.
WHOLE_PER_S, STREAMS_PER_S = 15.0, 4.0
WHOLE_TOKENS, STREAM_TOKENS = 200, 300
# None takes so long but by a defect.
MOST_S = 30.0


class Outcome(NamedTuple):
    """What became of one request."""

    gateway: int
    front: str
    streamed: bool
    ended: Ended


class Traffic:
    """``outcomes``: of all that have ended; ``sent``: so far."""

    def __init__(self, rig, rng):
        self._rig, self._rng = rig, rng
        self.outcomes = []
        self.sent = 0

    async def run(self, stop):
        """Send until the event ``stop`` is set; returns when all have ended."""
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            callers = {
                (number, front): await stack.enter_async_context(caller(gateway, front))
                for number, gateway in self._rig.gateways.items()
                for front in FRONTS
            }
            for front in FRONTS:
                group.create_task(self._drive(callers, front, False, WHOLE_PER_S, stop))
                group.create_task(self._drive(callers, front, True, STREAMS_PER_S, stop))

    async def _drive(self, callers, front, streamed, per_s, stop):
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                due += self._rng.expovariate(per_s)
                await asyncio.sleep(max(0.0, due - loop.time()))
                number = self._rng.choice(sorted(self._rig.up))
                self.sent += 1
                group.create_task(self._one(callers[number, front], number, streamed))

    async def _one(self, one, number, streamed):
        if streamed:
            ended = await one.stream(PAIR, tokens=STREAM_TOKENS, timeout=MOST_S)
        else:
            ended = await one.whole(PAIR, tokens=WHOLE_TOKENS, timeout=MOST_S)
        self.outcomes.append(Outcome(number, one.front, streamed, ended))
