import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.units import DAY_S, HOUR_S, J_PER_KWH, MINUTE_S, grams, network_j

amounts = st.floats(0.0, 1e12)


def test_a_kilowatt_hour_emits_what_the_grid_says_of_one():
    assert grams(1000.0 * HOUR_S, 420.0) == 420.0  # 1 kW for an hour


def test_a_gigabyte_takes_what_the_network_takes_for_one():
    assert network_j(1e9, 0.06) == pytest.approx(0.06 * J_PER_KWH)


@given(amounts, amounts, st.floats(0.0, 2000.0))
def test_grams_add_up(one_j, other_j, g_per_kwh):
    parts = grams(one_j, g_per_kwh) + grams(other_j, g_per_kwh)
    assert grams(one_j + other_j, g_per_kwh) == pytest.approx(parts, rel=1e-12)


def test_an_hour_is_sixty_minutes_and_a_day_twenty_four_hours():
    assert (HOUR_S, DAY_S) == (60 * MINUTE_S, 24 * 60 * MINUTE_S)
