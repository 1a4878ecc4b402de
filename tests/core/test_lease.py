from hypothesis import given
from hypothesis import strategies as st

from router.core.lease import Lease
from router.model import UNBURDENED, Outcome
from tests.factories import board, fleet, snapshot

LLAMA = ("llama", "")


def capped(pace_ms):
    return UNBURDENED._replace(pace_cap_ms=pace_ms)


def seat():
    built = snapshot(fleet())
    return board(built).seats["a"]


def test_a_lease_holds_a_place_until_it_is_closed():
    one = seat()
    lease = Lease(one, UNBURDENED)
    assert one.in_flight == 1
    assert lease.outcome is None
    assert lease.close(Outcome.SUCCEEDED)
    assert (one.in_flight, lease.outcome) == (0, Outcome.SUCCEEDED)


def test_closing_twice_gives_back_once_and_keeps_the_first_outcome():
    one = seat()
    other, lease = Lease(one, capped(3.0)), Lease(one, capped(5.0))
    assert lease.close(Outcome.DROPPED)
    assert not lease.close(Outcome.SUCCEEDED)
    assert (one.in_flight, lease.outcome) == (1, Outcome.DROPPED)
    other.close(Outcome.IGNORED)
    assert one.in_flight == 0


def test_a_lease_counts_at_its_model_too_and_is_given_back_there_once():
    one = seat()
    outlier = one.outliers[LLAMA]
    lease = Lease(one, UNBURDENED, outlier)
    assert outlier.in_flight == 1
    lease.close(Outcome.DROPPED)
    lease.close(Outcome.DROPPED)
    assert outlier.in_flight == 0


def test_the_batch_at_the_start_counts_the_request_itself_and_foreign_ones():
    one = seat()
    one.set_others(2.5)
    assert Lease(one, UNBURDENED).crowd_at_start.batch == 3.5
    assert Lease(one, UNBURDENED).crowd_at_start.batch == 4.5


def test_the_longest_run_is_of_what_is_there_now():
    one = seat()
    short, long = (Lease(one, UNBURDENED, run_s=run_s) for run_s in (1.0, 30.0))
    assert one.longest_run_s == 30.0
    long.close(Outcome.SUCCEEDED)
    assert one.longest_run_s == 1.0
    short.close(Outcome.SUCCEEDED)
    assert one.longest_run_s == 0.0


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(list(Outcome)))))
def test_any_order_of_closing_ends_with_nothing_held(closings):
    one = seat()
    leases = [Lease(one, capped(float(1 + i % 3)), one.outliers[LLAMA], i, i) for i in range(10)]
    for at, outcome in closings:
        leases[at].close(outcome)
        assert list(one.leases) == [lease for lease in leases if lease.outcome is None]
    for lease in leases:
        lease.close(Outcome.DROPPED)
    assert (one.in_flight, one.outliers[LLAMA].in_flight, len(one.leases)) == (0, 0, 0)
