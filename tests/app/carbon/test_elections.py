"""The rhythm of leases: who has come to lead refreshes at once."""

import random
from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from router.app.carbon.elections import ElectionRounds
from router.carbon.polling.election import BEAT_S, LEASE_S, Part
from router.telemetry.carbon import CarbonMetrics
from tests.carbon.polling.gateways import Gateway, World, WorldStore
from tests.director import virtual_time


class Woken:
    def __init__(self):
        self.times = 0

    def set(self):
        self.times += 1


class Weather:
    """As `WeatherSources`; comes to lead at its second beat."""

    def __init__(self):
        self.beats = 0

    @property
    def parts(self):
        return {"open_meteo": Part.LEADS if self.beats > 1 else Part.FOLLOWS}

    async def beat(self):
        self.beats += 1
        return self.beats == 2


def runtime(*sources, weather=None):
    members = [SimpleNamespace(source=source) for source in sources]
    carbon = SimpleNamespace(all_members=members, weather=weather)
    return SimpleNamespace(carbon=carbon, carbon_due=Woken())


def test_weather_beats_too_and_is_told():
    async def rounds():
        place = runtime(weather=Weather())
        registry = CollectorRegistry()
        metrics = CarbonMetrics(registry)
        metrics.know(["open_meteo"])
        elections = ElectionRounds(place, metrics, random.Random(1))
        for woken, part in ((0, "follows"), (1, "leads"), (1, "leads")):
            await elections.run()
            labels = {"source": "open_meteo", "part": part}
            assert registry.get_sample_value("carbon_router_carbon_pollers", labels) == 1.0
            assert place.carbon_due.times == woken

    virtual_time.run(rounds())


def test_every_live_source_beats_and_a_new_leader_is_woken_once():
    async def rounds():
        world = World()
        store = WorldStore(world)
        first, second = Gateway("first", store, world), Gateway("second", store, world)
        await first.refresh()
        await second.refresh()
        place = runtime(object(), second.source)
        registry = CollectorRegistry()
        metrics = CarbonMetrics(registry)
        metrics.know(["stub"])
        elections = ElectionRounds(place, metrics, random.Random(1))

        def parts():
            name = "carbon_router_carbon_pollers"
            found = next(family for family in registry.collect() if family.name == name)
            return {one.labels["part"] for one in found.samples if one.value}

        world.now += BEAT_S
        await elections.run()
        assert (second.source.part, place.carbon_due.times) == (Part.FOLLOWS, 0)
        assert parts() == {"follows"}
        world.now += LEASE_S
        await elections.run()
        assert (second.source.part, place.carbon_due.times) == (Part.LEADS, 1)
        assert parts() == {"leads"}
        world.now += BEAT_S
        await elections.run()
        assert (second.source.part, place.carbon_due.times) == (Part.LEADS, 1)

    virtual_time.run(rounds())
