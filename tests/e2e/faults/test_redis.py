"""The Redis that two gateways share dies, freezes, fills up or moves, under load on both."""

import asyncio
import contextlib

import pytest
import pytest_asyncio

from tests.e2e.faults.fleet import FaultFleet, How, Pair, running_fleet
from tests.e2e.faults.loads import answered, beside, under_load
from tests.e2e.faults.promises import within
from tests.e2e.faults.redis_faults import frozen, full, killed, read_only
from tests.e2e.faults.returned import assert_all_returned, holdings
from tests.e2e.harness import until
from tests.long import LONG
from tests.state.redis.servers import Cluster, Server, Watched

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = {"calm": Pair(How.CALM)}
# Several processes each, which `make faults` has the time for.


@contextlib.asynccontextmanager
async def sharing(folder, store, url):
    """Two gateways before one fleet that share ``store``, which was started."""
    fleet = FaultFleet(PAIRS, state={"redis": {"url": url}})
    async with running_fleet(folder, fleet) as running, beside(running, "second") as second:
        yield (running.gateway, second), store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory):
    """Two gateways on one server."""
    redis = await asyncio.to_thread(Server().start)
    try:
        async with sharing(tmp_path_factory.mktemp("redis"), redis, redis.url) as made:
            yield made
    finally:
        redis.close()


async def reasons(gateway):
    """Why it is not quite ready; it never stops taking requests for it."""
    status, body = await gateway.readiness()
    assert status == 200
    return {one["reason"]: one["detail"] for one in body["reasons"]}


async def failing(gateways):
    return all(["state_store_failing" in await reasons(gateway) for gateway in gateways])


async def well(gateways):
    return not any([await reasons(gateway) for gateway in gateways])


FAILED = "failed"


async def counted(gateways, outcome):
    """Calls of the store that ended so, of each; FAILED: in any way but well."""
    if outcome == FAILED:
        every = [await gateway.total("state_store_calls_total") for gateway in gateways]
        good = await counted(gateways, "answered")
        return [calls - answers for calls, answers in zip(every, good, strict=True)]
    return [await gateway.total("state_store_calls_total", outcome=outcome) for gateway in gateways]


async def more(gateways, outcome, before):
    return all(
        now > then for now, then in zip(await counted(gateways, outcome), before, strict=True)
    )


FAULTS = {killed: "unreachable", frozen: "timeout", full: "full", read_only: "read_only"}


async def ride_out(gateways, fault, cause, record_property, name):
    """Under load on every gateway: nobody notices but who looks, and it ends with the fault."""
    loop = asyncio.get_running_loop()
    before = [await holdings(gateway) for gateway in gateways]
    async with under_load(*gateways) as loads:
        await answered([load for made in loads for load in made], 30)
        seen, broken_at = await counted(gateways, cause), loop.time()
        with fault:
            await until(lambda: failing(gateways), "readiness saying so")
            await until(lambda: more(gateways, cause, seen), f"{cause} being counted")
            await answered([load for made in loads for load in made], 30)
            answers = await counted(gateways, "answered")
        mended_at = loop.time()
        await until(lambda: well(gateways), "readiness saying that it is over")
        await until(lambda: more(gateways, "answered", answers), "the store being used again")
        within(record_property, f"{name}: all is well after", loop.time() - mended_at, 10.0)
    for load in (load for made in loads for load in made):
        assert not load.lost
        calm_s = load.quantile_s(0.5, before=broken_at)
        beside_s = load.quantile_s(0.5, after=broken_at, before=mended_at)
        what = f"{name}: half over {load.front} take"
        within(record_property, what, beside_s, calm_s + 0.2)
    for gateway, held in zip(gateways, before, strict=True):
        await assert_all_returned(gateway, held)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_store_that_fails_costs_no_request_and_is_told_until_it_is_well(
    shared, record_property, fault
):
    """A server that was killed comes back empty, and is filled again."""
    gateways, redis = shared
    name = f"redis {fault.__name__}"
    await ride_out(gateways, fault(redis), FAULTS[fault], record_property, name)
    await until(lambda: both_are_there(redis), "both gateways being in the store")


async def test_a_store_that_is_flushed_is_filled_again(shared):
    gateways, redis = shared
    async with under_load(*gateways) as loads:
        await until(lambda: both_are_there(redis), "both gateways being in the store")
        redis.ask("FLUSHALL")
        await until(lambda: both_are_there(redis), "both gateways being in the store again")
        assert await well(gateways)
    assert not [one for made in loads for load in made for one in load.lost]


async def both_are_there(redis):
    """Whether each gateway has a row that the other can read."""
    rooms = redis.ask("KEYS", "*:room:*")
    return any(redis.ask("HLEN", room) >= 2 for room in rooms)


@LONG
async def test_a_master_that_is_killed_under_sentinels_is_followed_to_its_replica(
    tmp_path, record_property
):
    watched = await asyncio.to_thread(Watched().start)
    try:
        async with sharing(tmp_path, watched, watched.url) as (gateways, _):

            @contextlib.contextmanager
            def failed_over():
                watched.master.kill()
                yield

            # It is gone, then read-only, then nobody's: by and by.
            await ride_out(gateways, failed_over(), FAILED, record_property, "sentinel failover")
            assert watched.replica.ask("ROLE")[0] == b"master"
            await until(lambda: both_are_there(watched.replica), "both being in the replica")
    finally:
        watched.close()


@LONG
async def test_slots_that_move_and_a_node_that_is_lost_cost_no_request(tmp_path):
    """Of a cluster of three, each slot of what is shared moves to the next node; then one dies."""
    cluster = await asyncio.to_thread(Cluster().start)
    try:
        async with sharing(tmp_path, cluster, cluster.url) as (gateways, _):
            async with under_load(*gateways) as loads:
                await until(lambda: well(gateways), "all being well")
                rooms = {key for keys in cluster.ask("KEYS", "*:room:*") for key in keys}
                assert rooms
                for room in rooms:
                    for _ in cluster.move(room):
                        await answered([load for made in loads for load in made], 10)
                before = await counted(gateways, "answered")
                await until(lambda: more(gateways, "answered", before), "calls being answered")
                await until(lambda: well(gateways), "all being well")
                cluster.nodes[0].kill()
                await until(lambda: told(gateways), "readiness saying so")
                await answered([load for made in loads for load in made], 30)
            assert not [one for made in loads for load in made for one in load.lost]
    finally:
        cluster.close()


async def told(gateways):
    return any(["state_store_failing" in await reasons(gateway) for gateway in gateways])
