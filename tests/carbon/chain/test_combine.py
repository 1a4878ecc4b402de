from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.chain.combine import EVIDENCE, LEADS_H, Combiner, restorable_skills
from router.core.learned import SkillLearned
from router.errors import MixedBasisError
from router.model import Basis, Factors, Intensity, Kind, Signal

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HOUR = 3600.0
T0 = 1_652_486_400.0


def truth(hour: float) -> float:
    return 300.0 + 100.0 * math.sin(hour / 4.0)


def said(g: float, source: str, at: float, signal: Signal = SIGNAL) -> Intensity:
    g = max(g, 1.0)
    low, high = g * 0.5, g * 1.5
    return Intensity(g, low, high, signal, Kind.FORECAST, source, at, at + 6 * HOUR)


class World:
    """A provider and an own forecast with given errors, hour by hour."""

    def __init__(self, provider_g: float, own_g: float, horizon_h: int = 24, seed: int = 1) -> None:
        self.combiner = Combiner()
        self.rng = random.Random(seed)
        self.provider_g, self.own_g, self.horizon_h = provider_g, own_g, horizon_h
        self.hour = 0
        self.truth: Callable[[float], float] = truth

    def forecasts(self) -> tuple[list[Intensity | None], list[Intensity | None]]:
        start = T0 + self.hour * HOUR
        provider: list[Intensity | None] = []
        own: list[Intensity | None] = []
        for ahead in range(96):
            real = self.truth(self.hour + ahead)
            if ahead < self.horizon_h:
                g = real + self.rng.gauss(0.0, self.provider_g)
                provider.append(said(g, "provider", start))
            own.append(said(real + self.rng.gauss(0.0, self.own_g), "nowcast", start - HOUR))
        return provider, own

    def step(self) -> list[Intensity | None]:
        """An hour passes; what is combined in it."""
        start = T0 + self.hour * HOUR
        provider, own = self.forecasts()
        for hour in self.combiner.awaiting("Z", start):
            assert hour + HOUR <= start
            self.combiner.score("Z", hour, self.truth((hour - T0) / HOUR))
        self.combiner.issue("Z", provider, own, start, start)
        combined = self.combiner.combine("Z", provider, own, start)
        self.hour += 1
        return combined


def errors(world: World, hours: int, ahead: int) -> tuple[float, float]:
    """Mean absolute error of the combination, and how much of it lay inside the band."""
    missed, inside = 0.0, 0
    for _ in range(hours):
        slot = world.step()[ahead]
        assert slot is not None
        real = world.truth(world.hour - 1 + ahead)
        missed += abs(slot.g_per_kwh - real)
        inside += slot.low_g_per_kwh <= real <= slot.high_g_per_kwh
    return missed / hours, inside / hours


def test_the_provider_stands_alone_until_there_is_evidence() -> None:
    world = World(20.0, 5.0)
    for hour in range(EVIDENCE + 1):
        slot = world.step()[0]
        assert slot is not None
        assert (slot.source == "provider") == (hour < EVIDENCE)


def test_beyond_its_horizon_the_own_forecast_stands() -> None:
    world = World(5.0, 20.0, horizon_h=24)
    for _ in range(80):
        combined = world.step()
    sources = [slot.source if slot else "" for slot in combined]
    assert all(source.startswith("provider+own (") for source in sources[:24])
    assert set(sources[24:]) == {"nowcast"}


@pytest.mark.parametrize(("provider_g", "own_g"), [(20.0, 5.0), (5.0, 20.0), (12.0, 12.0)])
@pytest.mark.parametrize("ahead", [0, 23])
def test_it_beats_both_or_nearly_the_better_one(
    provider_g: float, own_g: float, ahead: int
) -> None:
    world = World(provider_g, own_g)
    errors(world, 300, ahead)
    missed, inside = errors(world, 400, ahead)
    better = min(provider_g, own_g) * math.sqrt(2.0 / math.pi)
    assert missed <= 1.05 * better
    assert 0.88 <= inside <= 0.98
    if provider_g == own_g:
        assert missed <= 0.8 * better


