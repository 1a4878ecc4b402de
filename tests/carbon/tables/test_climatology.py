from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.tables.climatology import Climatology, parse
from router.errors import TraceError
from router.model import Basis, Factors, Kind, Signal

HEADER = "zone,source,until,month," + ",".join(f"h{h:02d}" for h in range(24))
HEADER += ",p05_ratio,p95_ratio"


def lines(months: range = range(1, 13), first: str = "") -> list[str]:
    """Zone X: value = 100 * month + hour."""
    rows = []
    for month in months:
        cells = [first or str(100 * month), *(str(100 * month + h) for h in range(1, 24))]
        rows.append(f"X,set-1,2022-01-01,{month},{','.join(cells)},0.5,1.5")
    return [HEADER, *rows]


async def test_the_hour_in_utc_decides() -> None:
    source = Climatology(parse(lines(), "t.csv"))
    for when, expected in [
        (datetime(2022, 5, 14, 13, 59, 59, tzinfo=UTC), 513.0),
        (datetime(2024, 2, 29, 0, 0, tzinfo=UTC), 200.0),
        (datetime(1969, 12, 31, 23, 0, tzinfo=UTC), 1223.0),
        (datetime(2023, 1, 1, 0, 0, tzinfo=UTC), 100.0),
    ]:
        assert (await source.read(["X"], when.timestamp()))["X"].g_per_kwh == expected


async def test_provenance_band_and_age() -> None:
    now = datetime(2022, 5, 14, tzinfo=UTC).timestamp()
    value = (await Climatology(parse(lines(), "t.csv")).read(["X"], now))["X"]
    assert value.kind is Kind.CLIMATOLOGY
    assert value.signal == Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    assert value.source == "climatology(set-1)"
    assert (value.low_g_per_kwh, value.high_g_per_kwh) == (250.0, 750.0)
    assert value.expires_at == math.inf
    assert value.age_s(now) == 133 * 86_400.0


@given(hours=st.integers(1, 100), start=st.floats(1.6e9, 1.9e9))
@settings(deadline=None)
async def test_slots_are_the_readings_of_each_hour(hours: int, start: float) -> None:
    source = Climatology.load()
    slots = source.slots("DE", start, hours)
    assert len(slots) == hours
    for ahead, slot in enumerate(slots):
        assert (await source.read(["DE"], start + 3600.0 * ahead))["DE"] is slot


def test_an_unknown_zone_has_no_slots() -> None:
    assert Climatology.load().slots("nowhere", 0.0, 24) == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (lines(range(1, 12)), ["zone X", "months 1 to 12"]),
        (lines(first="0"), ["row 2", "above 0"]),
        (lines(first="nan"), ["row 2", "intensity"]),
        (lines(first="x"), ["row 2"]),
        ([HEADER, "X,set-1,2022-01-01,1,100"], ["row 2"]),
        (["zone,month", "X,1"], ["row 2"]),
        ([line.replace("0.5,1.5", "0.5,0.9") for line in lines()], ["row 2", "low <= value"]),
    ],
)
def test_a_bad_table_is_refused(text: list[str], names: list[str]) -> None:
    with pytest.raises(TraceError) as caught:
        parse(text, "t.csv")
    for name in names:
        assert name in str(caught.value)


def test_the_embedded_table_is_sane() -> None:
    source = Climatology.load()
    assert {"US-CAL-CISO", "US-TEX-ERCO", "DE", "SE", "CA-QC", "US-NE-ISNE"} <= source.grid_zones
    for zone in source.grid_zones:
        year = source.slots(zone, datetime(2023, 1, 1, tzinfo=UTC).timestamp(), 8760)
        values = [slot.g_per_kwh for slot in year]
        assert min(values) > 5.0 and max(values) < 900.0
        for slot in year[:24]:
            assert 0.3 < slot.low_g_per_kwh / slot.g_per_kwh < 1.0
            assert 1.0 < slot.high_g_per_kwh / slot.g_per_kwh < 2.0
    noon, dusk = (source.slots("US-CAL-CISO", h * 3600.0, 1)[0].g_per_kwh for h in (20, 2))
    assert noon < dusk
