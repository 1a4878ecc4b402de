"""Configuration -> objects: every source spec, the clock, the view, the limits."""

import math
import random

import pytest

from router.app import compose
from router.carbon.climatology import Climatology
from router.carbon.static import StaticSource
from router.carbon.trace import TraceForecastSource, TraceSource
from router.clock import ReplayClock, WallClock
from router.config.settings import (
    CarbonSettings,
    ClimatologySpec,
    ClockSettings,
    StaticSpec,
    TraceSpec,
)
from router.core.latency import z_of
from router.core.layout import Layout
from router.errors import ConfigError, MixedBasisError, TraceError
from router.model import Basis, Factors, Kind, Signal
from tests.app.support import START, ZONES, trace
from tests.config.samples import loaded
from tests.factories import HOUR, NOW

AVERAGE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)


def built(*specs, signal=AVERAGE, now=NOW):
    return compose.build_carbon(CarbonSettings(signal, 60.0, tuple(specs)), now)


async def known(carbon, now=NOW, zones=ZONES):
    await carbon.chain.refresh(zones, now)
    return {zone: view.at(now) for zone, view in carbon.chain.view(zones, now, 6).items()}


def test_the_clock_is_the_wall_unless_a_day_is_replayed():
    assert type(compose.build_clock(None)) is WallClock
    clock = compose.build_clock(ClockSettings(START, 1440.0))
    assert isinstance(clock, ReplayClock)
    assert START <= clock.now() < START + 1440.0 * 60.0


async def test_a_measured_trace_is_known_once_its_slot_has_ended(tmp_path):
    path = tmp_path / trace(tmp_path, (100, 200), (300, 150), start=START - HOUR)
    carbon = built(TraceSpec(path, Kind.MEASURED, 0.0, False))
    assert isinstance(carbon.sources[0], TraceSource)
    assert carbon.sources[0].name == "trace:grid.csv"
    now_known = await known(carbon)
    # The slot that ended at the hour: what is known of this one is a nowcast from it.
    assert now_known["US-CAL-CISO"].g_per_kwh == pytest.approx(100.0)
    assert now_known["US-CAL-CISO"].kind is not Kind.MEASURED


async def test_a_lag_delays_what_is_known(tmp_path):
    path = tmp_path / trace(tmp_path, (50, 60), (100, 200), start=START - 2 * HOUR)
    prompt = built(TraceSpec(path, Kind.MEASURED, 0.0, False))
    late = built(TraceSpec(path, Kind.MEASURED, HOUR, False))
    assert (await prompt.sources[0].read(ZONES, NOW))["US-CAL-CISO"].g_per_kwh == 100.0
    assert (await late.sources[0].read(ZONES, NOW))["US-CAL-CISO"].g_per_kwh == 50.0


async def test_an_hour_ending_trace_is_shifted(tmp_path):
    path = tmp_path / trace(tmp_path, (50, 60), (100, 200), start=START)
    spec = TraceSpec(path, Kind.ESTIMATED, 0.0, True)
    found = (await built(spec).sources[0].read(ZONES, NOW))["US-CAL-CISO"]
    assert (found.g_per_kwh, found.kind, found.observed_at) == (50.0, Kind.ESTIMATED, START)


async def test_a_forecast_trace_is_a_forecast(tmp_path):
    path = tmp_path / trace(tmp_path, (100, 200), (300, 150))
    carbon = built(TraceSpec(path, Kind.FORECAST, 0.0, False))
    assert isinstance(carbon.sources[0], TraceForecastSource)
    assert (await known(carbon))["US-CAL-CISO"].kind is Kind.FORECAST
    ahead = carbon.chain.view(ZONES, NOW, 2)["US-MIDA-PJM"]
    assert [slot.g_per_kwh for slot in ahead.slots] == [200.0, 150.0]


async def test_climatology_and_annual_means_ship_with_the_package():
    carbon = built(ClimatologySpec(), StaticSpec({}, True))
    assert [type(source) for source in carbon.sources] == [Climatology, StaticSource]
    found = await known(carbon)
    assert {value.kind for value in found.values()} == {Kind.CLIMATOLOGY}
    only = await known(built(StaticSpec({}, True)))
    assert {value.kind for value in only.values()} == {Kind.ANNUAL_MEAN}


async def test_the_operators_annual_means_win_over_the_shipped_ones():
    carbon = built(StaticSpec({"US-CAL-CISO": 7.0, "MARS": 9.0}, True))
    found = await known(carbon, zones=(*ZONES, "MARS"))
    assert found["US-CAL-CISO"].g_per_kwh == 7.0
    assert found["MARS"].g_per_kwh == 9.0
    assert found["US-MIDA-PJM"].g_per_kwh > 9.0


