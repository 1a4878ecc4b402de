"""Mixes to intensities: arithmetic against EIA-930 2022, and what must be refused."""

from __future__ import annotations

import csv
import gzip
import math
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.fuel_mix import (
    MIX_HALF_WIDTH,
    Fuel,
    FuelFactors,
    Slot,
    defects,
    mix_intensity,
    observed,
    parse,
    slots_of,
)
from router.errors import ConfigError, NoDataError, ProviderAnswerError, ProviderError, TraceError
from router.model import Basis, Factors, Kind, Signal

LIFECYCLE = FuelFactors.shipped(Factors.LIFECYCLE)
DIRECT = FuelFactors.shipped(Factors.DIRECT)
T0 = 1_652_486_400.0
HOUR = 3600.0
USUAL = {Fuel.GAS: 50.0, Fuel.NUCLEAR: 30.0, Fuel.WIND: 20.0}
SHARED = Path(__file__).parents[4] / "shared" / "data" / "us-generation-mix-2022"
COLUMNS = {
    "wind_mwh": Fuel.WIND, "solar_mwh": Fuel.SOLAR, "hydro_mwh": Fuel.HYDRO,
    "oil_mwh": Fuel.OIL, "gas_mwh": Fuel.GAS, "coal_mwh": Fuel.COAL,
    "nuclear_mwh": Fuel.NUCLEAR, "other_mwh": Fuel.OTHER,
}  # fmt: skip


def day(*mixes: dict[Fuel, float | None]) -> list[Slot]:
    """Thirty usual hours, and then ``mixes``."""
    every = [USUAL] * 30 + list(mixes)
    return [Slot(T0 + i * HOUR, T0 + (i + 1) * HOUR, mix) for i, mix in enumerate(every)]


def test_the_shipped_sets_are_complete_and_apart() -> None:
    assert LIFECYCLE.signal == Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    assert DIRECT.signal == Signal(Basis.AVERAGE, Factors.DIRECT)
    for fuel in set(Fuel) - {Fuel.STORAGE}:
        assert LIFECYCLE.g_per_kwh[fuel] > 0.0
        # Two sources guess differently at what is in "other": the README says so.
        if fuel is not Fuel.OTHER:
            assert DIRECT.g_per_kwh[fuel] < LIFECYCLE.g_per_kwh[fuel]
    with pytest.raises(ConfigError, match="lifecycle or direct"):
        FuelFactors.shipped(Factors.NONE)


@pytest.mark.parametrize(
    "row", ["coal,lifecycle,x,s", "coal,lifecycle,-1,s", "peat,lifecycle,1,s", "coal,lifecycle,1,",
            "storage,lifecycle,1,s", "coal,lifecycle,inf,s", "coal"],
)  # fmt: skip
def test_a_broken_table_names_file_and_row(row: str) -> None:
    with pytest.raises(TraceError, match=r"factors\.csv: row 2"):
        parse(["fuel,factors,g_per_kwh,source", row], "factors.csv", Factors.LIFECYCLE)


def test_the_mean_is_weighted_by_what_was_generated() -> None:
    mixed = mix_intensity({Fuel.COAL: 30.0, Fuel.WIND: 70.0, Fuel.OIL: None}, LIFECYCLE)
    assert mixed.g_per_kwh == pytest.approx(0.3 * 820 + 0.7 * 11)
    assert mixed.low_g_per_kwh == mixed.high_g_per_kwh == mixed.g_per_kwh
    assert mix_intensity({Fuel.COAL: 30.0, Fuel.WIND: 70.0}, DIRECT).g_per_kwh == 0.3 * 760
    assert mix_intensity({Fuel.HYDRO: 1.0}, DIRECT).g_per_kwh == 0.0


def test_storage_counts_neither_way() -> None:
    alone = mix_intensity({Fuel.GAS: 80.0, Fuel.SOLAR: 20.0}, LIFECYCLE)
    for storage in (-90.0, 90.0):
        mix = {Fuel.GAS: 80.0, Fuel.SOLAR: 20.0, Fuel.STORAGE: storage}
        assert mix_intensity(mix, LIFECYCLE) == alone
    with pytest.raises(NoDataError):
        mix_intensity({Fuel.STORAGE: 90.0}, LIFECYCLE)


