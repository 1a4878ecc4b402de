"""The only server of a fleet dies, again and again, and comes back on its port."""

import asyncio

import pytest

from tests.e2e.faults import views
from tests.e2e.faults.fleet import FRONTS, How, Pair
from tests.e2e.faults.fronts import OK, caller
from tests.e2e.faults.promises import within
from tests.e2e.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = {"alone": Pair(How.PROCESS, alone=True)}
# Over gRPC and over HTTP.
OUT = {("UNAVAILABLE", "no_feasible_endpoint"), ("503", "no_feasible_endpoint")}


async def answers(gateway):
    """Whether it answers over every front."""
    for front in FRONTS:
        async with caller(gateway, front) as one:
            if (await one.whole("alone")).status != OK:
                return False
    return True


async def test_callers_and_probes_are_told_at_once_and_it_is_back_as_soon_as_it_is(
    running, gateway, record_property
):
    """Twice: no ejection grows where there is nobody else to go to."""
    loop = asyncio.get_running_loop()
    child = running.emulators["alone"]
    for again in range(2):
        await until(lambda: answers(gateway), "answers")
        child.process.kill()
        child.wait()
        await until(lambda: views.are(gateway, "alone", "ejected"), "the gateway noticing")
        status, body = await gateway.readiness()
        assert (status, {one["reason"] for one in body["reasons"]}) == (
            503,
            {"no_healthy_endpoint"},
        )
        for front in FRONTS:
            async with caller(gateway, front) as one:
                told = await one.whole("alone")
            assert (told.status, told.reason) in OUT
            # `max_wait_ms`, in which it might have come back.
            what = f"nobody to go to: told over {front} within"
            within(record_property, f"{what} ({again + 1})", told.took_s, 0.5)
        child = await asyncio.to_thread(running.again, "alone")
        there_at = loop.time()
        await until(lambda: answers(gateway), "an answer")
        what = f"the only server is back: it is used after ({again + 1})"
        within(record_property, what, loop.time() - there_at, 3.0)
    assert (await gateway.readiness())[0] == 200
