"""Sums against an independent calculation: pandas, floats, one row after the other's hours."""

import shutil

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest

from router.errors import ConfigError, DataError, MixedBasisError
from router.ledger.month import Month
from router.model import Factors
from router.operator.reporting.gather import GroupSums, Per, ReportQuestion, gather
from tests.operator.reporting.conftest import HOURS, price_of, reported

NOVEMBER = Month(2026, 11)
FIRST_S = 1_793_491_200.0
J_PER_KWH = 3.6e6
# Runs that began in October are cut, and rounded, at the edge of the month: 60 ng each.
EDGE_G = 1e-4


def asked(root, **given):
    return gather(ReportQuestion(root, NOVEMBER, **given))


def by_hand(root, prices=None):
    """A row an hour of each receipt that ran in it, of November."""
    rows = ds.dataset(root / "receipts", partitioning="hive").to_table().to_pandas()
    rows["end"] = rows.finished_at.astype("int64") / 1e6
    if rows.end.max() < 1e9:
        rows["end"] = rows.finished_at.astype("int64") / 1e9
    rows["run"] = rows.run_s.astype(float).fillna(0.0)
    parts = []
    first = np.floor((rows.end - rows.run) / 3600.0)
    last = np.floor((rows.end - 1e-6 * (rows.run > 0)) / 3600.0)
    for ahead in range(int((last - first).max()) + 1):
        part = rows[first + ahead <= last].copy()
        start = (first[part.index] + ahead) * 3600.0
        inside = np.minimum(part.end, start + 3600.0) - np.maximum(part.end - part.run, start)
        part["share"] = np.where(part.run > 0, inside / part.run.where(part.run > 0, 1.0), 1.0)
        part["ends"] = first[part.index] + ahead == last[part.index]
        part["at"] = ((start - FIRST_S) / 3600.0).astype(int)
        parts.append(part)
    table = pd.concat(parts)
    table = table[(table["at"] >= 0) & (table["at"] < 720)]
    table["kwh"] = (table.energy_j * table.pue + table.network_j) * table.share / J_PER_KWH
    table["price"] = [
        (prices or {}).get((zone, at), np.nan)
        for zone, at in zip(table.grid_zone, table["at"], strict=True)
    ]
    table["grams"] = np.where(
        table.price.notna(), table.kwh * table.price, table.gco2e * table.share
    )
    return table


@pytest.mark.parametrize("per", list(Per))
def test_sums_are_those_of_pandas(ledger, per):
    report = reported(ledger, per)
    hand = by_hand(ledger)
    groups = hand.groupby(per.value, observed=True)
    assert {one.group for one in report.groups if one.group} == set(groups.groups)
    for one in report.groups:
        if not one.group:
            continue
        rows = groups.get_group(one.group)
        ended = rows[rows.ends]
        answered = ended[ended.outcome == "answered"]
        assert one.count("answered") == len(answered)
        assert one.count("output_tokens") == answered.output_tokens.sum()
        assert one.count("input_tokens") == answered.input_tokens.sum()
        assert one.energy("it_q").j == pytest.approx((rows.energy_j * rows.share).sum(), rel=1e-9)
        assert one.mass("g_q").g == pytest.approx(
            (rows.gco2e * rows.share).sum(), rel=1e-9, abs=EDGE_G
        )
        marginal = (rows.kwh * rows.marginal_g_per_kwh).sum()
        assert one.mass("marginal_g_q").g == pytest.approx(marginal, rel=1e-6)


def test_settled_sums_are_those_of_pandas(settled):
    report = reported(settled)
    prices = {
        (zone, hour): price_of(zone, hour)
        for zone in ("US-CAL-CISO", "US-MIDA-PJM", "SE")
        for hour in range(HOURS - 1)
    }
    hand = by_hand(settled, prices)
    # What has a network and no energy is priced, too.
    grams = hand.grams.where(hand.energy_j.notna(), 0.0).sum()
    lone = hand[hand.energy_j.isna() & hand.network_j.notna() & hand.price.notna()]
    grams += (lone.network_j * lone.share / J_PER_KWH * lone.price).sum()
    assert report.total.mass("operational_g").g == pytest.approx(grams, rel=1e-9, abs=2 * EDGE_G)
    assert report.total.mass("g_q").g == pytest.approx(
        (hand.gco2e * hand.share).sum(), rel=1e-9, abs=EDGE_G
    )
    assert 0 < report.total.count("settled_q") < report.total.count("facility_q")


def test_hours_and_groups_add_up_exactly(settled):
    report = reported(settled, Per.TENANT)
    for name in ("facility_q", "operational_g", "total_g", "answered", "g_q", "low_total_g"):
        assert sum(one.count(name) for one in report.groups) == report.total.count(name)
        assert sum(one.figures.count(name) for one in report.hours) == report.total.count(name)
        hours = sum(one.figures.count(name) for one in report.group_hours)
        assert hours == report.total.count(name)


def test_a_range_holds_the_figure(ledger):
    total = reported(ledger).total
    assert total.mass("low_total_g").g < total.mass("total_g").g < total.mass("high_total_g").g


