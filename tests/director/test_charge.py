"""Requests on carbon budgets: what is reserved, what is settled, and that nothing is left held."""

import asyncio
import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.settings import BudgetScope, CarbonBudget, CarbonBudgetSettings, OnExhausted
from router.core.carbon_budgets import CarbonBudgets
from router.core.day_account import Sharing
from router.core.emitted import UNKNOWN_G_PER_KWH
from router.errors import (
    CarbonBudgetError,
    CarbonBudgetHeldError,
    CarbonRouterError,
    UpstreamTimeoutError,
)
from router.model import UNBURDENED, Budget
from router.units import DAY_S
from tests.core.test_carbon_budgets import Told, budget
from tests.director.support import ANSWER, LEAVES, Room, Says, fails, leaf, report, three
from tests.factories import BOTH_RUNGS, LATENCY_FIRST, SIGNAL, forecasts, policy, request

AMPLE = 10**12


def room(*budgets, script=None, **options):
    """A director with these carbon budgets; all endpoints answer unless the script says else."""
    made = Room({**dict.fromkeys("abc", ANSWER), **(script or {})}, **options)
    made.told = Told()
    made.budgets = made.dispatcher.budgets = CarbonBudgets(
        CarbonBudgetSettings(budgets), SIGNAL, made.told
    )
    return made


def account(made, **changes):
    ruling = made.budgets.judge(request(**changes), 1, made.clock.now())
    return ruling.entries[0].account


def charged_g(made):
    return sum(made.told.grams.values())


async def test_an_answer_is_charged_what_its_receipt_says():
    made = room(budget(limit_ug=AMPLE))
    answer = await made.infer(tenant="acme")
    assert charged_g(made) == pytest.approx(answer.receipt.gco2e)
    held = account(made, tenant="acme")
    assert held.spent_ug == int(answer.receipt.gco2e * 1e6)
    assert held.reserved_ug == 0
    assert answer.receipt.carbon_budget == ("tenant", held.left_ug / AMPLE)


async def test_without_budgets_a_receipt_says_nothing_of_them():
    answer = await room().infer()
    assert answer.receipt.carbon_budget is None


async def test_while_it_runs_the_upper_side_of_it_is_reserved():
    made = room(budget(limit_ug=AMPLE), script={"a": Says(b"m", b"m", turns=50)})
    routed = made.stream()
    await anext(routed.__aiter__())
    held = account(made)
    assert held.reserved_ug > 0
    assert held.spent_ug == 0
    async for _ in routed:
        pass
    assert (held.reserved_ug, held.spent_ug > 0) == (0, True)


async def test_what_does_not_fit_is_refused_and_nobody_is_asked():
    made = room(budget(limit_ug=1))
    with pytest.raises(CarbonBudgetError) as caught:
        await made.infer()
    assert caught.value.retry_after_s == pytest.approx(DAY_S - made.clock.now() % DAY_S)
    assert made.backend.asked == []
    assert made.in_flight == {}
    assert made.told.outcomes == [("tenant", "refused")]
    with pytest.raises(CarbonBudgetError):
        made.director.decide(request())
    assert made.director.explain(request()).refusal_reason == "carbon_budget_exhausted"
    assert made.told.outcomes == [("tenant", "refused")]


async def test_what_others_hold_is_waited_for_a_moment():
    """A budget with room for one at a time serves one after the other, as a full fleet does."""
    made = room(
        budget(limit_ug=AMPLE), script={"a": Says(b"answer", turns=30)}, limits={"max_wait_s": 10.0}
    )
    routed = made.stream()
    await anext(routed.__aiter__())
    ask_ug = account(made).reserved_ug
    await routed.aclose()
    spent = account(made).spent_ug
    only = CarbonBudgetSettings((budget(limit_ug=spent + int(1.5 * ask_ug)),))
    made.budgets.adopt(only, SIGNAL)
    both = await asyncio.gather(made.infer(), made.infer())
    assert len(both) == 2
    assert account(made).reserved_ug == 0


