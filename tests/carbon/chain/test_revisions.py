from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.chain.revisions import KEEP_S, Revisions
from router.errors import MixedBasisError
from router.model import Basis, Factors, Intensity, Kind, Signal

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HOUR = 3600.0
T0 = 1_652_486_400.0


def value(
    g: float, end: float, kind: Kind = Kind.MEASURED, source: str = "a", signal: Signal = SIGNAL
) -> Intensity:
    return Intensity(g, g - 1.0, g + 1.0, signal, kind, source, end, end + 2 * HOUR)


def filled(hours: int = 4, step_s: float = HOUR) -> Revisions:
    known = Revisions()
    for place in range(int(hours * HOUR / step_s)):
        known.take("Z", value(100.0 + place, T0 + (place + 1) * step_s), T0 + 9 * HOUR)
    return known


def test_a_revision_keeps_the_first_value_and_says_when() -> None:
    known = Revisions()
    end = T0 + HOUR
    assert known.take("Z", value(300.0, end, Kind.ESTIMATED), T0 + 2 * HOUR)
    assert not known.take("Z", value(300.0, end, Kind.ESTIMATED), T0 + 3 * HOUR)
    assert known.take("Z", value(280.0, end, Kind.ESTIMATED), T0 + 4 * HOUR)
    assert known.take("Z", value(270.0, end), T0 + 20 * HOUR)
    slot = known.slot("Z", end)
    assert slot is not None
    assert (slot.first.g_per_kwh, slot.first.kind) == (300.0, Kind.ESTIMATED)
    assert (slot.best.g_per_kwh, slot.best.kind) == (270.0, Kind.MEASURED)
    assert (slot.seen_at, slot.revised_at) == (T0 + 2 * HOUR, T0 + 20 * HOUR)
    hour = known.settled("Z", T0, end)
    assert hour is not None
    assert (hour.g_per_kwh, hour.first_g_per_kwh, hour.kind) == (270.0, 300.0, Kind.MEASURED)
    assert hour.revised_at == T0 + 20 * HOUR


@pytest.mark.parametrize(
    ("kind", "rank", "taken"),
    [
        (Kind.MEASURED, 2, True),
        (Kind.ESTIMATED, 0, True),
        (Kind.ESTIMATED, 1, False),
        (Kind.ESTIMATED, 2, False),
    ],
)
def test_another_source_must_know_better_or_stand_before(
    kind: Kind, rank: int, taken: bool
) -> None:
    known = Revisions()
    known.take("Z", value(300.0, T0, Kind.ESTIMATED), T0, rank=1)
    assert known.take("Z", value(200.0, T0, kind, "b"), T0 + HOUR, rank) == taken


def test_settling_weighs_by_time_and_tells_the_worst_kind() -> None:
    known = filled()
    known.take("Z", value(110.0, T0 + 2 * HOUR, Kind.ESTIMATED), T0 + 9 * HOUR)
    span = known.settled("Z", T0 + 0.5 * HOUR, T0 + 2 * HOUR)
    assert span is not None
    assert span.g_per_kwh == pytest.approx((100.0 * 0.5 + 110.0) / 1.5)
    assert span.low_g_per_kwh == pytest.approx(span.g_per_kwh - 1.0)
    assert (span.kind, span.sources) == (Kind.ESTIMATED, ("a",))


@pytest.mark.parametrize("step_s", [300.0, 900.0, 1800.0, 3600.0])
def test_finer_slots_settle_to_their_mean_and_a_missing_one_to_nothing(step_s: float) -> None:
    whole = filled(4, step_s).settled("Z", T0, T0 + 4 * HOUR)
    count = 4 * HOUR / step_s
    assert whole is not None and whole.g_per_kwh == pytest.approx(100.0 + (count - 1) / 2)
    holed = Revisions()
    for place in range(int(count)):
        if place != int(count) // 2:
            holed.take("Z", value(100.0, T0 + (place + 1) * step_s), T0 + 9 * HOUR)
    assert holed.settled("Z", T0, T0 + 4 * HOUR) is None
    assert holed.settled("Z", T0, T0 + HOUR) is not None


@pytest.mark.parametrize(
    ("start", "end"), [(-1.0, 1.0), (3.0, 4.5), (9.0, 10.0), (1.0, 1.0), (2.0, 1.0)]
)
def test_a_span_that_is_not_all_known_is_not_settled(start: float, end: float) -> None:
    assert filled().settled("Z", T0 + start * HOUR, T0 + end * HOUR) is None
    assert filled().settled("elsewhere", T0, T0 + HOUR) is None


def test_one_source_takes_over_from_another_within_a_span() -> None:
    known = filled(2)
    for half in (1, 2):
        end = T0 + 2 * HOUR + half * 1800.0
        known.take("Z", value(50.0, end, source="b"), T0 + 9 * HOUR, rank=1)
    span = known.settled("Z", T0 + HOUR, T0 + 3 * HOUR)
    assert span is not None
    assert (span.g_per_kwh, span.sources) == (pytest.approx(75.5), ("a", "b"))


def test_ten_days_are_kept_and_no_more_than_so_many_slots() -> None:
    known = Revisions(max_slots=100)
    for hour in range(500):
        known.take("Z", value(100.0, T0 + hour * HOUR), T0 + hour * HOUR)
    assert len(list(known.slots("Z"))) == 100
    newest = known.newest("Z")
    assert newest is not None and newest.observed_at == T0 + 499 * HOUR
    long = Revisions()
    for hour in range(500):
        long.take("Z", value(100.0, T0 + hour * HOUR), T0 + hour * HOUR)
    assert len(list(long.slots("Z"))) == 240
    assert not long.take("Z", value(1.0, T0), T0 + KEEP_S)


def test_signals_do_not_meet() -> None:
    marginal = Signal(Basis.MARGINAL, Factors.NONE)
    known = filled()
    with pytest.raises(MixedBasisError):
        known.take("Z", value(9.0, T0 + 9 * HOUR, signal=marginal), T0 + 9 * HOUR)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.floats(1.0, 900.0), st.sampled_from(["a", "b"]), st.booleans()
        ),
        max_size=30,
    )
)
def test_the_mean_lies_among_the_best_values_and_the_kind_is_the_worst(
    told: list[tuple[int, float, str, bool]],
) -> None:
    known = Revisions()
    for place, (hour, g, source, sure) in enumerate(told):
        kind = Kind.MEASURED if sure else Kind.ESTIMATED
        rank = "ab".index(source)
        known.take("Z", value(g, T0 + (hour + 1) * HOUR, kind, source), T0 + place, rank)
    slots = list(known.slots("Z"))
    span = known.settled("Z", T0, T0 + 6 * HOUR)
    assert (span is None) == (len(slots) < 6)
    if span is not None:
        best = [slot.best for slot in slots]
        assert span.g_per_kwh == pytest.approx(sum(v.g_per_kwh for v in best) / 6)
        assert span.kind == max((v.kind for v in best), key=list(Kind).index)
        assert span.low_g_per_kwh <= span.g_per_kwh <= span.high_g_per_kwh


def test_slots_of_a_time_that_has_not_come_can_be_dropped() -> None:
    known = filled(4)
    known.forget_after("Z", T0 + 2 * HOUR)
    assert [slot.best.observed_at for slot in known.slots("Z")] == [T0 + HOUR, T0 + 2 * HOUR]
    known.forget_after("elsewhere", T0)