def test_plants_at_rest_draw_a_little_and_no_more() -> None:
    rest = mix_intensity({Fuel.GAS: 100.0, Fuel.SOLAR: -1.0}, LIFECYCLE)
    assert rest.g_per_kwh == 490.0
    with pytest.raises(ProviderAnswerError, match="solar is below 0"):
        mix_intensity({Fuel.GAS: 100.0, Fuel.SOLAR: -3.0}, LIFECYCLE)


def test_unnamed_fuels_widen_the_bounds_and_then_refuse() -> None:
    mixed = mix_intensity({Fuel.HYDRO: 93.0, Fuel.UNKNOWN: 4.0, Fuel.OTHER: 3.0}, LIFECYCLE)
    assert mixed.low_g_per_kwh == pytest.approx(0.93 * 24)
    assert mixed.g_per_kwh == pytest.approx(0.93 * 24 + 0.04 * 700 + 0.03 * 230)
    assert mixed.high_g_per_kwh == pytest.approx(0.93 * 24 + 0.07 * 820)
    mix = {Fuel.HYDRO: 89.0, Fuel.UNKNOWN: 8.0, Fuel.OTHER: 3.0}
    with pytest.raises(NoDataError, match="11% is from other or unknown"):
        mix_intensity(mix, LIFECYCLE)
    assert mix_intensity(mix, LIFECYCLE, unnamed_share=0.2).g_per_kwh > 0.0


@pytest.mark.parametrize("mix", [{}, {Fuel.GAS: 0.0}, {Fuel.GAS: None}, {Fuel.GAS: -1.0}])
def test_nothing_generated_is_no_clean_hour(mix: dict[Fuel, float | None]) -> None:
    with pytest.raises(NoDataError, match="nothing"):
        mix_intensity(mix, LIFECYCLE)


@pytest.mark.parametrize(
    ("mix", "why"),
    [
        ({Fuel.GAS: 20.0, Fuel.NUCLEAR: 20.0, Fuel.WIND: 5.0}, "only 45%"),
        ({Fuel.NUCLEAR: 30.0, Fuel.WIND: 30.0}, "gas is not reported, lately 45%"),
        ({Fuel.GAS: None, Fuel.NUCLEAR: 30.0, Fuel.WIND: 30.0}, "gas is not"),
        ({Fuel.GAS: 0.0, Fuel.NUCLEAR: 30.0, Fuel.WIND: 30.0}, "gas is not"),
        ({Fuel.GAS: 70.0, Fuel.NUCLEAR: 30.0}, "wind is not"),
        ({}, "only 0%"),
        (USUAL, ""),
        # A calm, unlike a gas plant, does come about; and small fuels are not missed.
        ({Fuel.GAS: 70.0, Fuel.NUCLEAR: 30.0, Fuel.WIND: 0.0}, ""),
        ({Fuel.GAS: 30.0, Fuel.NUCLEAR: 30.0, Fuel.WIND: 20.0}, ""),
    ],
)
def test_late_and_broken_reports_are_found(mix: dict[Fuel, float | None], why: str) -> None:
    slots = day(mix)
    found = defects(slots)
    assert set(found) <= {slots[-1].start}
    assert found.get(slots[-1].start, "").startswith(why)
    assert bool(found) == bool(why)


def test_a_fuel_missing_for_hours_is_measured_by_its_last_report() -> None:
    dusk: list[dict[Fuel, float | None]] = [
        {Fuel.GAS: 100.0 - sun, Fuel.SOLAR: sun} for sun in (40.0, 20.0, 5.0)
    ]
    night: dict[Fuel, float | None] = {Fuel.GAS: 100.0}
    every = [*dusk, *[night] * 8]
    slots = [Slot(i * HOUR, (i + 1) * HOUR, mix) for i, mix in enumerate(every)]
    assert defects(slots) == {}
    noon = [Slot(i * HOUR, (i + 1) * HOUR, mix) for i, mix in enumerate([dusk[0], night, night])]
    assert set(defects(noon)) == {HOUR, 2 * HOUR}


def test_half_of_a_fuel_is_no_report_of_it() -> None:
    fuels = {"B02": Fuel.COAL, "B05": Fuel.COAL, "B16": Fuel.SOLAR}
    reports = {
        0.0: {"B02": 60.0, "B05": 20.0, "B16": 20.0, "B99": None},
        HOUR: {"B05": 80.0, "B16": 20.0, "B99": None},
    }
    first, second = slots_of(reports, fuels, HOUR)
    assert first.mix == {Fuel.COAL: 80.0, Fuel.SOLAR: 20.0}
    assert second.mix == {Fuel.COAL: None, Fuel.SOLAR: 20.0}
    assert slots_of({0.0: {"X": 3.0}}, fuels, HOUR)[0].mix == {Fuel.UNKNOWN: 3.0}


