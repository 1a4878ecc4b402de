"""Variant and place are one choice: against choosing the best of each variant, one by one."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.budget_rulings import Ruling
from router.core.lengths import Expected
from router.core.pipeline import decide
from router.errors import (
    BudgetImpossibleError,
    InvalidMetadataError,
    NothingFeasibleError,
    UnknownModelError,
)
from router.model import UNBURDENED, Alias, Budget, OtherVariant, QualityFloors, Variant
from tests.examples import examples
from tests.factories import (
    NOW,
    Dice,
    board,
    endpoint,
    fleet,
    forecast,
    policy,
    request,
    served,
    snapshot,
    token_profile,
)

NAMES = ("small", "middle", "large")
QUALITIES = (0.4, 0.6, 0.8)
SIZES = (1.0, 4.0, 10.0)
EXPECTED = Expected(100.0, 200.0, 400.0)
CHAT = Alias("chat", tuple(map(Variant, NAMES, QUALITIES)), "made up")


def model(place, speed=1.0):
    size = SIZES[place]
    profile = token_profile(
        f"{NAMES[place]}@test", base_w=300.0 * size, tpot_base_ms=5.0 * size * speed
    )
    return served(profile, NAMES[place], context_tokens=1e5)


def chat_fleet(*endpoints):
    return replace(fleet(*endpoints), aliases={"chat": CHAT})


def decided(a_snapshot, a_board, u=0.5, judge=None, tried=(), **asked):
    found = decide(
        request(model="chat", **asked), a_snapshot, a_board, EXPECTED, NOW, Dice(u), tried=tried,
        judge=judge,
    )  # fmt: skip
    return found.decision


def three(**carbon):
    ends = [
        endpoint("west-small", "west", model(0)),
        endpoint("west-large", "west", model(2)),
        endpoint("east-all", "east", *(model(place) for place in range(3))),
    ]
    carbon = {f"grid-{name}": forecast(f"grid-{name}", g) for name, g in carbon.items()}
    a_snapshot = snapshot(chat_fleet(*ends), policy(), carbon or None)
    return a_snapshot, board(a_snapshot)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.floats(0.5, 2.0)),
        min_size=1,
        max_size=8,
    ),
    st.tuples(*[st.floats(50.0, 700.0)] * 3),
    st.sampled_from([0.0, 0.4, 0.5, 0.8]),
    st.sampled_from([math.inf, 4_000.0, 1_500.0]),
    st.sets(st.integers(0, 7), max_size=3),
)
def test_one_pass_chooses_what_variant_after_variant_would(ends, carbon, floor, e2e_ms, busy):
    endpoints = [
        endpoint(f"{place}-{region}", f"region-{region}", model(size, speed))
        for place, (size, region, speed) in enumerate(ends)
    ]
    zones = {one.grid_zone for one in fleet(*endpoints).regions.values()}
    known = {zone: forecast(zone, g) for zone, g in zip(sorted(zones), carbon, strict=False)}
    greedy = policy(near_tie=0.0, scarcity=0.0, ladder=())
    a_snapshot = snapshot(chat_fleet(*endpoints), greedy, known)
    a_board = board(a_snapshot)
    for place in busy:
        if place < len(endpoints):
            for _ in range(3):
                a_board.seats[endpoints[place].name].take(UNBURDENED, NOW)
    budget = Budget(e2e_ms=e2e_ms)
    best = None
    for variant in CHAT.variants:
        if variant.quality < floor or variant.model not in {NAMES[size] for size, *_ in ends}:
            continue
        asked = request(model=variant.model, budget=budget)
        try:
            one = decide(asked, a_snapshot, a_board, EXPECTED, NOW, Dice(0.5)).decision
        except BudgetImpossibleError:
            continue
        if best is None or one.gco2e < best.gco2e:
            best = one
    try:
        found = decided(a_snapshot, a_board, quality_floor=floor, budget=budget)
    except (BudgetImpossibleError, NothingFeasibleError):
        assert best is None
        return
    assert best is not None
    assert found.gco2e == best.gco2e
    assert (found.endpoint.name, found.served.name) == (best.endpoint.name, best.served.name)
    assert found.variant.model == found.served.name
    assert found.variant.quality >= floor


def test_without_a_floor_the_least_grams_win_and_a_floor_holds():
    seen = [decided(*three(), quality_floor=floor).served.name for floor in (0.0, 0.41, 0.61)]
    assert seen == ["small", "middle", "large"]
    assert decided(*three(), agreed_floor=0.8).served.name == "large"
    # The higher of both.
    assert decided(*three(), agreed_floor=0.5, quality_floor=0.8).variant.floor == 0.8


def test_a_latency_budget_holds_for_each_variant():
    with pytest.raises(BudgetImpossibleError, match="'chat'"):
        decided(*three(), quality_floor=0.8, budget=Budget(tpot_ms=20.0))
    assert decided(*three(), budget=Budget(tpot_ms=20.0)).served.name == "small"


def test_what_the_others_would_have_cost_is_told_of_all_of_them():
    a_snapshot, a_board = three(west=100.0, east=500.0)
    chosen = decided(a_snapshot, a_board, quality_floor=0.8).variant
    assert (chosen.alias, chosen.model, chosen.quality) == ("chat", "large", 0.8)
    small, middle = chosen.others
    assert (small.model, small.place.endpoint.name) == ("small", "west-small")
    # The cleanest place of the middle one is the only one that it has.
    assert (middle.model, middle.place.endpoint.name) == ("middle", "east-all")
    assert middle.place.g_per_kwh == 500.0


def test_one_that_is_nowhere_has_no_place():
    a_snapshot = snapshot(chat_fleet(endpoint("a", "west", model(0))))
    found = decided(a_snapshot, board(a_snapshot))
    assert [one.place for one in found.variant.others] == [None, None]
    assert found.variant.others[0] == OtherVariant("middle", 0.6, None)


def test_a_floor_that_nobody_reaches_is_the_callers_error_and_one_nobody_serves_yet_is_not():
    a_snapshot = snapshot(chat_fleet(endpoint("a", "west", model(0))))
    with pytest.raises(InvalidMetadataError, match=r"the best, 'large', has 0\.8"):
        decided(a_snapshot, board(a_snapshot), quality_floor=0.81)
    with pytest.raises(NothingFeasibleError, match="found so far"):
        decided(a_snapshot, board(a_snapshot), quality_floor=0.6)


def test_an_alias_has_no_versions():
    with pytest.raises(UnknownModelError, match="has variants, and no versions"):
        decided(*three(), version="1")


def test_an_endpoint_that_failed_is_out_with_all_its_variants():
    found = decided(*three(), tried=("east-all",), quality_floor=0.6)
    assert found.endpoint.name == "west-large"


def test_a_model_by_its_own_name_is_nobodys_variant():
    a_snapshot, a_board = three()
    found = decide(request(model="large"), a_snapshot, a_board, EXPECTED, NOW, Dice(0.5)).decision
    assert found.variant is None


@pytest.mark.parametrize(
    ("any_quality", "own", "then"),
    [(True, 0.0, "small"), (True, 0.5, "middle"), (True, 0.8, "large"), (False, 0.0, "large")],
)
def test_a_spent_budget_lets_the_operators_floor_give_way_and_never_the_callers(
    any_quality, own, then
):
    def judge(decision):
        return Ruling((), 1, None, True, ("carbon_budget_exhausted",), any_quality)

    found = decided(*three(), judge=judge, quality_floor=own, agreed_floor=0.8)
    assert found.served.name == then
    assert ("quality_floor_dropped" in found.flags) == (then != "large")
    assert "greenest_only" in found.flags


def test_floors_are_those_of_a_tenant_where_it_has_any():
    alias = replace(CHAT, floors=QualityFloors(0.5), tenants={"acme": QualityFloors(0.8, 0.9)})
    assert alias.floors_of("acme") == (0.8, 0.9)
    assert alias.floors_of("other") == (0.5, 0.0)
