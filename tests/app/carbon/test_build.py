"""Carbon chains from a configuration: every kind of source, orders, the forecaster's start."""

import pytest

from router.app.carbon import build as carbon_room
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import StaticSource
from router.carbon.tables.trace import TraceForecastSource, TraceSource
from router.config.settings import CarbonSettings, ClimatologySpec, StaticSpec, TraceSpec
from router.errors import ConfigError, MixedBasisError, TraceError
from router.model import Basis, Factors, Kind, Request, Signal
from router.operator import check
from tests.app.support import START, ZONES, configured, trace
from tests.config.samples import loaded
from tests.factories import HOUR, NOW

AVERAGE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)


def built(*specs, signal=AVERAGE, now=NOW):
    return carbon_room.build_carbon(CarbonSettings(signal, 60.0, tuple(specs)), now)


async def known(carbon, now=NOW, zones=ZONES):
    await carbon.chain.refresh(zones, now)
    return {zone: view.at(now) for zone, view in carbon.chain.view(zones, now, 6).items()}


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
    assert carbon_room.coverage(carbon.sources, ["US-CAL-CISO", "MARS", "VENUS"]) == {
        "US-CAL-CISO": ("trace:grid.csv", "static"), "MARS": ("static",), "VENUS": (),
    }  # fmt: skip


def test_grid_zones_are_those_of_the_regions_once_each(tmp_path):
    config = loaded(tmp_path, {"regions/us-east/grid_zone": "US-CAL-CISO"})
    assert carbon_room.grid_zones(config.fleet) == ["US-CAL-CISO"]


WEST, EAST = ZONES


async def test_a_zone_with_an_order_of_its_own_is_asked_in_that_order(tmp_path):
    trace(tmp_path, (1, 2), (1, 2))
    carbon = {
        "sources": [
            {"kind": "trace", "file": "grid.csv", "value_kind": "forecast"}, {"kind": "static"},
        ],
        "zones": {WEST: {"sources": ["static"]}},
    }  # fmt: skip
    config = loaded(tmp_path, {"carbon": carbon})
    built_ = carbon_room.configured_carbon(config, NOW)
    assert built_.orders[WEST].measured == ("static",)
    assert built_.orders[EAST].measured == ("trace:grid.csv", "static")
    assert built_.orders[EAST].forecast == ("trace:grid.csv",)
    found = await known(built_)
    assert (found[WEST].kind, found[EAST].kind) == (Kind.ANNUAL_MEAN, Kind.FORECAST)


def test_an_order_in_which_nobody_knows_the_zone_is_refused(tmp_path):
    trace(tmp_path, (1,), (1,), zones=(EAST,))
    carbon = {
        "sources": [{"kind": "trace", "file": "grid.csv"}, {"kind": "static"}],
        "zones": {WEST: {"sources": ["trace"]}},
    }
    config = loaded(tmp_path, {"carbon": carbon})
    with pytest.raises(ConfigError) as caught:
        carbon_room.configured_carbon(config, NOW)
    ((key, text),) = caught.value.problems
    assert key == "regions.us-west.grid_zone"
    assert "among trace (carbon.zones.US-CAL-CISO.sources)" in text


def with_history(tmp_path, **changes):
    rows = [(100 + hour % 24, 200) for hour in range(24 * 10)]
    trace(tmp_path, *rows, start=START - 240 * HOUR, name="past.csv")
    sources = [{"kind": "static", "g_per_kwh": {WEST: 50, EAST: 60}}]
    carbon = {"sources": sources, "history": {"file": "past.csv"}, **changes}
    return loaded(tmp_path, {"carbon": carbon})


def test_the_forecaster_starts_with_the_history(tmp_path):
    built_ = carbon_room.configured_carbon(with_history(tmp_path), NOW)
    ahead = built_.forecaster.forecast(WEST, NOW, 24)
    assert 95.0 < ahead.slots[0].g_per_kwh < 130.0
    assert ahead.slots[0].source == "nowcast(history:past.csv)"


def test_a_reload_keeps_what_the_forecaster_learned(tmp_path):
    before = carbon_room.configured_carbon(with_history(tmp_path), NOW)
    config = with_history(tmp_path, refresh_s=5.0)
    assert carbon_room.configured_carbon(config, NOW, None, before).forecaster is before.forecaster
    other = with_history(tmp_path, history={"file": "past.csv", "hour_ending": True})
    again = carbon_room.configured_carbon(other, NOW, None, before)
    assert again.forecaster is not before.forecaster


def test_a_marginal_signal_is_explained_beside_and_never_decides(tmp_path):
    trace(tmp_path, (900, 1), (900, 1), name="moer.csv")
    path = configured(tmp_path)
    text = path.read_text().replace(
        "carbon:\n", "carbon:\n  marginal: {sources: [{kind: trace, file: moer.csv}]}\n", 1
    )
    path.write_text(text)
    asked = Request("llama-3.1-8b", origin="west")
    found = check.explain(path, asked, NOW + HOUR)
    assert found.marginal[WEST].g_per_kwh == pytest.approx(900.0)
    assert found.marginal[WEST].signal == MARGINAL
    plain = check.explain(configured(tmp_path), asked, NOW + HOUR)
    assert found.explanation.candidates == plain.explanation.candidates
    assert plain.marginal == {}
    assert WEST in found.attempts
