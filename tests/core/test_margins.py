"""What callers are told of a request's latency holds as often as the quantile says."""

import math
import random
from dataclasses import replace
from statistics import NormalDist

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.core.latency import z_of
from router.core.learned import MarginsLearned
from router.core.lengths import Expected
from router.core.margins import LEAST, MOST, MOST_STEP, STEP, Margin, Margins
from router.core.pipeline import decide
from tests import factories as f
from tests.examples import examples

Z95, Z75 = z_of(0.95), z_of(0.75)


def test_what_was_learned_another_goes_on_with(decision):
    made, other = margins(), margins()
    for waits in (False, False, True):
        made.learn(told(made, decision, waits), 500.0, 9000.0, 100.0)
    kept = made.learned("a", "k")
    assert [(one.waits, one.lessons) for one in kept] == [(False, 2), (True, 1)]
    for one in kept:
        other.restore(one)
    assert other.learned("a", "k") == kept
    assert all(other.told(decision, w) == made.told(decision, w) for w in (False, True))
    assert margins().learned("a", "k") == ()


SOUND = 3 * (0.05, -0.2, 0.3, 0.3, 0.1, 0.2)


@pytest.mark.parametrize(
    "lie",
    [
        {"z": Z75}, {"z": math.nan}, {"logs": (0.1, 0.2, 0.3)}, {"logs": ()}, {"logs": SOUND[:-1]},
        {"lessons": 0}, {"lessons": -1}, {"lessons": 2**60},
        *({"logs": (*SOUND[:at], lie, *SOUND[at + 1:])}
          for at in range(len(SOUND)) for lie in (math.nan, math.inf, -1e3, 1e3)),
    ],
)  # fmt: skip
def test_what_cannot_be_or_is_of_another_quantile_is_left_out(decision, lie):
    sound = MarginsLearned("a", "k", False, Z95, SOUND, 9)
    made = margins()
    assert made.can_restore(sound) and not made.can_restore(replace(sound, **lie))
    made.restore(replace(sound, **lie))
    assert made.learned("a", "k") == ()


def test_at_another_quantile_it_is_learned_anew(decision):
    made = margins()
    made.learn(told(made, decision, False), 500.0, 9000.0, 100.0)
    made.aim(Z75, Z75)
    assert made.learned("a", "k") == ()


@pytest.fixture
def decision():
    return a_decision()


def a_decision():
    snapshot = f.snapshot(f.fleet(f.endpoint("west-0")))
    expected = Expected(500.0, 200.0, 600.0)
    decided = decide(f.request(), snapshot, f.board(snapshot), expected, f.NOW, f.Dice())
    return decided.decision._replace(ttft_ms=100.0, tpot_ms=10.0, e2e_ms=1000.0)


def told(made, decision, waits=False):
    """``decision``, with what is told of it."""
    return decision._replace(told=made.told(decision, waits))


def margins(z: float = Z95, tpot_z: float = Z95) -> Margins:
    made = Margins()
    made.aim(z, tpot_z)
    return made


def test_before_any_outcome_a_decision_is_told_as_it_is(decision):
    assert margins().told(decision, waits=False) == (100.0, 10.0, 1000.0, False)


def test_a_pace_that_is_decided_at_another_quantile_is_told_at_the_policys(decision):
    stated = margins(Z95, Z75).told(decision, waits=False)
    assert stated.tpot_ms == pytest.approx(10.0 * math.exp(0.1 * (Z95 - Z75)))
    assert (stated.ttft_ms, stated.e2e_ms) == (100.0, 1000.0)


@pytest.mark.parametrize("quantile", [0.3, 0.8, 0.95])
def test_a_pace_that_later_requests_slow_is_told_as_often_right_as_the_quantile_says(
    decision, quantile
):
    made, rng = margins(z_of(quantile)), random.Random(3)
    hits = 0
    for at in range(4000):
        before = told(made, decision)
        pace_ms = 11.0 * math.exp(0.2 * rng.gauss(0.0, 1.0))
        hits += at >= 1000 and pace_ms <= before.told.tpot_ms
        made.learn(before, 100.0, 100.0 + 99.0 * pace_ms, 100.0)
    assert hits / 3000 == pytest.approx(quantile, abs=0.01)


