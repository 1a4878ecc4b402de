import pytest

from router.carbon.chain.revisions import Revisions
from router.model import Basis, Factors, Intensity, Kind, Signal
from router.operator.settling.providers import hours_of, provider_hours
from tests.app.support import START, trace
from tests.config.samples import write
from tests.factories import HOUR
from tests.ports import free_ports

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
FIRST = round(START // HOUR)


def test_the_sources_of_a_configuration_are_asked_what_they_measured(tmp_path):
    past = trace(tmp_path, *[(100 + i, 200) for i in range(60)], start=START - 60 * HOUR)
    path = write(tmp_path, {
        "clock": {"start": "2023-11-14T22:10Z"},
        "carbon": {"sources": [
            {"kind": "trace", "file": past}, {"kind": "climatology"}, {"kind": "static"},
        ]},
    })  # fmt: skip
    used = {"US-CAL-CISO": frozenset({FIRST - 3, FIRST - 2, FIRST + 40})}
    found, failures = provider_hours(path, used, START)
    assert failures == ()
    # Climatology and annual means measure nothing, and nobody knows the future.
    assert [one.key.hour for one in found] == [FIRST - 3, FIRST - 2]
    assert {one.kind for one in found} == {Kind.MEASURED}


def test_parts_of_an_hour_are_one_price():
    revisions = Revisions()
    for at, g in ((1800.0, 10.0), (3600.0, 30.0), (5400.0, 50.0)):
        one = Intensity(g, g, g, SIGNAL, Kind.MEASURED, "grid", at, at + 7200.0)
        revisions.take("SE", one, 7000.0)
    (found,) = hours_of(revisions, {"SE": frozenset({0, 1})})
    assert (found.key.hour, found.g_per_kwh) == (0, pytest.approx(20.0))


def test_a_provider_that_cannot_be_reached_is_named_and_the_others_are_heard(tmp_path):
    past = trace(tmp_path, *[(100 + i, 200) for i in range(60)], start=START - 60 * HOUR)
    (closed,) = free_ports(1)
    dead = {"kind": "gb_carbon_intensity", "base_url": f"http://127.0.0.1:{closed}"}
    path = write(tmp_path, {
        "regions/us-east/grid_zone": "GB",
        "carbon": {"factors": "direct", "sources": [dead, {"kind": "trace", "file": past}]},
    })  # fmt: skip
    used = {"GB": frozenset({FIRST - 3}), "US-CAL-CISO": frozenset({FIRST - 3})}
    found, failures = provider_hours(path, used, START)
    assert [one.key.grid_zone for one in found] == ["US-CAL-CISO"]
    (failure,) = failures
    assert failure.startswith("GB: gb_carbon_intensity history: ")
