import itertools
import os
import random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from router.core.burden import NO_BURDENS
from router.core.lease import Lease
from router.model import UNBURDENED, Burden, Outcome
from tests.factories import board, fleet, snapshot

LLAMA = ("llama", "")
# `make faults` takes a million.
HISTORIES = int(os.environ.get("LEASE_HISTORIES", "20000"))
AT_ONCE = 1000


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


OUTCOMES = list(Outcome)
BURDENS = [
    UNBURDENED,
    *(Burden(40.0 * n, 0.7 * n, 333.0 / n, 9.0 + n, 11.0 * n) for n in (1, 3, 7)),
]


def history(one, rng):
    """Up to eight requests on a seat that come, are read and end in any order; an end is told again
    now and then, and after it what comes late. At every moment the seat holds what is open."""
    outlier = one.outliers[LLAMA]
    leases, open_ones = [], {}
    for step in range(rng.randrange(1, 24)):
        what = rng.random()
        if what < 0.4 and len(leases) < 8:
            burden = rng.choice(BURDENS)
            lease = Lease(one, burden, outlier if rng.random() < 0.9 else None, step, rng.random())
            leases.append(lease)
            open_ones[lease] = lease.outlier is not None
        elif leases and what < 0.6:
            rng.choice(leases).prompt_read()
        elif leases:
            lease = rng.choice(leases)
            assert lease.close(rng.choice(OUTCOMES)) == (lease in open_ones)
            open_ones.pop(lease, None)
        assert one.in_flight == len(one.leases) == len(open_ones)
        assert outlier.in_flight == sum(open_ones.values())
    for lease in rng.sample(list(open_ones), len(open_ones)):
        lease.close(rng.choice(OUTCOMES))


@settings(
    max_examples=HISTORIES // AT_ONCE, deadline=None, derandomize=True, phases=[Phase.generate]
)
@given(st.integers(0, 2**63))
def test_after_any_history_of_requests_nothing_is_held(seed):
    """One seat lives through a thousand of them: what each left behind would add up."""
    one = seat()
    rng = random.Random(seed)
    for _ in itertools.repeat(None, AT_ONCE):
        history(one, rng)
        held = (one.in_flight, one.outliers[LLAMA].in_flight, len(one.leases), one.longest_run_s)
        assert held == (0, 0, 0, 0.0)
        assert one.burdens == NO_BURDENS
        assert one.crowd() == (0.0, 0.0, 0.0)
