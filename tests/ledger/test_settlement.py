import pytest

from router.errors import DataError
from router.ledger.settlement import MeasuredHour, Price, PriceKey, settle
from router.model import Basis, Factors, Kind
from router.units import DAY_S, HOUR_S

HOUR = 500_000
KEY = PriceKey("SE", HOUR, Basis.AVERAGE, Factors.LIFECYCLE)
NOW = (HOUR + 3) * HOUR_S
USED = {"SE": frozenset({HOUR, HOUR + 1})}


def measured(g=30.0, kind=Kind.MEASURED, source="operator", key=KEY):
    return MeasuredHour(key, g, g, g, kind, source, NOW - 60.0)


def known(*prices):
    return {price.measured.key: price for price in prices}


def test_a_first_price_is_revision_one():
    found = settle({}, [measured()], USED, NOW)
    assert found.added == (Price(measured(), 1, NOW),)


def test_a_source_revises_its_own_value_and_the_number_goes_on():
    before = known(Price(measured(), 1, NOW - 5.0))
    found = settle(before, [measured(31.0)], USED, NOW)
    assert [(price.revision, price.measured.g_per_kwh) for price in found.added] == [(2, 31.0)]


def test_what_is_known_already_is_not_added_again():
    later = measured()._replace(observed_at=NOW)
    found = settle(known(Price(measured(), 1, NOW - 5.0)), [later], USED, NOW)
    assert (found.added, found.unchanged) == ((), 1)


def test_what_a_source_said_earlier_replaces_nothing_that_it_said_later():
    before = known(Price(measured(), 1, NOW - 5.0))
    earlier = measured(31.0)._replace(observed_at=NOW - 61.0)
    found = settle(before, [earlier], USED, NOW)
    assert (found.added, found.older) == ((), 1)
    # Said at one time, it is a correction: a file that does not say when says so of all its hours.
    at_once = measured(31.0)._replace(observed_at=NOW - 60.0 - 1e-7)
    assert settle(before, [at_once], USED, NOW).added[0].revision == 2
    # Of what is known worse, another source's earlier measurement is better.
    estimated = known(Price(measured(40.0, Kind.ESTIMATED, "model"), 1, NOW))
    assert settle(estimated, [earlier], USED, NOW).older == 0
    assert len(settle(estimated, [earlier], USED, NOW).added) == 1


def test_another_source_replaces_only_what_is_known_worse():
    estimated = Price(measured(40.0, Kind.ESTIMATED, "model"), 1, NOW)
    assert settle(known(estimated), [measured()], USED, NOW).added[0].revision == 2
    first = known(Price(measured(), 1, NOW))
    assert settle(first, [measured(29.0, source="other")], USED, NOW).worse == 1
    assert settle(first, [measured(29.0, Kind.ESTIMATED, "model")], USED, NOW).worse == 1


def test_books_are_closed_after_30_days_and_not_before_an_hour_ends():
    assert settle({}, [measured()], USED, (HOUR + 0.5) * HOUR_S).early == 1
    end = (HOUR + 1) * HOUR_S
    assert len(settle({}, [measured()], USED, end + 30 * DAY_S).added) == 1
    assert settle({}, [measured()], USED, end + 30 * DAY_S + 1.0).late == 1


def test_zones_and_hours_without_receipts_are_left_alone():
    other = measured(key=KEY._replace(grid_zone="FI"))
    earlier = measured(key=KEY._replace(hour=HOUR - 1))
    found = settle({}, [other, earlier], USED, NOW)
    assert (found.added, found.elsewhere) == ((), 2)


def test_bases_and_factors_are_priced_apart():
    marginal = measured(90.0, key=KEY._replace(basis=Basis.MARGINAL, factors=Factors.NONE))
    found = settle({}, [measured(), marginal], USED, NOW)
    assert [price.revision for price in found.added] == [1, 1]


def test_the_same_in_another_order_is_the_same():
    later = measured(33.0, key=KEY._replace(hour=HOUR + 1))
    assert settle({}, [measured(), later], USED, NOW) == settle({}, [later, measured()], USED, NOW)


def test_two_values_of_one_hour_are_refused():
    with pytest.raises(DataError, match=r"SE, 2027-01-15T08:00:00Z.* has two values, 30 .* 31"):
        settle({}, [measured(), measured(31.0)], USED, NOW)
    assert len(settle({}, [measured(), measured()], USED, NOW).added) == 1


@pytest.mark.parametrize("kind", [Kind.FORECAST, Kind.CLIMATOLOGY, Kind.ANNUAL_MEAN])
def test_books_are_not_settled_on_a_forecast(kind):
    with pytest.raises(DataError, match="measurements"):
        settle({}, [measured(kind=kind)], USED, NOW)


@pytest.mark.parametrize("g", [-1.0, float("nan"), float("inf")])
def test_what_is_no_intensity_is_refused(g):
    with pytest.raises(DataError, match="no intensity"):
        settle({}, [measured(g)], USED, NOW)
