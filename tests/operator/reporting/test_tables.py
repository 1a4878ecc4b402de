from dataclasses import replace

import pytest
from rich.console import Console

from router.ledger.month import Month
from router.ledger.quantities import FunctionalUnit
from router.operator.reporting.gather import GroupSums, Per, ReportQuestion, gather
from router.operator.reporting.tables import kind_share, requests_how, stamp, tables, unit_count
from router.operator.show.report import render_report
from tests.operator.reporting.conftest import reported


@pytest.fixture(scope="module")
def told(settled):
    question = ReportQuestion(settled, Month(2026, 11), units={"sd3": (FunctionalUnit.IMAGE, 4.0)})
    return tables(gather(question))


def test_components_add_up_to_the_total_to_the_last_bit(told):
    for model in ("llama-3.1-8b", "llama-3.1-70b", "(all)"):
        rows = [row for row in told["components"] if row["model"] == model]
        *parts, total = rows
        assert total["component"] == "total"
        assert sum(row["g"] or 0.0 for row in parts) == pytest.approx(total["g"], rel=1e-15)
        energy = sum(row["energy_kwh"] or 0.0 for row in parts)
        assert energy == pytest.approx(total["energy_kwh"], rel=1e-15)


def test_parts_that_the_ledger_has_not_are_empty_rather_than_0(told, whole):
    parts = {row["component"]: row for row in told["components"] if row["model"] == "(all)"}
    for name in ("idle", "gateway", "beyond requests"):
        assert (parts[name]["g"], parts[name]["energy_kwh"]) == (None, None)
        assert parts[name]["how"] == "not in this ledger"
    assert {row["idle_kwh"] for row in told["hours"]} == {None}
    known = tables(gather(ReportQuestion(whole, Month(2026, 11))))
    (idle,) = [r for r in known["components"] if (r["model"], r["component"]) == ("(all)", "idle")]
    assert idle["energy_kwh"] > 0.0 and idle["how"] == "measured or modelled"


def test_scores_are_totals_over_counts_in_units_that_fit(told):
    scores = {(row["model"], row["functional_unit"]): row for row in told["sci"]}
    assert ("sd3", "image") in scores and ("sd3", "token") not in scores
    image = scores["sd3", "image"]
    assert image["r_count"] == 4 * scores["sd3", "request"]["r_count"]
    token = scores["llama-3.1-8b", "token"]
    assert token["sci_g_per_unit"] * token["r_count"] == pytest.approx(token["total_g"])
    assert token["sci_g_per_million_units"] == pytest.approx(1e6 * token["sci_g_per_unit"])
    assert token["total_g"] == pytest.approx(token["operational_g"] + token["embodied_g"])


def test_hardware_without_a_figure_has_no_embodied_grams_rather_than_0(told):
    (sd3,) = [r for r in told["scope3_category1"] if r["model"] == "sd3"]
    assert sd3["of_it_embodied_g"] is None
    (score,) = [r for r in told["sci"] if r["model"] == "sd3" and r["functional_unit"] == "image"]
    assert score["embodied_g"] is None and score["hours_without_embodied"] > 0


def test_how_each_part_is_known_is_said(told):
    parts = {row["component"]: row["how"] for row in told["components"] if row["model"] == "(all)"}
    assert parts["requests"].startswith("measured ")
    assert parts["facility overhead"] == "sourced"
    assert parts["embodied"] == "modelled"
    assert {row["how"] for row in told["coefficients"]} == {"sourced", "modelled"}


def test_scope_2_has_factor_source_vintage_and_revision(told):
    settled_hours = [row for row in told["scope2"] if row["location_factor_revision"]]
    assert len(settled_hours) == 3 * 47
    one = settled_hours[0]
    assert one["location_factor_source"] == "intensities.csv"
    assert one["location_factor_vintage"] == "2026-11-01T01:00:00Z"
    grams = one["energy_kwh"] * one["location_g_per_kwh"]
    assert one["location_g"] == pytest.approx(grams, rel=1e-9)
    (open_hour,) = [
        row for row in told["scope2"]
        if not row["location_factor_revision"] and row["grid_zone"] == "SE"
        and row["hour"] == "2026-11-02T23:00:00Z"
    ]  # fmt: skip
    assert open_hour["location_factor_source"] == "grid-operator"
    assert one["market_g_per_kwh"] is None


def test_hours_hold_both_figures(told):
    (row,) = [
        row for row in told["hours"]
        if row["hour"] == "2026-11-01T05:00:00Z" and row["grid_zone"] == "SE"
        and row["model"] == "llama-3.1-8b"
    ]  # fmt: skip
    assert row["settled"] and row["revision"] == 1
    assert row["location_g"] != row["location_g_receipted"] > 0.0


def test_shares_and_stamps():
    assert kind_share({"measured": 1, "estimated": 3}, "measured") == 0.25
    assert kind_share({}, "measured") is None
    assert stamp(None) is None
    assert stamp(1_793_491_200_999_999) == "2026-11-01T00:00:00Z"


@pytest.mark.parametrize(
    ("kinds", "how"),
    [
        ({}, "modelled"),
        ({"estimated": 2}, "modelled"),
        ({"measured": 2}, "measured"),
        ({"emulated": 2}, "emulated"),
        ({"calibrated": 2}, "calibrated"),
        (
            {"measured": 1, "calibrated": 1, "profile": 2},
            "measured 25.0%, calibrated 25.0%, else modelled",
        ),
        ({"measured": 1, "estimated": 1}, "measured 50.0%, else modelled"),
        ({"measured": 1, "emulated": 1}, "measured 50.0%, emulated 50.0%, else modelled"),
    ],
)
def test_how_energy_is_known_is_called_so(kinds, how):
    assert requests_how(kinds) == how


def test_who_answers_nothing_has_no_tokens():
    figures = GroupSums("", {"answered": 0, "output_tokens": 0, "input_tokens": 9})
    question = ReportQuestion.__new__(ReportQuestion)
    object.__setattr__(question, "units", {})
    assert unit_count(figures, question) == [(FunctionalUnit.REQUEST, 0)]


def test_reports_for_tenants_and_regions_have_columns_of_their_name(ledger):
    for per in (Per.TENANT, Per.REGION):
        found = tables(reported(ledger, per))
        assert str(per) in found["sci"][0] and str(per) in found["hours"][0]


def test_a_group_without_an_intensity_has_empty_grams_in_every_table(settled):
    report = gather(ReportQuestion(settled, Month(2026, 11)))
    energy = {"facility_q": 2**20, "gateway_q": 2**20, "unpriced_q": 2**20}
    alone = GroupSums("refused", dict.fromkeys(report.total.sums, 0) | energy)
    made = tables(replace(report, groups=(alone,)))
    (row, *_) = [one for one in made["sci"] if one["model"] == "refused"]
    assert (row["operational_g"], row["total_g"], row["sci_g_per_unit"]) == (None, None, None)
    (last,) = [
        one for one in made["components"]
        if (one["model"], one["component"]) == ("refused", "total")
    ]  # fmt: skip
    assert last["g"] is None and last["energy_kwh"] > 0.0
    with_text = Console(width=200)
    with with_text.capture() as printed:
        with_text.print(render_report(replace(report, groups=(alone,)), None))
    (line,) = [one for one in printed.get().splitlines() if "refused" in one]
    assert "0 g" not in line