def one_of(gauss, at):
    return 0.0, 0.2 * gauss


def eight_times_too_large(gauss, at):
    return 0.0, 0.3 * gauss - math.log(8.0)


def five_times_too_small(gauss, at):
    return 0.0, 0.3 * gauss + math.log(5.0)


def learned_from_ten_times(gauss, at):
    """A profile that says ten times, or a tenth, of what it takes; predictions learn a twentieth
    of what is left with each answer."""
    return math.log(10.0) * (1.0 - 0.95**at), 0.2 * gauss + math.log(10.0) - 0.2 * Z95


def learned_from_a_tenth(gauss, at):
    return -math.log(10.0) * (1.0 - 0.95**at), 0.2 * gauss - math.log(10.0) - 0.2 * Z95


def a_load_that_comes_and_goes(gauss, at):
    return 0.0, 0.2 * gauss + (1.0 if at // 40 % 2 else 0.0)


def one_in_twelve_takes_five_times(gauss, at):
    return 0.0, 0.2 * gauss + (1.6 if (at * 7) % 12 == 0 else 0.0)


SEQUENCES = [
    one_of, eight_times_too_large, five_times_too_small, learned_from_ten_times,
    learned_from_a_tenth, a_load_that_comes_and_goes, one_in_twelve_takes_five_times,
]  # fmt: skip


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_what_is_told_holds_from_the_first_hundred_on(decision, sequence):
    """Over the first so many outcomes, not in the long run alone; of 12 endpoints."""
    within = {100: 0, 200: 0, 1000: 0}
    for seed in range(12):
        made, rng = margins(), random.Random(seed)
        for at in range(1000):
            predicted_log, came_log = sequence(rng.gauss(0.0, 1.0), at)
            before = told(made, decision._replace(e2e_ms=1000.0 * math.exp(predicted_log)))
            e2e_ms = 1000.0 * math.exp(came_log)
            made.learn(before, math.nan, e2e_ms, math.nan)
            for first in within:
                within[first] += at < first and e2e_ms <= before.told.e2e_ms
    shares = {first: count / (12 * first) for first, count in within.items()}
    assert 0.88 <= shares[100] <= 0.985, shares
    assert 0.92 <= shares[200] <= 0.97, shares
    assert shares[1000] == pytest.approx(0.95, abs=0.01), shares


def test_a_pace_that_is_told_eight_times_too_large_is_so_for_some_fifty_outcomes(decision):
    made, rng = margins(), random.Random(1)
    for _ in range(50):
        pace_ms = 10.0 / 8.0 * math.exp(0.2 * rng.gauss(0.0, 1.0))
        made.learn(told(made, decision), 100.0, 100.0 + 31.0 * pace_ms, 32.0)
    assert made.told(decision, waits=False).tpot_ms < 2.0 * 10.0 / 8.0


class Twin:
    """The obvious way, of one figure: all of it anew from what came so far."""

    def __init__(self, z):
        self.z, self.miss, self.log, self.shift = z, 1.0 - NormalDist().cdf(z), 0.0, 0.0
        self.middle, self.spread, self.seen = -0.5 * z, {True: 0.5, False: 0.5}, 0

    def learn(self, ratio_log):
        weight = max(1.0 / (9.0 + self.seen), 0.05)
        self.seen += 1
        missed = ratio_log > self.log
        if not (missed and self.log == MOST) and not (not missed and self.log == LEAST):
            self.shift += 0.2 * ((1.0 if missed else 0.0) - self.miss)
        off = min(max(ratio_log, LEAST), MOST) - self.middle
        off = max(min(off, 4.0 * self.spread[True]), -4.0 * self.spread[False])
        for side in (True, False):
            of_side = off if (off > 0.0) == side else 0.0
            variance = (1.0 - weight) * (self.spread[side] ** 2 + 2.0 * weight * of_side**2)
            self.spread[side] = min(max(variance**0.5, 0.05), 1.0)
        self.middle += weight * off
        deviate = self.z + self.shift
        aim = self.middle + deviate * self.spread[deviate > 0.0]
        aim = min(max(aim, LEAST), MOST)
        self.log = min(max(aim, self.log - MOST_STEP), self.log + MOST_STEP)


@given(
    st.lists(st.floats(-8.0, 8.0) | st.floats(-0.3, 0.3), max_size=120),
    st.sampled_from([0.05, 0.5, 0.8, 0.95, 0.99]),
)
@settings(deadline=None, max_examples=examples(60))
def test_it_is_what_its_obvious_twin_says_and_no_outcome_moves_it_far(ratio_logs, quantile):
    decided = a_decision()
    made, twin = margins(z_of(quantile), z_of(quantile)), Twin(z_of(quantile))
    for ratio_log in ratio_logs:
        before = told(made, decided)
        # Which side of it, where it is as was told, is a matter of rounding.
        assume(abs(ratio_log - twin.log) > 1e-9)
        made.learn(before, math.nan, 1000.0 * math.exp(ratio_log), math.nan)
        twin.learn(ratio_log)
        after = made.told(decided, waits=False)
        assert after.e2e_ms == pytest.approx(1000.0 * math.exp(twin.log), rel=1e-6)
        assert abs(math.log(after.e2e_ms / before.told.e2e_ms)) <= MOST_STEP + 1e-9
        # What it knows can be kept, whatever came.
        other = margins(z_of(quantile), z_of(quantile))
        for one in made.learned("a", "k"):
            assert other.can_restore(one)


def test_of_n_outcomes_no_more_are_missed_than_the_quantile_says_however_they_come(decision):
    """In blocks, as no two of them are independent: the bound is of arithmetic, not of chance."""
    made, missed, n, shifts = margins(), 0, 3000, [0.0]
    for at in range(n):
        before = told(made, decision)
        e2e_ms = 3000.0 if at // 50 % 3 == 0 else 600.0
        missed += e2e_ms > before.told.e2e_ms
        made.learn(before, math.nan, e2e_ms, math.nan)
        (learned,) = made.learned("a", "k")
        shifts.append(learned.logs[-2])
    assert abs(missed / n - 0.05) <= (max(shifts) - min(shifts) + STEP) / (STEP * n) < 0.03


@pytest.mark.parametrize(("told_log", "counts"), [(math.log(2.0), True), (MOST, False)])
def test_a_miss_counts_unless_as_much_as_can_be_was_told_of_it(told_log, counts):
    """Whatever is told by now: many are under way that were told less."""
    margin = Margin(Z95, MOST)
    margin.learn(math.log(20.0), told_log, True, 0.05)
    assert (margin.shift > 0.0) is counts


def test_an_outage_is_forgotten(decision):
    """Answers that take longer than anything that is told, and then as long as before."""
    made = margins()
    for came_ms in [1000.0] * 100 + [100_000.0] * 100:
        made.learn(told(made, decision), math.nan, came_ms, math.nan)
    assert told(made, decision).told.e2e_ms == pytest.approx(1000.0 * math.exp(MOST))
    for _ in range(100):
        made.learn(told(made, decision), math.nan, 1000.0, math.nan)
    assert told(made, decision).told.e2e_ms < 2000.0


def test_who_waits_for_a_place_and_who_does_not_are_told_apart(decision):
    made = margins()
    for _ in range(50):
        made.learn(told(made, decision, True), 1e6, 1e7, 100.0)
    assert made.told(decision, waits=True).ttft_ms > 200.0
    assert made.told(decision, waits=False).ttft_ms == 100.0


@pytest.mark.parametrize("actual", [math.nan, math.inf, -1.0])
def test_what_is_not_known_teaches_nothing(decision, actual):
    made = margins()
    before = told(made, decision)
    made.learn(before, actual, actual, actual)
    assert told(made, decision) == before


def test_a_short_answer_is_held_to_the_pace_of_31_gaps(decision):
    """Two tokens 50 ms apart are no pace of 50 ms."""
    made = margins()
    before = told(made, decision)
    made.learn(before, 100.0, 150.0, 2.0)
    assert told(made, decision).told.tpot_ms < before.told.tpot_ms


def test_another_quantile_begins_anew_and_the_same_goes_on(decision):
    made = margins()
    for _ in range(50):
        made.learn(told(made, decision), 1e6, 1e7, 100.0)
    learned = made.told(decision, waits=False)
    made.aim(Z95, Z95)
    assert made.told(decision, waits=False) == learned
    made.aim(z_of(0.8), z_of(0.8))
    assert made.told(decision, waits=False).ttft_ms == 100.0
