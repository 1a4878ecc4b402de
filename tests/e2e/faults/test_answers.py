"""Servers that are there and answer wrong, or not any more: errors, nonsense, storms, restarts."""

import asyncio

import pytest

from tests.e2e.faults import views
from tests.e2e.faults.fleet import FRONTS, How, Pair, brown, green
from tests.e2e.faults.fronts import OK, Load, caller, callers
from tests.e2e.faults.promises import within
from tests.e2e.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CODES = [400, 403, 404, 422, 500, 501, 502, 503]
BELIEVED_ONCE = [400, 422]
NO_ANSWERS = ["garbage", "nothing", "page"]
IN_STREAM = ["garbage", "page", "tell"]
BREAKING = [500, 503]
PAIRS = {
    **{f"code-{code}": Pair(How.SERVED) for code in CODES},
    **{f"whole-{what}": Pair(How.SERVED) for what in NO_ANSWERS},
    **{f"stream-{what}": Pair(How.SERVED) for what in IN_STREAM},
    **{f"breaking-{code}": Pair(How.SERVED) for code in BREAKING},
    "storm": Pair(How.SERVED, count=2, alone=True),
    "restart": Pair(How.SERVED),
    "capped": Pair(How.SERVED, alone=True, most=4),
    "leaving": Pair(How.SERVED),
}


def servers_of(running, pair, front):
    """The test's servers of a pair over one front."""
    return [running.servers[green(pair, front, n)] for n in range(running.fleet.pairs[pair].count)]


async def trusted(gateway, pair):
    """A busy machine may have kept its servers silent for a while."""
    try:
        await until(lambda: views.are(gateway, pair, "healthy"))
    except AssertionError:
        seen = await views.endpoints_of(gateway, pair)
        raise AssertionError(f"not all are in service: {seen}") from None


async def both(running, pair, count, does, *, streamed=False, pause_s=0.01, **asked):
    """Loads over both fronts on a pair whose servers all do this."""
    await trusted(running.gateway, pair)
    for front in FRONTS:
        for server in servers_of(running, pair, front):
            server.does = does
    async with callers(running.gateway) as made:
        loads = [Load(one, pair, streamed=streamed, **asked) for one in made]
        await asyncio.gather(*(load.send(count, pause_s) for load in loads))
    return loads


async def test_a_storm_of_busy_answers_is_told_bounded_and_over_when_it_is_over(
    running, gateway, record_property
):
    """It comes first here: what earlier requests earn in retries would be spent as well."""
    count, tries = 150, 0
    for load in await both(running, "storm", count, 429):
        told = {(one.status, one.reason) for one in load.ended}
        busy = "RESOURCE_EXHAUSTED" if load.front == "oip" else "429"
        assert told <= {(busy, "upstream_busy"), (busy, "shed")}, told
        for server in servers_of(running, "storm", load.front):
            tries += server.calls
            server.does = "answer"
    # Beside the share there are the retries that a gateway begins with, ten.
    assert tries <= 1.2 * 2 * count + 10
    beyond = (tries - 10) / (2 * count)
    record_property("promise", ("429 storm: tries a request, less ten", beyond, 1.2, ""))
    for front in FRONTS:
        async with caller(gateway, front) as one:

            async def well(one=one):
                return (await one.whole("storm")).status == OK

            await until(well, "an answer once they are well")
    # Those that come after it find retries, as they would have.
    await both(running, "storm", 60, "answer")


@pytest.mark.parametrize("code", CODES)
async def test_a_favourite_that_answers_nothing_but_errors_costs_nobody_an_answer(
    running, gateway, code
):
    pair = f"code-{code}"
    for load in await both(running, pair, 40, code, pause_s=0.02):
        # One refusal is no evidence: who asks first is told what the server says of the request.
        believed = code in BELIEVED_ONCE
        assert len(load.lost) == believed
        assert load.places == {brown(load.front): 40 - believed}
        (server,) = servers_of(running, pair, load.front)
        assert 0 < server.calls <= 20
    assert {one["cause"] for one in await views.endpoints_of(gateway, pair)} == {"outlier"}


@pytest.mark.parametrize("what", NO_ANSWERS)
async def test_a_favourite_whose_answers_are_none_costs_nobody_one(running, gateway, what):
    for load in await both(running, f"whole-{what}", 40, what):
        assert not load.lost
        assert load.places == {brown(load.front): 40}


