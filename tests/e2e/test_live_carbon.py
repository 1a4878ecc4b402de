"""The gateway as a process, its carbon from a provider on loopback: receipts, death, reload."""

import asyncio
import signal
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from router.clock import WallClock
from tests.e2e.harness import GREEN, REGIONS, Gateway, base, emulator, pair, until
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.faults import Fault, What
from tests.fakes.serving import serving
from tests.fakes.world import GridZone, World

# One loop for all of them: the provider answers on it, whichever test is running.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NORTH, HERE = "SE-SE3", "PL"
STANDING = [{"kind": "climatology"}, {"kind": "static", "g_per_kwh": {HERE: 700}}]


def world():
    clean = GridZone(NORTH, coal=0.0, nuclear=0.4, wind=0.1, solar=0.0, hydro=0.45)
    dirty = GridZone(HERE, coal=0.7, nuclear=0.0, wind=0.1, solar=0.05, hydro=0.0)
    return World(WallClock().now(), zones={NORTH: clean, HERE: dirty})


@asynccontextmanager
async def provider():
    fake = FakeElectricityMaps(world(), [NORTH, HERE])
    async with serving(fake) as url:
        yield fake, url


def configured(url, **source):
    live = {
        "kind": "electricity_maps", "key_file": "em.key", "base_url": url, "timeout_ms": 2000,
        **source,
    }  # fmt: skip
    regions = {
        "north": {**REGIONS["north"], "grid_zone": NORTH},
        "here": {**REGIONS["here"], "grid_zone": HERE},
    }
    carbon = {"sources": [live, *STANDING], "refresh_s": 0.2}
    return base(pair(), carbon=carbon, regions=regions)


@pytest.fixture
def start(spawn, tmp_path):
    (tmp_path / "em.key").write_text("em-key\n")

    def both(config):
        spawn(emulator, config)
        return spawn(Gateway, config)

    async def started(config):
        # Beside the event loop, on which the provider answers.
        return await asyncio.to_thread(both, config)

    return started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(spawn_once, tmp_path_factory):
    """A provider and a gateway, which every test but the last leaves as they were."""
    key = tmp_path_factory.mktemp("key") / "em.key"
    key.write_text("em-key\n")
    async with provider() as (fake, url):
        config = configured(url, key_file=str(key))

        def both():
            spawn_once(emulator, config)
            return spawn_once(Gateway, config)

        yield fake, await asyncio.to_thread(both)


def figures(receipt):
    return {name: receipt[name] for name in ("intensity-source", "intensity-kind")}


async def test_a_receipt_tells_what_the_provider_said_and_how_old_it_is(place):
    fake, gateway = place
    async with gateway.client() as client:
        receipt = await client.receipt()
    assert receipt["endpoint"] == GREEN
    now = fake.world.now()
    said = {
        fake.world.published(NORTH, hour, now)
        for hour in (now // 3600 * 3600, now // 3600 * 3600 - 3600)
    }
    assert float(receipt["g-per-kwh"]) in said
    assert figures(receipt) == {
        "intensity-source": "electricity_maps", "intensity-kind": "estimated",
    }  # fmt: skip
    assert float(receipt["intensity-age-s"]) < 3600.0
    assert {call.key for call in fake.calls} == {"em-key"}
    answered = await gateway.total("carbon_calls_total", outcome="answered")
    assert answered == len(fake.calls)
    assert "em-key" not in gateway.log.read_text()


async def test_a_wrong_source_is_refused_and_the_old_ones_stay(place):
    _, gateway = place
    broken = {**gateway.config["carbon"]["sources"][0], "key_file": "none.key"}
    gateway.write(carbon={"sources": [broken]})
    gateway.tell(signal.SIGHUP)

    async def refused():
        return "reload refused" in gateway.log.read_text()

    await until(refused, "the refusal")
    assert "none.key cannot be read" in gateway.log.read_text()
    gateway.write()
    async with gateway.client() as client:
        assert (await client.receipt())["intensity-source"] == "electricity_maps"


async def test_a_reload_changes_sources_and_forgets_nothing_it_keeps(place):
    fake, gateway = place
    async with gateway.client() as client:
        assert (await client.receipt())["intensity-source"] == "electricity_maps"
        asked = len(fake.calls)
        fake.faults.append(Fault(What.DEAD))
        only = {NORTH: {"sources": ["climatology"]}}
        gateway.write(carbon={**gateway.config["carbon"], "zones": only})
        gateway.tell(signal.SIGHUP)

        async def reloaded():
            return (await client.receipt())["intensity-kind"] == "climatology"

        await until(reloaded, "the reload")
        gateway.write()
        gateway.tell(signal.SIGHUP)

        async def back():
            return (await client.receipt())["intensity-source"] == "electricity_maps"

        # The provider is dead: what it said before is still known.
        await until(back, "the provider's value")
    assert len(fake.calls) == asked
    assert await asyncio.to_thread(gateway.stop) == 0
    for trouble in ("Unclosed", "Traceback", "never retrieved"):
        assert trouble not in gateway.log.read_text()


async def test_a_dead_provider_is_flagged_and_costs_no_request(start):
    async with provider() as (fake, url):
        fake.faults.append(Fault(What.DEAD))
        gateway = await start(configured(url))
        async with gateway.client() as client:
            receipt = await client.receipt()
        assert figures(receipt)["intensity-kind"] == "climatology"
        assert "of SE" in receipt["intensity-source"]
        assert float(receipt["g-per-kwh"]) > 0.0
        assert (await gateway.readiness())[0] == 200
        assert await gateway.total("carbon_calls_total", outcome="provider_unavailable") >= 1.0
        used = await gateway.total(
            "carbon_source_used", grid_zone=NORTH, source="electricity_maps"
        )  # fmt: skip
        assert used == 0.0


async def test_a_provider_is_reached_through_the_proxy_that_the_environment_names(
    start, monkeypatch
):
    async with provider() as (fake, url):
        monkeypatch.setenv("HTTP_PROXY", url)
        gateway = await start(configured("http://electricity-maps.invalid"))
        async with gateway.client() as client:
            receipt = await client.receipt()
        assert receipt["endpoint"] == GREEN
        assert receipt["intensity-source"] == "electricity_maps"
        assert fake.calls
