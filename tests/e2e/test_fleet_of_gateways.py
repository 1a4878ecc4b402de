"""Several gateways over one Redis: one of them calls the provider, what one learned all know."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest

from router.clock import WallClock
from tests.e2e.faults.promises import within
from tests.e2e.harness import CLEAN, Gateway, ask, base, emulator, pair, until
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.serving import serving
from tests.fakes.world import GridZone, World
from tests.ports import free_ports
from tests.state.redis.servers import Server

NORTH, HERE, NEW = "SE-SE3", "PL", "FR"
# Three zones, each asked for its values, its forecast and its history.
CALLS = 9
TAKEOVER_S = 10.0
_clock = WallClock()


@pytest.fixture
def redis():
    made = Server().start()
    yield made
    made.close()


@asynccontextmanager
async def provider():
    clean = GridZone(NORTH, coal=0.0, nuclear=0.4, wind=0.1, solar=0.0, hydro=0.45)
    dirty = GridZone(HERE, coal=0.7, nuclear=0.0, wind=0.1, solar=0.05, hydro=0.0)
    third = GridZone(NEW, coal=0.0, nuclear=0.7, wind=0.1, solar=0.05, hydro=0.1)
    world = World(_clock.now(), zones={NORTH: clean, HERE: dirty, NEW: third})
    fake = FakeElectricityMaps(world, [NORTH, HERE, NEW])
    async with serving(fake) as url:
        yield fake, url


@pytest.fixture
def start(spawn, redis, tmp_path):
    """Starts further gateways of one fleet, each in a folder of its own, beside the event loop."""
    fleet = pair()

    def one(name, url, **changes):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "em.key").write_text("em-key\n")
        listen, admin = free_ports(2)
        config = configured(fleet, redis, url) if url else base(fleet, state=shared(redis))
        config["server"] = {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}"}
        return spawn(lambda _: Gateway(folder, {**config, **changes}))

    spawn(emulator, base(fleet))

    async def started(name, url="", **changes):
        return await asyncio.to_thread(one, name, url, **changes)

    return started


def shared(redis):
    return {"redis": {"url": redis.url}}


def configured(fleet, redis, url):
    live = {
        "kind": "electricity_maps", "key_file": "em.key", "base_url": url, "timeout_ms": 2000,
        "limits": [{"calls": CALLS, "per_s": 3600}],
    }  # fmt: skip
    regions = base(fleet)["regions"]
    regions = {
        "north": {**regions["north"], "grid_zone": NORTH},
        "here": {**regions["here"], "grid_zone": HERE},
    }
    standing = [{"kind": "climatology"}, {"kind": "static", "g_per_kwh": {HERE: 700, **CLEAN}}]
    carbon = {"sources": [live, *standing], "refresh_s": 0.3}
    return base(fleet, carbon=carbon, regions=regions, state=shared(redis))


async def part(gateway):
    for which in ("leads", "follows", "alone"):
        if await gateway.total("carbon_pollers", part=which):
            return which
    return ""


async def leader_of(*gateways):
    """The one that calls, once there is one and the others follow it."""

    async def divided():
        parts = [await part(gateway) for gateway in gateways]
        if sorted(parts) != ["follows"] * (len(parts) - 1) + ["leads"]:
            return None
        return gateways[parts.index("leads")]

    return await until(divided, "one leads")


async def source_of(gateway, residency):
    async with gateway.client() as client:
        return (await client.receipt(ask(), x_residency=residency))["intensity-source"]


async def knows(gateway, residency="eu"):
    """A busy machine may have kept it from asking so far."""

    async def is_live():
        return await source_of(gateway, residency) == "electricity_maps"

    await until(is_live, "live intensities")


async def test_one_calls_for_all_and_another_takes_over_when_it_is_killed(start, record_property):
    async with provider() as (fake, url):
        first = await start("a", url)
        fleet = [first, *await asyncio.gather(start("b", url), start("c", url))]
        for gateway in fleet:
            for residency in ("eu", "us"):
                await knows(gateway, residency)
        leader = await leader_of(*fleet)
        # One gateway's calls, for all three.
        assert len(fake.calls) == 6
        others = [gateway for gateway in fleet if gateway is not leader]
        leader.process.kill()
        leader.process.wait()
        # Its end is the test's doing.
        leader.process.returncode = 0
        killed_at = _clock.monotonic()
        successor = await leader_of(*others)
        took_s = _clock.monotonic() - killed_at
        within(record_property, "who calls is killed: another does within", took_s, TAKEOVER_S)
        (follower,) = (gateway for gateway in others if gateway is not successor)
        assert len(fake.calls) == 6
        # The successor calls for what only the other wants.
        regions = {**follower.config["regions"]}
        regions["here"] = {**regions["here"], "grid_zone": NEW}
        follower.write(regions=regions)
        follower.tell(signal.SIGHUP)

        async def known():
            async with follower.client() as client:
                receipt = await client.receipt(ask(), x_residency="us")
            wanted = {"grid-zone": NEW, "intensity-source": "electricity_maps"}
            return wanted.items() <= receipt.items()

        await until(known, "the new zone's intensity")
        assert await follower.total("carbon_calls_total") == 0

        async def counted():
            # A value is had by all before the last call of its round is counted.
            answered = await successor.total("carbon_calls_total", outcome="answered")
            return answered == len(fake.calls) - 6

        await until(counted, "every call being the successor's")
        # A history that comes first has the newest value in it.
        assert len(fake.calls) in (CALLS - 1, CALLS)
        late = await start("d", url)
        await knows(late)
        assert len(fake.calls) <= CALLS
        assert all(gateway.stop() == 0 for gateway in (*others, late))


async def test_a_leader_that_was_stopped_follows_when_it_goes_on(start, record_property):
    async with provider() as (fake, url):
        fleet = [await start(name, url) for name in "ab"]
        leader = await leader_of(*fleet)
        (other,) = (gateway for gateway in fleet if gateway is not leader)
        os.kill(leader.pid, signal.SIGSTOP)
        try:
            stopped_at = _clock.monotonic()
            await leader_of(other)
            took_s = _clock.monotonic() - stopped_at
            within(
                record_property, "who calls stands still: another does within", took_s, TAKEOVER_S
            )
        finally:
            os.kill(leader.pid, signal.SIGCONT)
        assert await leader_of(*fleet) is other
        assert len(fake.calls) == 6


async def test_gateways_serve_on_without_redis_and_call_no_more_than_they_may(start, redis):
    async with provider() as (fake, url):
        fleet = [await start(name, url) for name in "ab"]
        await leader_of(*fleet)
        for gateway in fleet:
            await knows(gateway)
        redis.kill()

        async def failing():
            states = [(await gateway.readiness())[1]["reasons"] for gateway in fleet]
            found = [{reason["reason"] for reason in reasons} for reasons in states]
            return all("state_store_failing" in reasons for reasons in found)

        await until(failing, "the loss of the store")
        for gateway in fleet:
            assert await source_of(gateway, "eu") == "electricity_maps"
        redis.start()
        await leader_of(*fleet)
        for gateway in fleet:
            assert await source_of(gateway, "us") == "electricity_maps"
        assert len(fake.calls) == 6
        # The empty store is told again what is known: a gateway that comes needs no call.
        late = await start("c", url)
        await knows(late)
        assert len(fake.calls) == 6


async def test_what_gateways_learned_survives_all_of_them(start):
    first, second = await asyncio.gather(start("a"), start("b"))
    for gateway, tenant in ((first, "acme"), (second, "bmce")):
        async with gateway.client() as client:
            for _ in range(20):
                await client.receipt(ask(), x_tenant=tenant)
    assert all(gateway.stop() == 0 for gateway in (first, second))
    again = await start("c")
    (taken,) = again.events("what was learned before is taken up")
    assert taken["processes"] == 2
