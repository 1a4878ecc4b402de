"""What `grid` collects, with and without a configuration."""

import pytest

from router.carbon.tables.trace import TraceSource
from router.errors import DataError
from router.model import Kind
from router.operator import survey
from tests.app.support import START, configured, trace
from tests.config.samples import write
from tests.factories import HOUR


def curves(found):
    return {(curve.source, curve.kind) for curve in found.curves}


def test_without_a_file_the_shipped_tables_are_shown():
    (found,) = survey.survey(["SE-SE3"], None, 48)
    assert curves(found) == {("climatology", "climatology"), ("static", "annual_mean")}
    assert found.used.kind is Kind.CLIMATOLOGY
    assert "of SE" in found.used.source
    (climatology,) = [curve for curve in found.curves if curve.source == "climatology"]
    assert len(climatology.points) == 97
    assert climatology.points[0].at <= found.now - 48 * HOUR + HOUR
    assert climatology.points[-1].at > found.now + 47 * HOUR
    assert all(p.low_g_per_kwh <= p.g_per_kwh <= p.high_g_per_kwh for p in climatology.points)


def test_a_trace_shows_its_past_and_its_forecast(tmp_path):
    past = trace(tmp_path, *[(100 + i, 200) for i in range(60)], start=START - 60 * HOUR)
    ahead = trace(tmp_path, *[(300, 150)] * 30, name="ahead.csv")
    path = write(tmp_path, {
        "clock": {"start": "2023-11-14T22:10Z"},
        "carbon": {"sources": [
            {"kind": "trace", "file": past},
            {"kind": "trace", "file": ahead, "value_kind": "forecast", "name": "ahead"},
        ]},
    })  # fmt: skip
    (found,) = survey.survey(["US-CAL-CISO"], path, 48)
    assert curves(found) == {("trace:grid.csv", "measured"), ("trace:ahead.csv", "forecast")}
    measured, forecast = found.curves
    assert measured.points[-1] == (START - HOUR, 159.0, 159.0, 159.0)
    assert len(measured.points) == 48
    assert (forecast.points[0].at, forecast.points[0].g_per_kwh) == (START, 300.0)
    assert found.used.source == "trace:ahead.csv"
    assert found.provenance.served[0].source == "trace:ahead.csv"


def test_zones_beyond_the_fleet_may_be_asked(tmp_path):
    path = configured(tmp_path, {"clock": {"start": "2023-11-14T22:10Z"}}, zones=(
        "US-CAL-CISO", "US-MIDA-PJM"
    ))  # fmt: skip
    assert [one.grid_zone for one in survey.survey(["US-MIDA-PJM"], path, 4)] == ["US-MIDA-PJM"]


def test_a_zone_that_nobody_knows_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"MARS.*carbon-router zones"):
        survey.survey(["US-CAL-CISO", "MARS"], None, 4)
    with pytest.raises(DataError, match=r"DE.*config\.yaml"):
        survey.survey(["DE"], configured(tmp_path), 4)


def test_a_source_that_fails_in_a_way_it_should_not_is_left_out(tmp_path, monkeypatch, caplog):
    async def broken(*_):
        raise KeyError("a defect")

    monkeypatch.setattr(TraceSource, "history", broken)
    path = configured(tmp_path, {
        "clock": {"start": "2023-11-14T22:10Z"}, "carbon/sources/0/value_kind": "measured",
    })  # fmt: skip
    (found,) = survey.survey(["US-CAL-CISO"], path, 4)
    assert found.curves == ()
    assert any("internal error: KeyError" in attempt.why for attempt in found.attempts)
    assert {record.exc_info[0] for record in caplog.records} == {KeyError}
