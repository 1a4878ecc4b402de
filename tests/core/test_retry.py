import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.retry import (
    _EARNED_PER_REQUEST,
    _MAX_MISTAKES,
    _MISTAKEN_S,
    _MOST_TRIALS,
    Mistakes,
    RetryBudget,
    Trials,
)

# One step of traffic: a request comes in, a retry is wanted, or time passes.
STEPS = st.lists(st.sampled_from(["request", "retry"]) | st.floats(0.0, 100.0), max_size=300)


def spend_all(budget):
    """Retries that can be had at once."""
    count = 0
    while budget.spend():
        count += 1
    return count


def test_the_reserve_bridges_a_loss_at_the_start():
    assert spend_all(RetryBudget(0.2, 10.0)) == 10


def test_every_fifth_request_earns_a_retry():
    budget = RetryBudget(0.2, 0.0)
    assert not budget.spend()
    for _ in range(50):
        budget.earn()
    assert spend_all(budget) == pytest.approx(10, abs=1)


def test_a_broken_fleet_is_not_retried_into_the_ground():
    """All fail, each retried where allowed: a fifth is added, and the reserve once."""
    budget, retries = RetryBudget(0.2, 10.0), 0
    for number in range(10_000):
        budget.tick(number / 100.0)
        budget.earn()
        retries += budget.spend()
    assert 1_900 <= retries <= 2_010


def test_one_failure_in_ten_is_always_retried():
    budget = RetryBudget(0.2, 10.0)
    for number in range(10_000):
        budget.tick(number / 100.0)
        budget.earn()
        assert number % 10 or budget.spend()


def test_calm_hours_save_up_nothing_for_a_storm():
    budget = RetryBudget(0.2, 10.0)
    for second in range(3_600):
        budget.tick(float(second))
        for _ in range(100):
            budget.earn()
    # As much as about ten seconds earn.
    assert spend_all(budget) < 10 + 20 * 11
    budget.tick(7_200.0)
    assert spend_all(budget) == 0


def test_what_was_not_spent_melts_down_to_the_reserve_and_no_further():
    budget = RetryBudget(0.5, 10.0)
    budget.tick(0.0)
    for _ in range(100):
        budget.earn()
    budget.tick(10.0)
    assert budget.balance == pytest.approx(10.0 + 50.0 / 2.718281828)
    budget.tick(10_000.0)
    assert budget.balance == pytest.approx(10.0)


def test_below_the_reserve_nothing_melts():
    budget = RetryBudget(0.2, 10.0)
    spend_all(budget)
    budget.earn()
    for now in (0.0, 1.0, 1e6):
        budget.tick(now)
        assert budget.balance == 0.2


def test_other_bounds_hold_from_then_on():
    budget = RetryBudget(0.0, 10.0)
    budget.tick(0.0)
    budget.adopt(1.0, 2.0)
    budget.tick(1e6)
    assert budget.balance == pytest.approx(2.0)
    budget.earn()
    assert budget.balance == pytest.approx(3.0)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1000.0), STEPS)
def test_retries_never_exceed_their_share_of_the_requests_and_the_reserve(ratio, reserve, steps):
    budget, now, requests, retries = RetryBudget(ratio, reserve), 0.0, 0, 0
    for step in steps:
        if step == "request":
            requests += 1
            budget.earn()
        elif step == "retry":
            retries += budget.spend()
        else:
            now += step
            budget.tick(now)
        assert retries <= ratio * requests + reserve + 1e-6
        assert budget.balance >= 0.0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_no_clock_makes_a_balance_grow(times):
    budget = RetryBudget(0.2, 10.0)
    for _ in range(500):
        budget.earn()
    for now in times:
        before = budget.balance
        budget.tick(now)
        assert 10.0 - 1e-9 <= budget.balance <= before


# Trials


def test_bad_requests_add_a_tenth_of_their_number_at_most():
    assert _EARNED_PER_REQUEST <= 0.1
    assert _MOST_TRIALS <= 16.0


def test_a_caller_nobody_knows_may_try_and_costs_no_memory():
    trials = Trials()
    assert trials.allowed("llama", "acme")
    trials.earn("llama", "acme")
    assert not trials


