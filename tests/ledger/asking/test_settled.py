from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import DataError
from router.ledger.asking.settled import PriceLookup, hours_of, settled
from router.ledger.prices import add_prices
from router.ledger.settlement import MeasuredHour, Price, PriceKey
from router.model import Basis, Factors, Kind
from tests.ledger.asking.support import HOUR
from tests.ledger.rows import SEVEN_S


def price(hour=HOUR, g=30.0, revision=1, zone="SE", kind=Kind.MEASURED, basis=Basis.AVERAGE):
    key = PriceKey(zone, hour, basis, Factors.LIFECYCLE)
    return Price(MeasuredHour(key, g, g - 1.0, g + 1.0, kind, "op", 1.8e9), revision, 1.8e9)


def row(ends=SEVEN_S + 60.0, **changes):
    return {
        "finished_at": datetime.fromtimestamp(ends, UTC), "run_s": 1.0, "grid_zone": "SE",
        "basis": "average", "factors": "lifecycle", "energy_j": 3.6e6, "pue": 1.25,
        "network_j": 0.0, **changes,
    }  # fmt: skip


def known(*prices):
    return {one.measured.key: one for one in prices}


def test_grams_are_the_facilitys_energy_at_the_price_of_its_hour():
    told = settled(row(), known(price()))
    assert (told.g_per_kwh, told.gco2e, told.revision) == (30.0, 37.5, 1)
    assert (told.low_g_per_kwh, told.high_g_per_kwh, told.source) == (29.0, 31.0, "op")


def test_a_run_of_two_hours_is_priced_by_its_time_in_each():
    both = known(price(HOUR - 1, 90.0), price(HOUR, 30.0, 3, kind=Kind.ESTIMATED))
    told = settled(row(SEVEN_S + 0.25), both)
    assert told.g_per_kwh == pytest.approx(0.75 * 90.0 + 0.25 * 30.0)
    assert (told.kind, told.revision) == (Kind.ESTIMATED, 3)


@pytest.mark.parametrize(
    "changes", [{"grid_zone": None}, {"basis": None}, {"basis": "marginal"}, {"grid_zone": "NO"},
                {"factors": "none"}, {"factors": "new"}, {"run_s": 1e30},
                {"ends": SEVEN_S + 3700.0}]
)  # fmt: skip
def test_without_a_price_of_all_of_its_hours_there_is_none(changes):
    assert settled(row(**changes), known(price())) is None
    assert settled(row(SEVEN_S + 0.25), known(price())) is None


def test_without_energy_there_are_no_grams():
    assert settled(row(energy_j=None), known(price())).gco2e is None


@given(st.floats(0.0, 2e4, width=32) | st.none(), st.integers(0, 10**12))
def test_the_hours_of_a_run_add_up_to_it(run_s, ends_us):
    at = datetime.fromtimestamp(SEVEN_S, UTC).timestamp() + ends_us // 10**6
    told = hours_of(row(at, run_s=run_s))
    assert sum(told.values()) == max(1, round((run_s or 0.0) * 1e6))
    assert all(0 < us <= 3_600_000_000 for us in told.values())
    assert max(told) in (int(at // 3600), int((at - 1e-6) // 3600))


def test_the_newest_price_counts_and_other_hours_are_not_read(tmp_path):
    add_prices(tmp_path, [price(), price(HOUR + 500)])
    lookup = PriceLookup(str(tmp_path))
    assert lookup.prices(HOUR, HOUR) == known(price())
    add_prices(tmp_path, [price(g=35.0, revision=2)])
    assert lookup.prices(HOUR, HOUR) == known(price(g=35.0, revision=2))
    assert lookup.prices(HOUR + 1, HOUR + 499) == {}
    # What was looked through and is of other hours is not opened again.
    first = tmp_path / "prices" / "000001.parquet"
    first.write_bytes(b"x")
    assert lookup.prices(HOUR + 501, HOUR + 600) == {}
    with pytest.raises(DataError):
        lookup.prices(HOUR, HOUR)


def test_a_revision_that_is_there_twice_is_no_price(tmp_path):
    add_prices(tmp_path, [price()])
    add_prices(tmp_path, [price(g=50.0)])
    with pytest.raises(DataError, match="twice"):
        PriceLookup(str(tmp_path)).prices(HOUR, HOUR)
