"""Buckets, what is asked of late, and parts that grow and shrink."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.identity.principal_counts import TokenBucket


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