async def test_what_others_hold_for_longer_is_refused_for_now():
    made = room(budget(limit_ug=AMPLE), script={"a": Says(b"m", b"m", turns=10_000)})
    routed = made.stream()
    started = asyncio.ensure_future(anext(routed.__aiter__()))
    await asyncio.sleep(0)
    held = account(made)
    made.budgets.adopt(CarbonBudgetSettings((budget(limit_ug=held.reserved_ug + 1),)), SIGNAL)
    with pytest.raises(CarbonBudgetHeldError):
        await made.infer()
    assert made.told.outcomes == [("tenant", "held")]
    started.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await started
    assert held.reserved_ug == 0


async def test_who_has_nothing_left_goes_where_it_emits_least():
    fast = policy(weights=LATENCY_FIRST, ladder=BOTH_RUNGS)
    made = room(
        budget(limit_ug=1, then="greenest_only"), the_policy=fast,
        carbon=forecasts(near=300, mid=200, far=100),
    )  # fmt: skip
    answer = await made.infer()
    assert answer.receipt.decision.endpoint.name == "c"
    assert answer.receipt.decision.flags == ("greenest_only", "carbon_budget_exhausted")
    assert answer.receipt.carbon_budget == ("tenant", 0.0)
    assert made.told.outcomes == [("tenant", "greenest")]
    # It is charged all the same, and stays green where it has to move.
    assert account(made).spent_ug > 1
    made.backend.script["c"] = [fails("lost")]
    answer = await made.infer()
    assert answer.receipt.decision.endpoint.name == "b"
    assert "greenest_only" in answer.receipt.decision.flags
    explained = made.director.explain(request())
    assert explained.weights.per_gco2e == 1.0
    assert explained.candidates[0].endpoint == explained.decision.endpoint.name


async def test_a_greened_request_may_take_as_long_as_the_rung_it_was_decided_on():
    fast = policy(weights=LATENCY_FIRST, budget=Budget(e2e_ms=4000.0), ladder=BOTH_RUNGS)
    made = room(budget(limit_ug=1, then="greenest_only"), the_policy=fast)
    await made.infer()
    assert made.backend.calls[0].timeout_s > 4.0


async def test_in_the_shadow_it_is_served_and_flagged():
    made = room(budget(limit_ug=1, shadow=True))
    answer = await made.infer()
    assert answer.receipt.decision.flags == ("carbon_budget_shadow",)
    assert made.told.outcomes == [("tenant", "shadow")]


async def test_attempts_that_failed_are_charged_too():
    quick = room(budget(limit_ug=AMPLE), script={"a": fails("lost", end_s=0.0)})
    slow = room(budget(limit_ug=AMPLE), script={"a": fails("lost", end_s=1.0)})
    found = []
    for made in (quick, slow):
        answer = await made.infer()
        assert answer.receipt.attempts == 2
        found.append(charged_g(made) - answer.receipt.gco2e)
        assert account(made).reserved_ug == 0
    assert found[0] == pytest.approx(0.0, abs=1e-9)
    assert found[1] > 1e-5


async def test_who_was_never_reached_emitted_nothing():
    made = room(budget(limit_ug=AMPLE), script={"a": fails("refused", end_s=3.0)})
    answer = await made.infer()
    assert charged_g(made) == pytest.approx(answer.receipt.gco2e)


async def test_a_request_that_fails_for_good_is_charged_what_it_took():
    made = room(budget(limit_ug=AMPLE), script=dict.fromkeys("abc", fails("timeout", end_s=2.0)))
    with pytest.raises(UpstreamTimeoutError):
        await made.infer(deadline_s=2.0)
    assert charged_g(made) > 1e-5
    assert made.told.grams.keys() == {("tenant", "estimated")}
    assert account(made).reserved_ug == 0


async def test_a_caller_who_goes_away_is_charged_what_it_took_by_then():
    made = room(budget(limit_ug=AMPLE), script={"a": Says(b"m", b"m", pauses_s=(1.0,), turns=9)})
    routed = made.stream()
    await anext(routed.__aiter__())
    await routed.aclose()
    held = account(made)
    assert held.reserved_ug == 0
    assert held.spent_ug > 10
    assert charged_g(made) == pytest.approx(held.spent_ug / 1e6, abs=1e-6)


