"""The throttle bounds the lines, and no line is lost without being counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.throttle import LineThrottle


def test_first_line_passes_and_repeats_wait_for_the_interval() -> None:
    throttle = LineThrottle(interval_s=10.0)
    kind = ("failed", "upstream_fault")
    assert throttle.admit(kind, 0.0) == 0
    assert [throttle.admit(kind, 0.1 * n) for n in range(1, 100)] == [None] * 99
    assert throttle.admit(kind, 10.0) == 99
    assert throttle.admit(kind, 20.5) == 0


def test_kinds_do_not_hold_each_other_back() -> None:
    throttle = LineThrottle()
    assert throttle.admit(("a",), 0.0) == 0
    assert throttle.admit(("b",), 0.0) == 0
    assert throttle.admit(("a",), 0.0) is None


def test_lines_that_all_look_new_are_bounded_too() -> None:
    throttle = LineThrottle(burst=10.0, per_s=2.0)
    passed = [throttle.admit((str(n),), 0.0) for n in range(1000)]
    assert len([line for line in passed if line is not None]) == 10
    later = [throttle.admit((f"later {n}",), 3.0) for n in range(1000)]
    assert len([line for line in later if line is not None]) == 6
    assert throttle.pending() == 990 + 994
    assert throttle.pending() == 0


events = st.lists(
    st.tuples(st.integers(0, 12).map(str), st.sampled_from([0.0, 0.01, 0.5, 3.0])), max_size=200
)


@given(events, st.integers(1, 5), st.floats(1, 6))
def test_every_line_passes_or_is_counted_exactly_once(
    history: list[tuple[str, float]], max_kinds: int, burst: float
) -> None:
    throttle = LineThrottle(interval_s=1.0, burst=burst, per_s=1.0, max_kinds=max_kinds)
    now, passed, accounted = 0.0, 0, 0
    for kind, waited_s in history:
        now += waited_s
        suppressed = throttle.admit((kind,), now)
        if suppressed is not None:
            passed += 1
            accounted += suppressed
    assert passed + accounted + throttle.pending() == len(history)
    assert passed <= burst + now + 1
    assert len(throttle._kinds) <= max_kinds