@pytest.mark.parametrize("what", IN_STREAM)
async def test_a_favourite_whose_streams_are_none_costs_nobody_one(running, gateway, what):
    for load in await both(running, f"stream-{what}", 40, what, streamed=True):
        assert not load.lost
        assert load.places == {brown(load.front): 40}


@pytest.mark.parametrize("code", BREAKING)
async def test_a_server_that_breaks_under_all_that_runs_there_loses_none_of_it(
    running, gateway, code
):
    """Many more at once than a caller has trials, or the gateway retries."""
    pair = f"breaking-{code}"
    servers = [servers_of(running, pair, front)[0] for front in FRONTS]
    await trusted(gateway, pair)
    for server in servers:
        server.pause_s = 3600.0
    async with callers(gateway) as made, asyncio.TaskGroup() as group:
        loads = [Load(one, pair) for one in made]
        for load in loads:
            group.create_task(load.send(100, 0.001))
        # On a slow machine a few have gone to the other one.
        await until(lambda: views.hold_some(gateway, pair, 150), "nearly all being under way")
        for server in servers:
            server.break_all(code)
    for load in loads:
        assert not load.lost
        assert load.places == {brown(load.front): 100}


async def test_a_restart_in_order_and_one_without_cost_nobody_an_answer(running, gateway):
    """Connections are given up with GOAWAY, or after their answers; then at once. The new server
    has the port of the old one."""
    servers = {front: servers_of(running, "restart", front)[0] for front in FRONTS}
    for server in servers.values():
        server.pause_s = 0.2
    async with callers(gateway) as made:
        loads = [Load(one, "restart") for one in made]
        for grace_s in (5.0, None):
            await trusted(gateway, "restart")
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for load in loads:
                    group.create_task(load.until(stop, 0.01))
                await until(lambda: views.hold_some(gateway, "restart", 20), "many being there")
                for server in servers.values():
                    await restart(server, grace_s)
                stop.set()
    for load in loads:
        assert not load.lost
        assert green("restart", load.front) in load.places
    for server in servers.values():
        server.pause_s = 0.0


async def restart(server, grace_s):
    await server.stop(grace_s)
    await server.start()


async def test_beyond_what_endpoints_take_is_shed_and_not_queued(running, gateway, record_property):
    """Four at a time, of four hundred at once: who is not served is told soon."""
    for front in FRONTS:
        (server,) = servers_of(running, "capped", front)
        server.pause_s = 0.5
        async with caller(gateway, front) as one:
            load = Load(one, "capped")
            await load.send(400, pause_s=0.0)
        assert server.most <= 4
        served = [each for each in load.ended if each.status == OK]
        # Each place is had for half a second, so more than once where the burst takes longer.
        took_s = max(one.ended_at for one in load.ended) - min(one.sent_at for one in load.ended)
        assert 4 <= len(served) <= 4 * (1 + took_s / 0.5)
        assert {each.reason for each in load.lost} == {"shed"}
        shed_s = sorted(each.took_s for each in load.lost)
        # 0.25 s of waiting for a place, and a burst of four hundred takes a while by itself.
        name = f"half of what is shed over {front} is told within"
        within(record_property, name, shed_s[len(shed_s) // 2], 0.5)
        server.pause_s = 0.0


async def test_a_caller_that_leaves_frees_its_server_within_fifty_milliseconds(
    running, gateway, record_property
):
    """Seen where it counts, at the server; the median of forty, unary and streamed."""
    loop = asyncio.get_running_loop()
    for front in FRONTS:
        (server,) = servers_of(running, "leaving", front)
        server.does = "hang"
        took_ms = []
        async with caller(gateway, front) as one:
            for number in range(40):
                send = one.stream if number % 2 else one.whole
                call = asyncio.ensure_future(send("leaving"))
                await until(lambda s=server: is_at(s, 1), "the request being at its server")
                left_at = loop.time()
                call.cancel()
                await until(lambda s=server: is_at(s, 0), "the server being free")
                took_ms.append((server.gone_at[-1] - left_at) * 1e3)
        took_ms.sort()
        name = f"caller over {front} gone: upstream is cancelled"
        within(record_property, f"{name} (p50)", took_ms[20], 50.0, "ms")
        within(record_property, f"{name} (p95)", took_ms[37], 50.0, "ms")


async def is_at(server, live):
    return server.live == live