def test_forecasts_are_held_against_what_was_settled(settled):
    report = reported(settled)
    assert {(one.grid_zone, one.kind, one.lead_h) for one in report.errors} == {
        ("US-CAL-CISO", "forecast", 1), ("SE", "forecast", 1), ("US-MIDA-PJM", "measured", 1),
    }  # fmt: skip
    assert all(one.hours == HOURS - 1 for one in report.errors)
    (west,) = [one for one in report.errors if one.grid_zone == "US-CAL-CISO"]
    # Receipts say 240 on the mean, and 211 was settled.
    assert west.mean_error == pytest.approx(29.0, abs=4.0)
    assert west.mean_absolute >= abs(west.mean_error)


def test_at_home_is_by_the_regions_prices(settled):
    home = reported(settled).home
    hand = by_hand(settled)
    ended = hand[hand.ends & hand.energy_j.notna() & hand.origin.notna()]
    # All three origins are regions, and all hours have receipts of all zones.
    assert sum(one.rows for one in home.values()) == len(ended)
    assert all(one.there_g > 0 and one.home_g > 0 for one in home.values())


def test_market_based_grams_stand_beside(settled, tmp_path):
    file = tmp_path / "market.csv"
    file.write_text(
        "grid_zone,hour,kwh,g_per_kwh,source\n"
        "SE,,,0,hydro contract\n"
        "US-CAL-CISO,2026-11-01T05:00Z,0.001,10,certificate\n"
        "US-CAL-CISO,,,300,residual mix\n"
    )
    report = asked(settled, market=file)
    location = reported(settled).total.mass("operational_g")
    assert report.total.mass("operational_g") == location
    grams, known = report.market[""]
    zones = {"SE": 0, "US-CAL-CISO": 0}
    for one in report.hours:
        if one.grid_zone in zones:
            zones[one.grid_zone] += one.figures.count("facility_q")
    assert known == sum(zones.values())
    west_kwh = zones["US-CAL-CISO"] / 2**20 / J_PER_KWH
    assert grams / 2**24 == pytest.approx(west_kwh * 300 - 0.001 * 290, rel=1e-6)


def test_requests_idle_and_difference_are_what_the_meters_say(whole):
    report = reported(whole)
    energy = ds.dataset(whole / "energy", partitioning="hive").to_table().to_pandas()
    total = report.total
    told = total.energy("it_q", "idle_q", "difference_q").j
    assert told == pytest.approx(energy.metered_j.sum(), rel=1e-9)
    assert total.energy("idle_q").j == energy.idle_j.sum()
    assert total.energy("gateway_q").j == energy[energy.part == "gateway"].awake_j.sum()
    overhead = ((energy.metered_j.fillna(energy.awake_j)) * (energy.pue - 1.0)).sum()
    assert total.energy("overhead_q").j == pytest.approx(overhead, rel=1e-6)
    assert total.count("unpriced_q") == 0
    for name in ("idle_q", "difference_q", "gateway_q", "embodied_g", "total_g"):
        assert sum(one.count(name) for one in report.groups) == total.count(name)


def test_other_factors_are_not_mixed_in(ledger):
    with pytest.raises(MixedBasisError, match="--factors lifecycle"):
        asked(ledger, factors=Factors.DIRECT)


def test_a_month_without_receipts_is_said(ledger):
    with pytest.raises(DataError, match="no receipt ended in 2026-12"):
        gather(ReportQuestion(ledger, Month(2026, 12)))


@pytest.fixture
def copy(ledger, tmp_path):
    shutil.copytree(ledger, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_lost_hour_is_reported_and_not_made_up(ledger, copy):
    (lost_file,) = (copy / "receipts" / "date=2026-11-01" / "hour=05").iterdir()
    lost_file.unlink()
    report = asked(copy)
    (gap,) = report.lost
    assert gap.rows == reported(ledger).total.count("rows") - report.total.count("rows")


def test_a_file_that_is_cut_short_is_named(copy):
    (file,) = (copy / "receipts" / "date=2026-11-01" / "hour=05").iterdir()
    body = file.read_bytes()
    file.write_bytes(body[: len(body) // 2])
    with pytest.raises(DataError, match=r"hour=05.*not a readable Parquet file"):
        asked(copy)
    assert file.read_bytes() == body[: len(body) // 2]


def test_a_foreign_file_is_told(copy):
    pd.DataFrame({"a": [1]}).to_parquet(copy / "receipts/date=2026-11-01/hour=05/x.parquet")
    with pytest.raises(DataError, match=r"no ledger wrote|readable Parquet file of a ledger"):
        asked(copy)


def test_pue_of_a_month_without_a_row_is_an_error(ledger, tmp_path):
    file = tmp_path / "pue.csv"
    file.write_text("region,month,pue,source\nus-west,2026-10,1.2,bill\n")
    with pytest.raises(ConfigError, match="no row of 2026-11"):
        asked(ledger, pue=file)


@pytest.mark.parametrize(
    ("unpriced", "grams", "known"), [(4, 0, False), (3, 0, True), (4, 7, True), (0, 0, True)]
)
def test_energy_none_of_which_has_an_intensity_has_no_grams_rather_than_0(unpriced, grams, known):
    sums = {"facility_q": 4, "operational_g": grams, "unpriced_q": unpriced, "gateway_q": 0}
    figures = GroupSums("refused", {**sums, "gateway_g": 0})
    assert (figures.operational() is not None) == known
    assert figures.priced("gateway_q", "gateway_g") is not None