async def test_grams_that_nobody_knows_are_charged_as_of_a_dirty_grid():
    made = room(budget(limit_ug=AMPLE), carbon={}, the_policy=policy(ladder=BOTH_RUNGS))
    answer = await made.infer()
    assert math.isnan(answer.receipt.gco2e)
    known = answer.receipt.facility_energy_j / 3.6e6 * UNKNOWN_G_PER_KWH
    assert charged_g(made) == pytest.approx(known)


async def test_joules_of_no_real_hardware_are_charged_as_such():
    made = room(budget(limit_ug=AMPLE), the_fleet=three(emulated=True))
    await made.infer()
    assert made.told.grams.keys() == {("tenant", "emulated")}


async def test_what_a_server_says_of_its_joules_is_what_counts():
    said = Says(b"answer", trailers=report(energy_j=30.0), end_s=0.5)
    made = room(budget(limit_ug=AMPLE), script={"a": said})
    answer = await made.infer()
    assert answer.receipt.energy_j == 30.0
    assert charged_g(made) == pytest.approx(answer.receipt.gco2e)


@st.composite
def behaviours(draw):
    end = draw(st.sampled_from([None, *LEAVES, "defect"]))
    error = ValueError("defect") if end == "defect" else leaf(end) if end else None
    if error is not None and draw(st.booleans()):
        return error
    messages = [b"m"] * draw(st.integers(0 if error else 1, 3))
    return Says(*messages, error=error, turns=draw(st.integers(0, 3)))


CALLERS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans(), st.integers(0, 25)), max_size=6
)
LIMITS = st.sampled_from([1, 300, 2000, AMPLE])
THEN = st.sampled_from(OnExhausted)


@settings(max_examples=200, deadline=None)
@given(st.lists(behaviours(), min_size=3, max_size=3), CALLERS, LIMITS, THEN, st.booleans())
def test_whatever_happens_nothing_is_left_reserved(upstreams, callers, limit_ug, then, shares):
    async def one(made, tenant, streams, cancelled_after):
        async def call():
            if streams:
                await made.collect(tenant=tenant)
            else:
                await made.infer(tenant=tenant)

        task = asyncio.ensure_future(call())
        for _ in range(cancelled_after):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(CarbonRouterError, ValueError, asyncio.CancelledError):
            await task

    async def play():
        script = {name: [one] for name, one in zip("abc", upstreams, strict=True)}
        held = CarbonBudget("t", BudgetScope.TENANT, limit_ug, {}, then, False)
        made = room(held, budget("all", "fleet", limit_ug, shadow=True), script=script)
        if shares:
            made.budgets.is_alone = False
            made.budgets.sharing = Sharing(True, 3)
        await asyncio.gather(*(one(made, *caller) for caller in callers))
        for held_account in made.budgets.accounts():
            assert held_account.reserved_ug == 0
            assert held_account.spent_ug >= 0
        assert made.in_flight == {}

    asyncio.run(play())


async def test_who_goes_away_while_a_next_endpoint_is_sought_holds_nothing():
    made = room(
        budget(limit_ug=AMPLE), script={"a": fails("fault", end_s=1.0)}, limits={"max_wait_s": 60.0}
    )
    full = [made.seat(name) for name in ("b", "c")]
    for seat in full:
        for _ in range(64):
            seat.take(UNBURDENED, made.clock.now())
    task = asyncio.ensure_future(made.infer())
    while not made.dispatcher.waiting._waiting:
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    held = account(made)
    assert held.reserved_ug == 0
    assert held.spent_ug > 0


async def test_a_request_that_moves_reserves_for_both():
    slow = Says(b"m", b"m", turns=50)
    made = room(budget(limit_ug=AMPLE), script={"a": fails("lost", end_s=2.0), "b": slow})
    routed = made.stream()
    await anext(routed.__aiter__())
    moved = account(made).reserved_ug
    await routed.aclose()
    alone = room(budget(limit_ug=AMPLE), script={"a": slow})
    routed = alone.stream()
    await anext(routed.__aiter__())
    assert moved > account(alone).reserved_ug
    await routed.aclose()
