import math

from router.core.lease import Lease
from router.model import Outcome
from tests.factories import board, fleet, snapshot


def seat():
    built = snapshot(fleet())
    return board(built).seats["a"]


def test_a_lease_holds_a_place_until_it_is_closed():
    one = seat()
    lease = Lease(one, math.inf)
    assert one.in_flight == 1
    assert lease.outcome is None
    assert lease.close(Outcome.SUCCEEDED)
    assert (one.in_flight, lease.outcome) == (0, Outcome.SUCCEEDED)


def test_closing_twice_gives_back_once_and_keeps_the_first_outcome():
    one = seat()
    other, lease = Lease(one, 3.0), Lease(one, 5.0)
    assert lease.close(Outcome.DROPPED)
    assert not lease.close(Outcome.SUCCEEDED)
    assert (one.in_flight, lease.outcome) == (1, Outcome.DROPPED)
    other.close(Outcome.IGNORED)
    assert one.in_flight == 0


def test_the_batch_at_the_start_counts_the_request_itself_and_foreign_ones():
    one = seat()
    one.set_others(2.5)
    assert Lease(one, math.inf).batch_at_start == 3.5
    assert Lease(one, math.inf).batch_at_start == 4.5
