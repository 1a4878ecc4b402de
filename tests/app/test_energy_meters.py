"""Meters are read when a span ends, and watts all the time."""

from dataclasses import replace

import pytest

from router.app.energy_meters import WATTS_S, EnergyMeters
from router.load.energy_meter import NO_READING, MeterReading, drawn_j
from router.model import EnergyMeter
from tests.director.support import Hands
from tests.factories import endpoint


class Exporter:
    """What it says of each endpoint now."""

    def __init__(self):
        self.says = {}
        self.asked = []

    async def meter(self, endpoint):
        self.asked.append(endpoint.name)
        return self.says.get(endpoint.name, NO_READING)


def fleet(**adds_watts):
    return [
        replace(endpoint(name), meter=EnergyMeter("http://n:1/m", "dcgm", adds_watts=adds))
        for name, adds in adds_watts.items()
    ]


async def test_whoever_has_a_meter_is_asked():
    exporter, meters = Exporter(), EnergyMeters(Hands())
    exporter.says["a"] = MeterReading({"gpu": 5.0})
    endpoints = [*fleet(a=False), endpoint("b")]
    assert await meters.readings(exporter, endpoints) == {"a": MeterReading({"gpu": 5.0})}
    assert exporter.asked == ["a"]


async def test_watts_are_added_up_between_two_readings():
    clock, exporter = Hands(), Exporter()
    meters, endpoints = EnergyMeters(clock), fleet(a=True, b=False)
    exporter.says["a"] = MeterReading({}, {"gpu-0": 100.0, "gpu-1": 50.0})
    await meters.sample(exporter, endpoints)
    assert exporter.asked == ["a"]
    first = await meters.readings(exporter, endpoints)
    for _ in range(3):
        clock.advance(WATTS_S)
        await meters.sample(exporter, endpoints)
    last = await meters.readings(exporter, endpoints)
    assert drawn_j(first["a"], last["a"]) == pytest.approx(30.0 * 150.0)
    assert last["b"] == NO_READING


async def test_joules_go_before_watts():
    exporter, meters = Exporter(), EnergyMeters(Hands())
    exporter.says["a"] = MeterReading({"gpu": 5.0}, {"gpu": 100.0})
    await meters.sample(exporter, fleet(a=True))
    assert (await meters.readings(exporter, fleet(a=True)))["a"].joules == {"gpu": 5.0}


async def test_an_exporter_that_was_silent_for_long_leaves_a_gap():
    clock, exporter = Hands(), Exporter()
    meters, endpoints = EnergyMeters(clock), fleet(a=True)
    exporter.says["a"] = MeterReading({}, {"gpu": 100.0})
    await meters.sample(exporter, endpoints)
    first = await meters.readings(exporter, endpoints)
    exporter.says.clear()
    clock.advance(4 * WATTS_S)
    await meters.sample(exporter, endpoints)
    assert await meters.readings(exporter, endpoints) == {"a": NO_READING}
    exporter.says["a"] = MeterReading({}, {"gpu": 100.0})
    await meters.sample(exporter, endpoints)
    last = await meters.readings(exporter, endpoints)
    assert not drawn_j(first["a"], last["a"]) >= 0.0
