"""A runtime whose carbon comes from providers on loopback: what they say, and what if they die."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest
import yaml

from router.app.carbon.live import ProviderDeps, Sessions
from router.app.loading import load
from router.app.runtime import Runtime
from router.carbon.polling.election import Part
from router.errors import ConfigError
from router.model import Kind
from router.state.memory import MemoryStore
from tests.config.samples import sample
from tests.factories import HOUR, NOW
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.faults import Fault, What
from tests.fakes.serving import serving
from tests.fakes.watttime import FakeWattTime
from tests.fakes.world import World

WEST, EAST = "US-CAL-CISO", "US-MIDA-PJM"
KEYS = {"EM": "em-key", "USER": "wt-user", "WORD": "wt-password"}


def configuration(maps, rates=None, **carbon):
    source = {"kind": "electricity_maps", "key_env": "EM", "base_url": maps, "timeout_ms": 1000}
    standing = [{"kind": "climatology"}, {"kind": "static"}]
    settings = {"sources": [source, *standing], **carbon}
    if rates:
        settings["marginal"] = {
            "sources": [
                {
                    "kind": "watttime", "base_url": rates, "timeout_ms": 1000,
                    "user_env": "USER", "password_env": "WORD",
                    "zones": {WEST: "CAISO_NORTH"},
                }
            ]
        }  # fmt: skip
    return sample({"carbon": settings})


class Place:
    """A runtime over fakes, on the world's clock; everything is closed at the end."""

    def __init__(self, folder):
        self.world = World(NOW // HOUR * HOUR + 600.0)
        self.maps = FakeElectricityMaps(self.world, [WEST, EAST])
        self.rates = FakeWattTime(
            self.world, ["CAISO_NORTH", "PJM_DC"], places={"PJM_DC": (39.04, -77.49)}
        )
        self.path = folder / "config.yaml"
        self.calls = []
        self.runtime = None
        self.sessions = Sessions()
        self._stack = AsyncExitStack()

    async def __aenter__(self):
        self.urls = [await self._stack.enter_async_context(serving(f)) for f in self.fakes]
        return self

    async def __aexit__(self, *error):
        if self.runtime is not None:
            await self.runtime.close()
        await self.sessions.close()
        await self._stack.aclose()

    @property
    def fakes(self):
        return (self.maps, self.rates)

    def write(self, *, marginal=False, **carbon):
        urls = self.urls if marginal else self.urls[:1]
        self.path.write_text(yaml.safe_dump(configuration(*urls, **carbon)))

    def open(self, **options):
        self.write(**options)
        world = ProviderDeps(
            self.world, random.Random(1), KEYS, self.sessions,
            on_call=lambda *call: self.calls.append(call[:2]),
        )  # fmt: skip
        self.runtime = Runtime(load(self.path), self.world, world)
        return self.runtime

    async def known(self, region="us-west"):
        view = await self.runtime.refresh()
        return view.snapshot.intensity(region, self.world.now())

    def says(self, zone=WEST):
        """What the provider says of the hour that contains now."""
        now = self.world.now()
        return self.world.published(zone, now // HOUR * HOUR, now)


@pytest.fixture
async def place(tmp_path):
    async with Place(tmp_path) as made:
        yield made


async def test_the_value_of_the_hour_comes_with_source_kind_and_age(place):
    place.open()
    known = await place.known()
    assert known.g_per_kwh == place.says()
    assert (known.source, known.kind) == ("electricity_maps", Kind.ESTIMATED)
    assert known.age_s(place.world.now()) == 0.0
    assert (await place.known("us-east")).g_per_kwh == place.says(EAST)
    attempts = place.runtime.carbon.chain.attempts
    assert attempts.keys() == {WEST, EAST} and all(attempts.values())


async def test_the_marginal_rate_is_beside_and_decides_nothing(place):
    place.open(marginal=True)
    known = await place.known()
    beside = place.runtime.carbon.marginals([WEST, EAST], place.world.now())
    assert beside.keys() == {WEST, EAST}
    assert {str(one.signal.basis) for one in beside.values()} == {"marginal"}
    assert known.signal.basis == "average"
    view = await place.runtime.refresh()
    assert view.marginal == beside
    # One by its name, the other by where the grid zone's cloud region lies.
    assert {call.zone for call in place.rates.calls if call.endpoint == "historical"} == {
        "CAISO_NORTH", "PJM_DC",
    }  # fmt: skip


async def test_a_provider_that_dies_is_used_with_its_age_then_the_climatology_stands_in(place):
    place.open()
    alive = await place.known()
    place.maps.faults.append(Fault(What.DEAD))
    place.world.advance(1800.0)
    soon = await place.known()
    assert (soon.g_per_kwh, soon.kind) == (alive.g_per_kwh, Kind.ESTIMATED)
    place.world.advance(3 * HOUR)
    later = await place.known()
    assert later.kind is Kind.FORECAST
    assert later.age_s(place.world.now()) > 2 * HOUR
    attempts = [attempt for attempt in place.runtime.carbon.chain.attempts[WEST] if attempt.why]
    assert {attempt.code for attempt in attempts} == {"provider_unavailable"}
    place.world.advance(30 * 24 * HOUR)
    last = await place.known()
    assert last.kind is Kind.CLIMATOLOGY
    assert 0.0 < last.low_g_per_kwh < last.g_per_kwh < last.high_g_per_kwh


async def test_a_provider_that_hangs_does_not_keep_the_gateway_from_starting(place, monkeypatch):
    monkeypatch.setattr("router.app.runtime._FIRST_REFRESH_S", 0.05)
    place.maps.faults.append(Fault(What.SLOW))
    runtime = place.open()
    view = await runtime.start()
    known = view.snapshot.intensity("us-west", place.world.now())
    assert known.kind is Kind.CLIMATOLOGY
    place.maps.release.set()


async def test_every_call_is_counted_by_source_and_outcome(place):
    place.open(marginal=True)
    await place.known()
    assert ("electricity_maps", "") in place.calls
    place.maps.faults.append(Fault(What.SERVER_ERROR))
    place.world.advance(2 * HOUR)
    await place.known()
    assert ("electricity_maps", "provider_unavailable") in place.calls
    assert {source for source, _ in place.calls} == {"electricity_maps", "watttime"}


async def test_a_reload_keeps_an_unchanged_provider_with_what_it_knows(place):
    runtime = place.open()
    await place.known()
    source = runtime.carbon.sources[0]
    asked = len(place.maps.calls)
    place.write(refresh_s=30.0)
    await runtime.reload(place.path)
    assert runtime.carbon.sources[0] is source
    assert len(place.maps.calls) == asked
    assert (await place.known()).source == "electricity_maps"


async def test_a_reload_changes_the_sources(place):
    runtime = place.open()
    await place.known()
    place.write(zones={WEST: {"sources": ["static"]}})
    await runtime.reload(place.path)
    assert (await place.known()).kind is Kind.ANNUAL_MEAN
    assert (await place.known("us-east")).source == "electricity_maps"


async def test_a_rotated_key_makes_a_new_client(place, monkeypatch):
    runtime = place.open()
    await place.known()
    source = runtime.carbon.sources[0]
    monkeypatch.setitem(KEYS, "EM", "another")
    await runtime.reload(place.path)
    assert runtime.carbon.sources[0] is not source
    assert {call.key for call in place.maps.calls} == {"em-key", "another"}


async def test_nothing_stays_open(place):
    place.open()
    await place.known()
    session = place.sessions.get()
    assert not session.closed
    await place.sessions.close()
    assert session.closed
    assert {t for t in asyncio.all_tasks() if "carbon" in t.get_name()} == set()


async def test_limits_are_parted_among_worker_processes(place):
    limit = {"calls": 2, "per_s": 3600}
    place.write()
    data = yaml.safe_load(place.path.read_text())
    data["carbon"]["sources"][0]["limits"] = [limit]
    place.path.write_text(yaml.safe_dump(data))
    world = ProviderDeps(place.world, random.Random(1), KEYS, place.sessions, processes=2)
    place.runtime = Runtime(load(place.path), place.world, world)
    await place.runtime.refresh()
    assert len(place.maps.calls) == 1


def sharing(place, store, holder, calls):
    """A runtime of one of several gateways, which may make so many calls together."""
    place.write()
    data = yaml.safe_load(place.path.read_text())
    data["carbon"]["sources"][0]["limits"] = [{"calls": calls, "per_s": 3600}]
    place.path.write_text(yaml.safe_dump(data))
    deps = ProviderDeps(
        place.world, random.Random(holder), KEYS, place.sessions, processes=4,
        store=store, holder=holder,
    )  # fmt: skip
    return Runtime(load(place.path), place.world, deps)


async def test_gateways_that_share_a_store_make_one_gateways_calls(place):
    store = MemoryStore()
    fleet = [sharing(place, store, name, calls=50) for name in ("a", "b", "c")]
    for runtime in fleet:
        view = await runtime.refresh()
        known = view.snapshot.intensity("us-west", place.world.now())
        assert (known.g_per_kwh, known.source) == (place.says(), "electricity_maps")
    parts = [runtime.carbon.members[0].source.part for runtime in fleet]
    assert parts == [Part.LEADS, Part.FOLLOWS, Part.FOLLOWS]
    calls = len(place.maps.calls)
    alone = sharing(place, MemoryStore(), "d", calls=50)
    await alone.refresh()
    assert len(place.maps.calls) == 2 * calls
    for runtime in (*fleet, alone):
        await runtime.close()


async def test_the_limit_is_of_all_gateways_and_survives_who_called(place):
    store = MemoryStore()
    first = sharing(place, store, "a", calls=3)
    await first.refresh()
    # Not a quarter of it, with its four processes.
    assert len(place.maps.calls) == 3
    await first.close()
    second = sharing(place, store, "b", calls=3)
    await second.refresh()
    assert second.carbon.members[0].source.part is Part.LEADS
    assert len(place.maps.calls) == 3
    await second.close()


async def test_a_reload_of_a_provider_does_not_hold_its_predecessors_lease(place):
    store = MemoryStore()
    runtime = sharing(place, store, "a", calls=50)
    await runtime.refresh()
    before = runtime.carbon.members[0].source
    data = yaml.safe_load(place.path.read_text())
    data["carbon"]["sources"][0]["timeout_ms"] = 900
    place.path.write_text(yaml.safe_dump(data))
    calls = len(place.maps.calls)
    await runtime.reload(place.path)
    after = runtime.carbon.members[0].source
    assert after is not before
    # It read what its predecessor knew, and follows until that has left.
    assert len(place.maps.calls) == calls
    assert before.part is after.part is Part.FOLLOWS
    place.world.advance(2.0)
    await runtime.refresh()
    assert after.part is Part.LEADS
    assert len(place.maps.calls) == calls
    await runtime.close()


@pytest.mark.parametrize("missing", ["EM", "USER", "WORD"])
async def test_a_missing_key_is_named_and_no_key_is_told(place, missing, monkeypatch):
    monkeypatch.delitem(KEYS, missing)
    with pytest.raises(ConfigError) as caught:
        place.open(marginal=True)
    assert caught.value.file == str(place.path)
    assert f"environment variable {missing} is not set" in str(caught.value)
    assert not any(secret in str(caught.value) for secret in KEYS.values())


async def test_a_zone_that_no_provider_has_an_id_for_tells_how_to_give_one(place):
    place.write()
    data = yaml.safe_load(place.path.read_text())
    data["regions"]["us-west"]["grid_zone"] = "ATLANTIS"
    place.path.write_text(yaml.safe_dump(data))
    world = ProviderDeps(place.world, random.Random(1), KEYS, place.sessions)
    with pytest.raises(ConfigError) as caught:
        Runtime(load(place.path), place.world, world)
    ((key, text),) = caught.value.problems
    assert key == "regions.us-west.grid_zone"
    assert "carbon.sources[0].zones.ATLANTIS (electricity_maps)" in text