def test_the_weights_are_told_and_follow_what_happens() -> None:
    world = World(5.0, 20.0)
    for _ in range(200):
        slot = world.step()[0]
    assert slot is not None and slot.source == "provider+own (1.0/0.0)"
    assert (slot.kind, slot.signal) == (Kind.FORECAST, SIGNAL)
    # As old as the older of the two, and stale with the first.
    assert (slot.observed_at, slot.expires_at) == (T0 + 198 * HOUR, T0 + 204 * HOUR)
    world.provider_g = 60.0
    for _ in range(200):
        slot = world.step()[0]
    skill = world.combiner.skill("Z", 1)
    assert slot is not None and skill.weight < 0.1
    assert slot.source == f"provider+own ({skill.weight:.1f}/{1.0 - skill.weight:.1f})"
    assert skill.mixed_g < skill.published_g


def test_a_stale_own_forecast_has_no_say() -> None:
    world = World(20.0, 5.0)
    for _ in range(60):
        world.step()
    provider, own = world.forecasts()
    late = T0 + world.hour * HOUR + 5.5 * HOUR
    fresh = [slot and said(slot.g_per_kwh, "provider", late) for slot in provider]
    combined = world.combiner.combine("Z", fresh, own, late)
    assert {slot.source for slot in combined[:24] if slot} == {"provider"}


def test_blanks_are_filled_by_whoever_knows() -> None:
    combiner = Combiner()
    one, other = said(100.0, "provider", T0), said(200.0, "nowcast", T0)
    assert combiner.combine("Z", [None, one, None], [other, None], T0) == [other, one, None]


def test_what_will_be_cannot_change_what_is_said() -> None:
    honest, poisoned = World(10.0, 10.0), World(10.0, 10.0)
    for world in (honest, poisoned):
        for _ in range(150):
            world.step()
    # An hour that nobody has forecast yet, and one that no forecast reaches.
    poisoned.combiner.score("Z", T0 + 150 * HOUR + 30 * HOUR, 1e6)
    poisoned.combiner.score("Z", T0 + 500 * HOUR, 1e6)
    assert poisoned.step() == honest.step()


def test_it_is_scored_once_and_bounded_even_if_nobody_observes() -> None:
    world = World(10.0, 10.0, horizon_h=96)
    for hour in range(400):
        provider, own = world.forecasts()
        start = T0 + hour * HOUR
        for _ in range(3):
            world.combiner.issue("Z", provider, own, start, start)
            world.combiner.awaiting("Z", start)
        world.hour += 1
    kept = world.combiner._zones["Z"].said
    assert len(kept) <= sum(LEADS_H) + 48 * len(LEADS_H)
    start = T0 + 398 * HOUR
    world.combiner.score("Z", start, 100.0)
    world.combiner.score("Z", start, 900.0)
    assert world.combiner.skill("Z", 1).seen == 1
    assert world.combiner.skill("elsewhere", 1).weight == 1.0


def test_signals_do_not_mix() -> None:
    marginal = said(100.0, "provider", T0, Signal(Basis.MARGINAL, Factors.NONE))
    with pytest.raises(MixedBasisError):
        Combiner().combine("Z", [marginal], [said(9.0, "nowcast", T0)], T0)


