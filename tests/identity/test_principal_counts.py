"""Buckets, what is asked of late, and parts that grow and shrink."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.identity.principal import PrincipalLimits
from router.identity.principal_counts import (
    ForgettingSum,
    LimitPart,
    PrincipalCounts,
    TokenBucket,
)


class SlowBucket:
    """The same by keeping every take and adding up from the start."""

    def __init__(self, per_s, burst):
        self.per_s, self.burst = per_s, burst
        self.events = []

    def held(self, now):
        held, at = self.burst, self.events[0][0] if self.events else now
        for when, amount in self.events:
            held = min(self.burst, held + (when - at) * self.per_s) - amount
            at = when
        return min(self.burst, held + (now - at) * self.per_s)

    def take(self, amount, now):
        if self.held(now) < min(amount, self.burst) - 1e-6:
            return False
        self.events.append((now, amount))
        return True


STEPS = st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.01, 8.0)), max_size=30)


@settings(deadline=None)
@given(STEPS, st.floats(0.1, 5.0), st.floats(1.0, 6.0))
def test_a_bucket_gives_as_much_as_came_in(steps, per_s, burst):
    bucket, slow, now = TokenBucket(), SlowBucket(per_s, burst), 0.0
    for after, amount in steps:
        now += after
        close = abs(slow.held(now) - min(amount, burst)) < 1e-6
        wait_s = bucket.take(amount, per_s, burst, now)
        if close:
            # Which of the two it is depends on rounding; start over.
            return
        assert (wait_s == 0.0) == slow.take(amount, now)
        if wait_s > 0.0:
            assert slow.held(now + wait_s) == pytest.approx(min(amount, burst), abs=1e-6)


def test_what_is_asked_is_forgotten_in_seconds():
    asked = ForgettingSum()
    for tenth in range(200):
        asked.add(1.0, tenth / 10.0)
    assert asked.per_s(20.0) == pytest.approx(10.0, rel=0.05)
    assert asked.per_s(40.0) < 0.001


def counts(**limits):
    made = PrincipalCounts("a", PrincipalLimits(**limits), 0.0)
    made.adopt(LimitPart(0.5, 0.5, 4), 1, 0.0)
    return made


def test_a_bucket_that_shrinks_loses_what_is_beyond_it_and_grows_as_the_part_gains():
    made = counts(tokens_per_min=600.0)
    made.is_new = False
    assert made.tokens.take(100.0, made.tokens_per_min / 60.0, made.tokens_per_min, 0.0) == 0.0
    made.adopt(LimitPart(0.1, 0.1, 1), 2, 0.0)
    assert made.tokens_per_min == pytest.approx(60.0)
    made.adopt(LimitPart(), 3, 10.0)
    # Full at 60 all that while; from then on 10 a second.
    assert made.tokens.fill(10.0, 600.0, 20.0) == pytest.approx(160.0)


def test_a_part_that_is_added_while_nobody_else_uses_it_is_full():
    made = counts(tokens_per_min=600.0, requests_per_s=40.0)
    made.adopt(LimitPart(), 2, 0.0)
    assert made.is_new
    assert made.tokens.fill(10.0, 600.0, 0.0) == pytest.approx(600.0)
    assert made.requests.fill(40.0, 40.0, 0.0) == pytest.approx(40.0)
    made.adopt(LimitPart(0.5, 0.5, 4), 3, 0.0)
    made.adopt(LimitPart(), 4, 0.0)
    assert not made.is_new
    assert made.tokens.fill(10.0, 600.0, 0.0) == pytest.approx(300.0)


def test_demand_is_of_what_was_asked_at_most_the_limit_and_of_places_with_those_refused():
    made = counts(requests_per_s=1.0, max_concurrent=8)
    for _ in range(3):
        made.asked(1.0)
        made.refused_at_once()
    assert made.demand(1.0) == (1.0, 0.0, 3.0)
    assert made.demand(3.0)[2] == pytest.approx(3.0 * 0.3679, rel=1e-3)
    made.asked(3.0)
    # Others were told of those that were refused before.
    assert made.demand(3.0)[2] == pytest.approx(3.0 * 0.3679, rel=1e-3)


def test_who_owes_or_has_anything_under_way_is_in_use():
    made = counts(tokens_per_min=600.0)
    made.asked(0.0)
    made.tokens.take(100.0, 5.0, 300.0, 0.0)
    assert made.is_in_use(9.0)
    assert made.is_in_use(11.0)
    assert not made.is_in_use(21.0)
    made.at_once = 1
    assert made.is_in_use(21.0)
