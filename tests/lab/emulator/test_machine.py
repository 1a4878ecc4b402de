import asyncio
import math

import pytest

from router.lab.emulator.machine import Machine
from router.lab.replay.replica import Ended, Tokens
from tests.lab.emulator.fleets import FAST


class Timer:
    def __init__(self, due, callback, args):
        self.due, self.callback, self.args, self.cancelled = due, callback, args, False

    def when(self):
        return self.due

    def cancel(self):
        self.cancelled = True


class Loop:
    """Time by hand; at most one live timer is expected."""

    def __init__(self):
        self.now, self.timers = 10.0, []

    def time(self):
        return self.now

    def call_at(self, due, callback, *args):
        self.timers.append(Timer(due, callback, args))
        return self.timers[-1]

    def live(self):
        return [timer for timer in self.timers if not timer.cancelled]

    def fire(self, early_s=0.0):
        (timer,) = self.live()
        self.now = timer.due - early_s
        self.timers.clear()
        timer.callback(*timer.args)

    def fire_all(self, early_s=0.0):
        while self.live():
            self.fire(early_s)


async def test_events_come_when_the_timer_fires():
    loop = Loop()
    machine = Machine(FAST, loop)
    run = machine.submit(0, 20, stream_every=16)
    waiting = asyncio.ensure_future(run.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    # The prompt's iteration begins after 1 ms, and takes 0.1.
    loop.fire()
    await asyncio.sleep(0)
    assert not waiting.done()
    loop.fire()
    assert await waiting == Tokens(1, pytest.approx(10.0011), 1)
    loop.fire()
    assert await run.next() == Tokens(1, pytest.approx(10.0011 + 15 * 0.000101), 16)
    loop.fire()
    record = await run.next()
    assert isinstance(record, Ended) and record.finished
    assert loop.live() == []


async def test_a_timer_that_fires_early_still_delivers():
    loop = Loop()
    machine = Machine(FAST, loop)
    run = machine.submit(0, 5)
    loop.fire_all(early_s=1e-6)
    assert (await run.ended()).output_tokens == 5
    machine.submit(0, 5)


async def test_one_timer_however_many_requests_and_none_when_idle():
    loop = Loop()
    machine = Machine(FAST, loop)
    runs = [machine.submit(0, 10 + i) for i in range(100)]
    assert len(loop.live()) == 1
    for run in runs:
        run.cancel()
    assert loop.live() == []
    assert (machine.replica.running, machine.replica.queued) == (0, 0)
    assert machine.replica.next_event_at() == math.inf


async def test_cancel_is_idempotent_and_harmless_after_the_end():
    loop = Loop()
    machine = Machine(FAST, loop)
    run = machine.submit(0, 10)
    other = machine.submit(0, 10)
    assert run.cancel().finished is False
    assert run.cancel() is None
    loop.fire_all()
    assert (await other.ended()).finished
    assert other.cancel() is None
