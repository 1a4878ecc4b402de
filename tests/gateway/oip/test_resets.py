"""Premature resets are told from a client that gives up now and then."""

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.oip.resets import JUDGED_AFTER, MIN_LIFETIME_S, ResetCount

SOON = MIN_LIFETIME_S / 100


def test_a_connection_that_does_nothing_else_is_to_be_closed():
    count = ResetCount()
    verdicts = [count.ended(SOON, reset=True) for _ in range(JUDGED_AFTER)]
    assert verdicts == [False] * (JUDGED_AFTER - 1) + [True]


def test_one_that_begins_after_long_service_is_found_too():
    count = ResetCount()
    for _ in range(1_000_000 // 100):
        count.ended(SOON, reset=False)
    assert any(count.ended(SOON, reset=True) for _ in range(3 * JUDGED_AFTER))


@given(st.integers(0, 10 * JUDGED_AFTER))
def test_calls_that_lived_for_a_while_may_all_be_reset(calls):
    count = ResetCount()
    assert not any(count.ended(MIN_LIFETIME_S, reset=True) for _ in range(calls))


def test_every_second_call_may_be_taken_back():
    count = ResetCount()
    assert not any(count.ended(SOON, reset=bool(n % 2)) for n in range(20 * JUDGED_AFTER))