def test_refused_hours_leave_the_last_good_one_with_its_age() -> None:
    slots = day({Fuel.NUCLEAR: 30.0, Fuel.WIND: 30.0}, {Fuel.WIND: 1.0})
    values = observed(slots, LIFECYCLE, "eia", lag_s=5 * HOUR)
    assert len(values) == 30
    newest = values[-1]
    assert newest.observed_at == T0 + 30 * HOUR
    assert newest.expires_at == newest.observed_at + 7 * HOUR
    assert newest.kind is Kind.ESTIMATED and newest.source == "eia"
    half = newest.g_per_kwh * MIX_HALF_WIDTH
    assert newest.high_g_per_kwh == pytest.approx(newest.g_per_kwh + half)
    assert newest.low_g_per_kwh == pytest.approx(newest.g_per_kwh - half)


def test_when_no_hour_can_be_used_the_newest_says_why() -> None:
    with pytest.raises(NoDataError, match="eia: no generation"):
        observed([], LIFECYCLE, "eia", lag_s=0.0)
    negative = Slot(0.0, HOUR, {Fuel.GAS: 10.0, Fuel.SOLAR: -5.0})
    unknown = Slot(HOUR, 2 * HOUR, {Fuel.GAS: 10.0, Fuel.SOLAR: 0.0, Fuel.UNKNOWN: 10.0})
    with pytest.raises(NoDataError, match="eia: 50% is from other"):
        observed([unknown, negative], LIFECYCLE, "eia", lag_s=0.0)
    with pytest.raises(ProviderAnswerError, match="eia: generation from solar"):
        observed([negative], LIFECYCLE, "eia", lag_s=0.0)


@given(
    st.dictionaries(
        st.sampled_from(Fuel),
        st.none() | st.floats(-1e6, 1e6, allow_nan=False),
    )
)
def test_any_mix_is_refused_or_lies_between_its_fuels(mix: dict[Fuel, float | None]) -> None:
    try:
        mixed = mix_intensity(mix, LIFECYCLE)
    except ProviderError:
        return
    known = [LIFECYCLE.g_per_kwh[f] for f, v in mix.items() if v and f is not Fuel.STORAGE]
    assert min(known) - 1e-9 <= mixed.g_per_kwh <= max(known) + 1e-9
    assert mixed.low_g_per_kwh <= mixed.g_per_kwh <= mixed.high_g_per_kwh + 1e-9


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the EIA-930 2022 data set")
def test_eia_930_of_2022_is_reproduced_and_its_false_lows_are_refused() -> None:
    path = SHARED / "eia930_generation_and_ci_2022.csv.gz"
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(path, "rt") as lines:
        for row in csv.DictReader(lines):
            if row["datetime_utc"] < "2022-01-20" or row["datetime_utc"][:7] == "2022-10":
                rows[row["zone"]].append(row)
    compared = refused = 0
    for zone, hours in rows.items():
        for first in range(0, len(hours) - 48, 48):
            window = {_start(row): row for row in hours[first : first + 48]}
            reports = {start: _cells(row) for start, row in window.items()}
            slots = slots_of(reports, COLUMNS, HOUR)
            found = defects(slots)
            for slot in slots:
                row = window[slot.start]
                low_of_pjm = zone == "US-MIDA-PJM" and row["flag"] == "1"
                if slot.start in found:
                    refused += 1
                    continue
                assert not low_of_pjm
                try:
                    mixed = mix_intensity(slot.mix, LIFECYCLE, unnamed_share=1.0)
                except NoDataError:
                    continue
                compared += 1
                assert mixed.g_per_kwh == pytest.approx(float(row["ci_gco2_per_kwh"]), abs=0.001)
    assert compared > 9_000
    assert 5 <= refused < 0.02 * compared


def _start(row: dict[str, str]) -> float:
    # The data set's stamps are the ends of the hours, as EIA's are.
    return datetime.fromisoformat(row["datetime_utc"]).timestamp() - HOUR


def _cells(row: dict[str, str]) -> dict[str, float | None]:
    cells = {name: float(row[name]) if row[name] else None for name in COLUMNS}
    assert all(value is None or math.isfinite(value) for value in cells.values())
    return cells
