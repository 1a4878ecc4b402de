import math
from dataclasses import replace

import pytest

from router.core.energy import idle_w, power_w
from router.ledger.energy_spans import EndpointSpan, SpanGrid, gateway_cells
from router.ledger.tables import ENERGY, arrow_table
from router.model import EnergyMeter
from tests.factories import endpoint, intensity, region, served, task_profile, token_profile
from tests.ledger.rows import SEVEN_S

GRID = SpanGrid(120.0, intensity(120.0))


def row(cells):
    return arrow_table(ENERGY, "gw", 1, [cells]).to_pylist()[0]


def test_idle_and_awake_are_told_apart() -> None:
    profile = token_profile()
    span = EndpointSpan(endpoint("a", "west", served(profile=profile)))
    for batch, at in ((0.0, 0.0), (4.0, 10.0), (4.0, 12.5), (0.0, 15.0), (None, 20.0), (0.0, 30.0)):
        span.see(batch, at)
    told = row(span.cells(SEVEN_S, SEVEN_S + 20.0, region("west"), GRID, 3500.0))
    assert (told["part"], told["endpoint"], told["region"]) == ("endpoint", "a", "west")
    assert (told["idle_s"], told["awake_s"]) == (15.0, 5.0)
    assert told["idle_j"] == pytest.approx(15.0 * idle_w(profile), abs=1e-5)
    assert told["awake_j"] == pytest.approx(5.0 * power_w(profile, 4.0), abs=1e-5)
    assert (told["metered_j"], told["g_per_kwh"], told["basis"]) == (3500.0, 120.0, "average")


@pytest.mark.parametrize("metered_j", [math.nan, -600.0])
def test_a_meter_that_is_silent_or_began_anew_tells_nothing(metered_j) -> None:
    span = EndpointSpan(endpoint("a"))
    told = row(span.cells(SEVEN_S, SEVEN_S + 1.0, region("west"), GRID, metered_j))
    assert told["metered_j"] is None


@pytest.mark.parametrize("profile", [token_profile(), task_profile()], ids=["tokens", "task"])
def test_a_meter_that_says_more_than_its_server_can_draw_is_not_believed(profile) -> None:
    span = EndpointSpan(endpoint("a", "west", served(profile=profile)))
    for said_j, believed_j in ((300.0, 300.0), (1e9, None), (1e15, None)):
        told = row(span.cells(SEVEN_S, SEVEN_S + 300.0, region("west"), GRID, said_j))
        assert told["metered_j"] == believed_j


def metered(meter, metered_j, profile):
    """The row of five minutes, of which it had requests for one."""
    one = replace(endpoint("a", "west", served(profile=profile)), meter=meter)
    span = EndpointSpan(one)
    for batch, at in ((0.0, 0.0), (4.0, 240.0), (0.0, 300.0)):
        span.see(batch, at)
    return row(span.cells(SEVEN_S, SEVEN_S + 300.0, region("west"), GRID, metered_j))


def test_to_a_meter_of_gpus_the_hosts_draw_is_added_and_said() -> None:
    profile = token_profile(host_awake_w=110.0, host_idle_w=100.0, host_fraction=0.1)
    told = metered(EnergyMeter("http://n:1/m", "dcgm"), 60_000.0, profile)
    host_j = 240.0 * 100.0 + 60.0 * 110.0 + 0.1 * 60_000.0
    assert told["metered_j"] == pytest.approx(60_000.0 + host_j)
    assert told["source"] == "test; metered_j: dcgm for GPUs, host by profile"
    whole = metered(EnergyMeter("http://n:1/m", "dcgm", covers_host=True), 60_000.0, profile)
    assert (whole["metered_j"], whole["source"]) == (60_000.0, "test; metered_j: dcgm")
    watts = EnergyMeter("http://n:1/m", "dcgm", adds_watts=True)
    said = metered(watts, 60_000.0, profile)["source"]
    assert said == "test; metered_j: watts of dcgm added up for GPUs, host by profile"


@pytest.mark.parametrize("metered_j", [0.0, 60.0, 60_000_000.0])
def test_a_meter_that_stands_still_or_is_of_another_unit_is_not_believed(metered_j) -> None:
    told = metered(EnergyMeter("http://n:1/m", "dcgm"), metered_j, token_profile())
    assert (told["metered_j"], told["source"]) == (None, "test")


def test_watts_that_are_not_known_are_null() -> None:
    span = EndpointSpan(endpoint("a", "west", served(profile=task_profile())))
    span.see(0.0, 1.0)
    span.see(0.0, 4.0)
    unknown = SpanGrid(math.nan, None)
    told = row(span.cells(SEVEN_S, SEVEN_S + 3.0, region("west"), unknown, math.nan))
    assert (told["idle_s"], told["idle_j"], told["profile"]) == (3.0, None, None)
    assert (told["g_per_kwh"], told["intensity_kind"]) == (None, None)


def test_a_gateway_takes_processor_time() -> None:
    told = row(gateway_cells(SEVEN_S, SEVEN_S + 300.0, 12.0, 3.5, None, SpanGrid(math.nan, None)))
    assert (told["part"], told["endpoint"], told["awake_s"], told["awake_j"]) == (
        "gateway", None, 12.0, 42.0,
    )  # fmt: skip
    assert told["source"] == "processor time at 3.5 W a core"
