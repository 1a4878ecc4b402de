"""Servers that freeze, and paths that refuse, reset, swallow, trickle and flap."""

import asyncio
import contextlib
import itertools
import os
import signal

import pytest

from tests.e2e.faults import views
from tests.e2e.faults.fleet import FRONTS, How, Pair, brown, green
from tests.e2e.faults.fronts import Load, callers
from tests.e2e.faults.promises import within
from tests.e2e.faults.relay import Way
from tests.e2e.harness import until

WAYS = {way.name.lower(): way for way in (Way.REFUSE, Way.RESET, Way.HOLD, Way.DROP, Way.TRICKLE)}
pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = {
    "calm": Pair(How.CALM),
    "frozen": Pair(How.PROCESS),
    "flap": Pair(How.RELAYED),
    **dict.fromkeys(WAYS, Pair(How.RELAYED)),
}
# What /snapshot says of it.
CAUSES = {
    "frozen": {"silent"},
    "hold": {"silent"},
    "trickle": {"silent"},
    # Where the machine is slow, what was under way may be given up first.
    "refuse": {"silent", "unreachable"},
    "reset": {"silent", "unreachable"},
    # A new connection is what hangs here, too.
    "drop": {"silent", "unreachable"},
}
TOKENS = 50  # about a tenth of a second


def put(running, pair, way):
    """Have all of a pair's relays do this."""
    for one in running.fleet.greens[pair]:
        running.relays.become(one["name"], way)


def break_it(running, pair):
    if pair == "frozen":
        os.kill(running.emulators[pair].pid, signal.SIGSTOP)
    else:
        put(running, pair, WAYS[pair])


def mend_it(running, pair):
    if pair == "frozen":
        os.kill(running.emulators[pair].pid, signal.SIGCONT)
    else:
        put(running, pair, Way.PASS)


@contextlib.asynccontextmanager
async def under_load(gateway, *pairs):
    """Loads on pairs over both fronts while the block runs, by pair; all have ended after it.

    Their requests have no deadline.
    """
    stop = asyncio.Event()
    async with callers(gateway) as both:
        loads = {
            pair: [Load(one, pair, tokens=TOKENS, timeout=None) for one in both] for pair in pairs
        }
        async with asyncio.TaskGroup() as group:
            for load in itertools.chain(*loads.values()):
                group.create_task(load.until(stop, pause_s=0.03))
            try:
                yield loads
            finally:
                stop.set()


async def answered(loads, count):
    return all(len(load.ended) >= count for load in loads)


async def favoured(loads, pair):
    """Whether it answers over each front."""
    return all(green(pair, load.front) in load.places for load in loads)


async def elsewhere(loads, after, count):
    """Whether, over each front, so many sent later than this were answered by the other one."""
    return all(
        sum(one.place == brown(load.front) for one in load.sent_after(after)) >= count
        for load in loads
    )


@pytest.mark.parametrize("pair", ["frozen", *WAYS])
async def test_a_server_that_is_silent_or_gone_costs_nobody_an_answer_nor_time(
    running, gateway, record_property, pair
):
    """It is left within two seconds, what hung there moves, and others do not notice."""
    loop = asyncio.get_running_loop()
    # A busy machine may have kept it silent for a while.
    await until(lambda: views.are(gateway, pair, "healthy"), "the gateway trusting it")
    async with under_load(gateway, pair, "calm") as loads:
        await until(lambda: answered(loads[pair] + loads["calm"], 30), "answers in calm")
        await until(lambda: favoured(loads[pair], pair), "answers of what is to break")
        broken_at = loop.time()
        break_it(running, pair)
        await until(lambda: views.are(gateway, pair, "ejected"), "the gateway noticing")
        out_at = loop.time()
        causes = [one["cause"] for one in await views.endpoints_of(gateway, pair)]
        await until(lambda: elsewhere(loads[pair], out_at, 30), "answers without it")
        mended_at = loop.time()
        mend_it(running, pair)
        await until(lambda: views.are(gateway, pair, "healthy"), "the gateway trusting it again")
        assert set(causes) <= CAUSES[pair]
    within(record_property, f"{pair}: traffic has left", out_at - broken_at, 2.0)
    for load in loads[pair]:
        assert not load.lost
        between = [one for one in load.sent_after(out_at) if one.sent_at < mended_at]
        # A trial that was waiting there when it was mended is answered there.
        assert all(one.ended_at >= mended_at for one in between if one.place != brown(load.front))
    for load in loads["calm"]:
        assert not load.lost
        # Not more than the half: what hangs holds up all or nobody, a busy machine some.
        calm_s = load.quantile_s(0.5, before=broken_at)
        beside_s = load.quantile_s(0.5, after=broken_at, before=mended_at)
        name = f"{pair}: half of the others over {load.front} take"
        within(record_property, name, beside_s, calm_s + 0.2)


async def test_what_flaps_every_second_costs_nobody_an_answer(running, gateway, record_property):
    retried = await gateway.total("retries_total")
    async with under_load(gateway, "flap") as loads:
        await until(lambda: answered(loads["flap"], 20), "answers in calm")
        for _ in range(3):
            put(running, "flap", Way.REFUSE)
            await asyncio.sleep(1.0)  # the fault itself
            put(running, "flap", Way.PASS)
            await asyncio.sleep(1.0)
    for front in FRONTS:
        assert await gateway.total("ejections_total", endpoint=green("flap", front)) >= 1.0
    sent = sum(len(load.ended) for load in loads["flap"])
    for load in loads["flap"]:
        assert not load.lost
        assert green("flap", load.front) in load.places
    retries = await gateway.total("retries_total") - retried
    within(record_property, "flapping: retries a request", retries / sent, 0.2, "")