async def test_sources_are_asked_in_the_operators_order(tmp_path):
    first = tmp_path / trace(tmp_path, (1, None), (1, 5), name="first.csv")
    second = tmp_path / trace(tmp_path, (2, 2), (2, 2), name="second.csv")
    specs = [TraceSpec(path, Kind.FORECAST, 0.0, False) for path in (first, second)]
    found = await known(built(*specs))
    assert [found[zone].g_per_kwh for zone in ZONES] == [1.0, 2.0]
    assert found["US-CAL-CISO"].source == "trace:first.csv"


async def test_annual_means_are_known_even_where_they_are_no_source(tmp_path):
    path = tmp_path / trace(tmp_path, (100, 200), (300, 150))
    carbon = built(TraceSpec(path, Kind.FORECAST, 0.0, False))
    assert carbon.chain.annual_mean("US-CAL-CISO").kind is Kind.ANNUAL_MEAN


async def test_another_signal_never_gets_the_shipped_figures(tmp_path):
    path = tmp_path / trace(tmp_path, (100, 200), (300, 150))
    carbon = built(TraceSpec(path, Kind.FORECAST, 0.0, False), signal=MARGINAL)
    assert carbon.chain.signal == MARGINAL
    assert carbon.chain.annual_mean("US-CAL-CISO") is None
    with pytest.raises(MixedBasisError):
        built(TraceSpec(path, Kind.FORECAST, 0.0, False), ClimatologySpec(), signal=MARGINAL)


def test_a_malformed_table_is_refused(tmp_path):
    (tmp_path / "bad.csv").write_text("datetime,US-CAL-CISO\n2023-11-14T22:00Z,much\n")
    with pytest.raises(TraceError, match=r"bad\.csv"):
        built(TraceSpec(tmp_path / "bad.csv", Kind.MEASURED, 0.0, False))
    with pytest.raises(ConfigError):
        built(StaticSpec({"X": -1.0}, True))


def test_coverage_says_who_knows_what(tmp_path):
    path = tmp_path / trace(tmp_path, (100,), (100,), zones=("US-CAL-CISO",))
    carbon = built(TraceSpec(path, Kind.FORECAST, 0.0, False), StaticSpec({"MARS": 9.0}, True))
    assert compose.coverage(carbon.sources, ["US-CAL-CISO", "MARS", "VENUS"]) == {
        "US-CAL-CISO": ("trace:grid.csv", "static"), "MARS": ("static",), "VENUS": (),
    }  # fmt: skip


def test_grid_zones_are_those_of_the_regions_once_each(tmp_path):
    config = loaded(tmp_path, {"regions/us-east/grid_zone": "US-CAL-CISO"})
    assert compose.grid_zones(config.fleet) == ["US-CAL-CISO"]


async def test_a_view_holds_the_coming_day_beside_the_live_board(tmp_path):
    config = loaded(tmp_path)
    carbon = compose.build_carbon(config.settings.carbon, NOW)
    zones = compose.grid_zones(config.fleet)
    await carbon.chain.refresh(zones, NOW)
    layout = Layout(config.fleet)
    board = compose.build_board(config, layout)
    view = compose.build_view(config, layout, board, carbon.chain, NOW, 5)
    assert view.board is board
    assert (view.snapshot.version, view.snapshot.built_at) == (5, NOW)
    assert [len(view.snapshot.forecasts[zone].slots) for zone in zones] == [24, 24]


async def test_a_static_policy_decides_by_annual_means(tmp_path):
    config = loaded(tmp_path, {"policy": "static-greenest"})
    carbon = compose.build_carbon(config.settings.carbon, NOW)
    zones = compose.grid_zones(config.fleet)
    await carbon.chain.refresh(zones, NOW)
    layout = Layout(config.fleet)
    board = compose.build_board(config, layout)
    snapshot = compose.build_view(config, layout, board, carbon.chain, NOW, 1).snapshot
    means = {zone: carbon.chain.annual_mean(zone).g_per_kwh for zone in zones}
    columns = snapshot.columns["llama-3.1-8b", ""]
    row = [endpoint.name for endpoint in columns.candidates.endpoints].index("west-0")
    assert columns.table[14, row] == pytest.approx(means["US-CAL-CISO"])


def test_a_board_takes_the_policys_quantile_and_the_seats_before_it(tmp_path):
    config = loaded(tmp_path)
    before = compose.build_board(config, Layout(config.fleet))
    after = compose.build_board(config, Layout(config.fleet), before)
    assert after.seats["west-0"] is before.seats["west-0"]
    assert before.seats["west-0"].factors[0] == pytest.approx(math.exp(0.1 * z_of(0.95)))


def test_limits_are_what_the_operator_set(tmp_path):
    changes = {
        "retry": {"max_attempts": 5}, "server": {"deadline_margin_ms": 20},
        "network": {"kwh_per_gb": 0.003},
    }  # fmt: skip
    limits = compose.build_limits(loaded(tmp_path, changes).settings)
    assert limits == (5, compose.NO_DEADLINE_TIMEOUT_S, 0.02, 0.003)


def test_randomness_can_be_repeated():
    assert compose.build_rng(3).random() == random.Random(3).random()
    assert compose.build_rng().random() != compose.build_rng().random()