@given(
    st.lists(st.tuples(*[st.floats(0.0, 2000.0)] * 3), min_size=EVIDENCE, max_size=60),
    st.floats(1.0, 2000.0),
    st.floats(1.0, 2000.0),
)
def test_the_value_lies_between_the_two_inside_its_band(
    past: list[tuple[float, float, float]], theirs_g: float, ours_g: float
) -> None:
    combiner = Combiner()
    for hour, (theirs, ours, real) in enumerate(past):
        start = T0 + hour * HOUR
        pair = ([said(theirs, "provider", start)], [said(ours, "nowcast", start)])
        combiner.issue("Z", *pair, start, start)
        combiner.score("Z", start, real)
    now = T0 + len(past) * HOUR
    pair = ([said(theirs_g, "provider", now)], [said(ours_g, "nowcast", now)])
    (slot,) = combiner.combine("Z", *pair, now)
    assert slot is not None
    assert min(theirs_g, ours_g) - 1e-6 <= slot.g_per_kwh <= max(theirs_g, ours_g) + 1e-6
    assert 0.0 <= slot.low_g_per_kwh <= slot.g_per_kwh <= slot.high_g_per_kwh


def test_what_was_met_outlives_the_process() -> None:
    world = World(40.0, 4.0)
    errors(world, 60, 1)
    learned = world.combiner.learned("average/lifecycle")
    assert restorable_skills(learned, "average/lifecycle", ["Z"]) == learned
    again = Combiner()
    again.restore(learned)
    assert again.skill("Z", 1) == world.combiner.skill("Z", 1)
    provider, own = world.forecasts()
    now = T0 + world.hour * HOUR
    assert again.combine("Z", provider, own, now) == world.combiner.combine("Z", provider, own, now)
    # What was met here since is not given up for less.
    again.restore([SkillLearned("average/lifecycle", "Z", 7 * ((1, 0.0, 9.0, 9.0),))])
    assert again.learned("average/lifecycle") == learned
    assert Combiner().learned("average/lifecycle") == ()


@pytest.mark.parametrize(
    "lie",
    [
        SkillLearned("marginal/none", "Z", 7 * ((1, 1.0, 1.0, 1.0),)),
        SkillLearned("average/lifecycle", "Y", 7 * ((1, 1.0, 1.0, 1.0),)),
        SkillLearned("average/lifecycle", "Z", 6 * ((1, 1.0, 1.0, 1.0),)),
        SkillLearned("average/lifecycle", "Z", 7 * ((-1, 1.0, 1.0, 1.0),)),
        SkillLearned("average/lifecycle", "Z", 7 * ((2**60, 1.0, 1.0, 1.0),)),
        SkillLearned("average/lifecycle", "Z", 7 * ((1, math.nan, 1.0, 1.0),)),
        SkillLearned("average/lifecycle", "Z", 7 * ((1, 1.0, -1.0, 1.0),)),
        SkillLearned("average/lifecycle", "Z", 7 * ((1, 1.0, 1.0, 1e9),)),
    ],
)
def test_skills_that_cannot_be_are_left_out(lie: SkillLearned) -> None:
    assert restorable_skills([lie], "average/lifecycle", ["Z"]) == ()


def test_hours_that_were_met_are_told_and_their_mean_error_is_the_skills() -> None:
    combiner = Combiner()
    for hour in range(30):
        start = T0 + hour * HOUR
        for waiting in combiner.awaiting("SE", start):
            combiner.score("SE", waiting, truth(waiting / HOUR))
        slots = [said(truth(start / HOUR + ahead) + 20.0, "provider", start) for ahead in range(24)]
        own = [said(truth(start / HOUR + ahead) - 5.0, "own", start) for ahead in range(24)]
        combiner.issue("SE", slots, own, start, start)
    met = combiner.met("SE")
    assert set(met) == set(LEADS_H) and len(met[1]) == 24 and len(met[24]) == 6
    assert [one.start for one in met[24]] == [T0 + hour * HOUR for hour in range(23, 29)]
    # Of all that were met, where there are no more than are kept.
    skill = combiner.skill("SE", 24)
    for name, error in (("published", skill.published_g), ("own", skill.own_g)):
        each = [abs(getattr(one, name) - one.observed) for one in met[24]]
        assert sum(each) / len(each) == pytest.approx(error)
    assert combiner.met("nowhere") == {lead: () for lead in LEADS_H}