def in_vain(trials, times, caller="acme", model="llama"):
    """Requests that fail wherever they are tried; how many trials were made for them."""
    made = 0
    for _ in range(times):
        if trials.allowed(model, caller):
            trials.begin(model, caller)
            made += 1
    return made


def test_so_many_trials_in_vain_are_too_many():
    trials = Trials()
    assert in_vain(trials, 1_000) == _MOST_TRIALS
    assert not trials.allowed("llama", "acme")


def test_a_trial_is_paid_for_when_it_begins():
    """So that many requests at once cannot all try before the first is known to be in vain."""
    trials = Trials()
    in_vain(trials, int(_MOST_TRIALS) - 1)
    trials.begin("llama", "acme")
    assert not trials.allowed("llama", "acme")
    trials.proven("llama", "acme")
    assert trials.allowed("llama", "acme")


def test_trials_that_show_the_endpoint_at_fault_cost_nothing():
    trials = Trials()
    for _ in range(1_000):
        assert in_vain(trials, 1) == 1
        trials.proven("llama", "acme")
    assert not trials


def test_no_proof_gives_more_trials_than_there_were():
    trials = Trials()
    for _ in range(100):
        trials.proven("llama", "acme")
    assert not trials
    assert in_vain(trials, 1_000) == _MOST_TRIALS


def test_one_callers_bad_requests_cost_no_other_and_no_other_model():
    trials = Trials()
    in_vain(trials, 100)
    assert trials.allowed("llama", "other")
    assert trials.allowed("image", "acme")


def test_requests_earn_them_back_slowly():
    trials = Trials()
    in_vain(trials, 1_000)
    requests = 0
    while not trials.allowed("llama", "acme"):
        trials.earn("llama", "acme")
        requests += 1
    assert requests == pytest.approx(1.0 / _EARNED_PER_REQUEST, abs=1)


def test_a_caller_that_is_good_again_is_forgotten():
    trials = Trials()
    trials.begin("llama", "acme")
    for _ in range(int(1.0 / _EARNED_PER_REQUEST) + 1):
        trials.earn("llama", "acme")
    assert not trials


@given(st.lists(st.sampled_from(["good", "bad", "broken"]), max_size=2_000))
def test_a_caller_of_bad_requests_adds_a_small_share_and_a_few(kinds):
    """``broken``: tried, and shown to be the endpoint's fault."""
    trials, added = Trials(), 0
    for requests, kind in enumerate(kinds, 1):
        trials.earn("llama", "acme")
        made = 0 if kind == "good" else in_vain(trials, 1)
        if kind == "broken" and made:
            trials.proven("llama", "acme")
        added += made if kind == "bad" else 0
        assert added <= _EARNED_PER_REQUEST * requests + _MOST_TRIALS + 1e-9


@given(st.lists(st.sampled_from(["earn", "begin", "proven"]), max_size=200))
def test_no_order_of_calls_leaves_more_or_fewer_than_there_may_be(calls):
    trials = Trials()
    for call in calls:
        getattr(trials, call)("llama", "acme")
        assert all(0.0 <= left < _MOST_TRIALS for left in trials._left.values())


def test_many_callers_cost_bounded_memory_and_the_worst_stays_known():
    trials = Trials()
    for number in range(20_000):
        trials.begin("llama", f"caller {number}")
        trials.begin("llama", "worst")
        assert number < _MOST_TRIALS or not trials.allowed("llama", "worst")
    assert len(trials._left) <= 4096


def test_a_mistake_is_known_for_a_while_and_the_oldest_are_forgotten_first():
    mistakes = Mistakes()
    mistakes.note(b"first", 100.0)
    assert mistakes.knows(b"first", 100.0 + _MISTAKEN_S - 1e-6)
    assert not mistakes.knows(b"first", 100.0 + _MISTAKEN_S)
    assert not mistakes.knows(b"other", 100.0)
    mistakes.note(b"second", 100.0)
    mistakes.note(b"first", 101.0)
    for number in range(_MAX_MISTAKES - 1):
        mistakes.note(b"%d" % number, 101.0)
    assert mistakes.knows(b"first", 101.0) and not mistakes.knows(b"second", 101.0)
    assert len(mistakes._until) == _MAX_MISTAKES
