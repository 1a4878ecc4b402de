"""What callers are told of a request's latency holds as often as the quantile says."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from router.core.latency import z_of
from router.core.learned import MarginsLearned
from router.core.lengths import Expected
from router.core.margins import KNOWN_AFTER, LEAST, MOST, STEP, Margins
from router.core.pipeline import decide
from tests import factories as f

Z95, Z75 = z_of(0.95), z_of(0.75)


def test_what_was_learned_another_goes_on_with(decision):
    made, other = margins(), margins()
    for waits in (False, False, True):
        made.learn(made.told(decision, waits), 500.0, 9000.0, 100.0)
    kept = made.learned("a", "k")
    assert [(one.waits, one.lessons) for one in kept] == [(False, 2), (True, 1)]
    for one in kept:
        other.restore(one)
    assert other.learned("a", "k") == kept
    assert all(other.told(decision, w) == made.told(decision, w) for w in (False, True))
    assert margins().learned("a", "k") == ()


@pytest.mark.parametrize(
    "lie",
    [
        {"z": Z75}, {"z": math.nan}, {"logs": (0.0, 0.0)}, {"logs": (0.0, 0.0, math.nan)},
        {"logs": (0.0, MOST + 0.01, 0.0)}, {"logs": (LEAST - 0.01, 0.0, 0.0)}, {"lessons": 0},
        {"lessons": -1}, {"lessons": 2**60},
    ],
)  # fmt: skip
def test_what_cannot_be_or_is_of_another_quantile_is_left_out(decision, lie):
    sound = MarginsLearned("a", "k", False, Z95, (0.1, 0.2, 0.3), 9)
    made = margins()
    assert made.can_restore(sound) and not made.can_restore(replace(sound, **lie))
    made.restore(replace(sound, **lie))
    assert made.learned("a", "k") == ()


def test_at_another_quantile_it_is_learned_anew(decision):
    made = margins()
    made.learn(made.told(decision, False), 500.0, 9000.0, 100.0)
    made.aim(Z75, Z75)
    assert made.learned("a", "k") == ()


@pytest.fixture
def decision():
    snapshot = f.snapshot(f.fleet(f.endpoint("west-0")))
    expected = Expected(500.0, 200.0, 600.0)
    decided = decide(f.request(), snapshot, f.board(snapshot), expected, f.NOW, f.Dice())
    return decided.decision._replace(ttft_ms=100.0, tpot_ms=10.0, e2e_ms=1000.0)


def margins(z: float = Z95, tpot_z: float = Z95) -> Margins:
    made = Margins()
    made.aim(z, tpot_z)
    return made


def test_before_any_outcome_a_decision_is_told_as_it_is(decision):
    told = margins().told(decision, waits=False)
    assert told == (100.0, 10.0, 1000.0, False)


def test_a_pace_that_is_decided_at_another_quantile_is_told_at_the_policys(decision):
    told = margins(Z95, Z75).told(decision, waits=False)
    assert told.tpot_ms == pytest.approx(10.0 * math.exp(0.1 * (Z95 - Z75)))
    assert (told.ttft_ms, told.e2e_ms) == (100.0, 1000.0)


@pytest.mark.parametrize("quantile", [0.8, 0.95])
def test_a_pace_that_later_requests_slow_is_told_as_often_right_as_the_quantile_says(
    decision, quantile
):
    made, rng = margins(z_of(quantile)), random.Random(3)
    hits = 0
    for at in range(4000):
        told = made.told(decision, waits=False)
        pace_ms = 11.0 * math.exp(0.2 * rng.gauss(0.0, 1.0))
        hits += at >= 1000 and pace_ms <= told.tpot_ms
        made.learn(told, 100.0, 100.0 + 99.0 * pace_ms, 100.0)
    assert hits / 3000 == pytest.approx(quantile, abs=0.01)


def test_of_n_outcomes_no_more_are_missed_than_the_quantile_says_however_they_come(decision):
    """In blocks, as no two of them are independent: the bound is of arithmetic, not of chance."""
    made, missed, n = margins(), 0, 3000
    for at in range(n):
        told = made.told(decision, waits=False)
        e2e_ms = 3000.0 if at // 50 % 3 == 0 else 600.0
        missed += e2e_ms > told.e2e_ms
        made.learn(told, math.nan, e2e_ms, math.nan)
    # Once more for what is forgotten as predictions are learned.
    assert missed / n <= 0.05 + 2.0 * (MOST - LEAST + STEP) / (STEP * n)


def test_who_waits_for_a_place_and_who_does_not_are_told_apart(decision):
    made = margins()
    for _ in range(50):
        made.learn(made.told(decision, waits=True), 1e6, 1e7, 100.0)
    assert made.told(decision, waits=True).ttft_ms > 200.0
    assert made.told(decision, waits=False).ttft_ms == 100.0


def test_one_outcome_moves_it_by_a_step_and_all_of_them_not_beyond_bounds(decision):
    made = margins()
    seen = []
    for _ in range(KNOWN_AFTER + 400):
        made.learn(made.told(decision, waits=False), math.nan, 1e12, math.nan)
        seen.append(made.told(decision, waits=False).e2e_ms)
    assert all(b / a <= math.exp(STEP) for a, b in pairwise(seen))
    assert seen[KNOWN_AFTER - 1] == 1000.0
    assert seen[-1] == pytest.approx(1000.0 * math.exp(MOST))


def test_what_predictions_learn_meanwhile_is_not_told_twice(decision):
    """A profile that says a tenth of what it takes, of which predictions learn a twentieth of what
    is left with each answer."""
    made, rng, within = margins(), random.Random(5), []
    for at in range(400):
        known = 1.0 - 0.95**at
        told = made.told(decision._replace(e2e_ms=1000.0 * 10.0**known), waits=False)
        e2e_ms = 10_000.0 * math.exp(0.2 * rng.gauss(-Z95, 1.0))
        within.append(e2e_ms <= told.e2e_ms)
        made.learn(told, math.nan, e2e_ms, math.nan)
    assert told.e2e_ms < 13_000.0
    assert sum(within[100:]) / 300 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("actual", [math.nan, math.inf, -1.0])
def test_what_is_not_known_teaches_nothing(decision, actual):
    made = margins()
    before = made.told(decision, waits=False)
    made.learn(before, actual, actual, actual)
    assert made.told(decision, waits=False) == before


def test_a_short_answer_is_held_to_the_pace_of_31_gaps(decision):
    """Two tokens 50 ms apart are no pace of 50 ms."""
    made = margins()
    before = made.told(decision, waits=False)
    made.learn(before, 100.0, 150.0, 2.0)
    assert made.told(decision, waits=False).tpot_ms < before.tpot_ms


def test_another_quantile_begins_anew_and_the_same_goes_on(decision):
    made = margins()
    for _ in range(50):
        made.learn(made.told(decision, waits=False), 1e6, 1e7, 100.0)
    learned = made.told(decision, waits=False)
    made.aim(Z95, Z95)
    assert made.told(decision, waits=False) == learned
    made.aim(z_of(0.8), z_of(0.8))
    assert made.told(decision, waits=False).ttft_ms == 100.0
