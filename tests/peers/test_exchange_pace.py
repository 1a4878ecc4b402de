"""How often rows are exchanged: what is moved is bounded, and no row ends meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.peers.exchange_pace import (
    FULL_SHARES,
    LEAST_TTL_S,
    MOST_TTL_S,
    PERIOD_S,
    PROCESS_BYTES_PER_S,
    longest_life_s,
    pace_of,
)
from router.peers.gateway_rows import ENTRY


def settled(exchanged_bytes, members, worked_s=0.0):
    """After a few exchanges alike."""
    pace = pace_of(exchanged_bytes, members, worked_s)
    for _ in range(5):
        pace = pace_of(exchanged_bytes, members, worked_s, pace.ttl_s)
    return pace


@pytest.mark.parametrize(("members", "row_bytes"), [(1, 50_000), (16, 2_000), (64, 2_000)])
def test_a_small_fleet_is_as_quick_as_before(members, row_bytes):
    pace = settled(members * row_bytes, members)
    assert (pace.period_s, pace.ttl_s) == (PERIOD_S, LEAST_TTL_S)
    assert pace.gap_s <= 0.031


def test_ten_thousand_busy_endpoints_and_64_gateways_take_eight_seconds():
    pace = settled(64 * 10_000 * ENTRY.itemsize, 64)
    assert pace.period_s == pytest.approx(7.93, abs=0.01)
    assert pace.ttl_s == pytest.approx(31.7, abs=0.1)


@given(st.integers(0, 10**8), st.integers(1, 1024), st.floats(0.0, 1.0))
def test_what_is_moved_is_bounded_as_far_as_rows_can_live(exchanged_bytes, members, worked_s):
    pace = settled(exchanged_bytes, members, worked_s)
    rate = exchanged_bytes / pace.gap_s
    longest = pace.ttl_s == MOST_TTL_S
    assert rate <= PROCESS_BYTES_PER_S * 1.0001 or longest
    assert rate * members <= FULL_SHARES * PROCESS_BYTES_PER_S * 1.0001 or longest
    assert pace.gap_s <= pace.period_s <= pace.ttl_s / 4.0 + 1e-9
    assert LEAST_TTL_S <= pace.ttl_s <= MOST_TTL_S


def test_an_operator_may_say_how_much_is_moved():
    pace = pace_of(2**20, 4, 0.0, LEAST_TTL_S, 2.0**24)
    assert pace.gap_s == 1 / 16
    assert pace_of(2**20, 128, 0.0, LEAST_TTL_S, 2.0**24).gap_s == 1 / 8


def test_nobody_waits_longer_than_the_row_that_stands_allows():
    first = pace_of(10**8, 64, 0.0, LEAST_TTL_S)
    assert first.gap_s == LEAST_TTL_S / 4.0
    assert first.ttl_s > 60.0


def test_what_takes_the_event_loop_long_rests_longer():
    assert settled(100, 2, 0.001).gap_s == pytest.approx(0.05)
    assert settled(100, 2, 0.5).gap_s == pytest.approx(0.1)


@given(st.integers(1, 200), st.integers(0, 200_000), st.floats(0.25, 64.0))
def test_no_row_that_a_configuration_asks_for_is_taken_to_live_shorter(count, row_bytes, mib):
    rows = {str(at): b"r" * row_bytes for at in range(count)}
    pace = pace_of(row_bytes * (count + 1), count, 0.0, LEAST_TTL_S, mib * 2**20)
    assert pace.ttl_s <= longest_life_s(rows) <= MOST_TTL_S


def test_in_a_small_room_none_lives_for_long():
    assert longest_life_s({"a": b"r" * 500}) == 4.0 * LEAST_TTL_S
