"""An answer that is not accepted goes on to a better variant, and is never lost for that."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from router.config.settings import CarbonBudgetSettings
from router.core.carbon_budgets import CarbonBudgets
from router.director import Call, cascade
from router.errors import JudgeError, UpstreamFaultError
from router.model import Alias, Budget, RulesJudge, Variant
from tests.core.test_carbon_budgets import Told, budget
from tests.director.support import Room, Says, fails
from tests.factories import (
    PRIOR,
    SIGNAL,
    endpoint,
    fleet,
    forecasts,
    region,
    request,
    served,
    token_profile,
)

NAMES, QUALITIES = ("small", "middle", "large"), (0.4, 0.6, 0.8)
ANSWERS = {name: Says(name.encode(), end_s=0.4) for name in NAMES}
AMPLE = 10**12


class Strict:
    """A judge that accepts answers of these variants, and takes ``takes_s`` of the clock."""

    def __init__(self, *accepted, takes_s=0.0, error=None):
        self.accepted, self.takes_s, self.error = accepted, takes_s, error
        self.asked, self.timeouts, self.room = [], [], None
        self.gate = None

    async def accepts(self, judge, judged, timeout_s):
        self.asked.append(judged)
        self.timeouts.append(timeout_s)
        assert not self.room.in_flight, "a place is held while an answer is judged"
        self.room.clock.advance(self.takes_s)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return judged.variant in self.accepted


def variant(place):
    profile = token_profile(f"{NAMES[place]}@test", base_w=300.0 * (1 + 3 * place))
    return served(profile, NAMES[place], context_tokens=1e5)


def room(judge, *budgets, names=NAMES, script=None, lie_in=(), **options):
    """``lie_in``: the jurisdiction of each region."""
    ends = [endpoint(name, f"r-{name}", variant(NAMES.index(name))) for name in names]
    places = [region(f"r-{name}", (one,)) for name, one in zip(names, lie_in, strict=False)]
    judged = Alias(
        "chat", tuple(map(Variant, NAMES, QUALITIES)), "made up", judge=RulesJudge(("no",))
    )
    made = Room(
        {**ANSWERS, **(script or {})}, replace(
            fleet(*ends, regions=places, priors=dict.fromkeys((*NAMES, "chat"), PRIOR)),
            aliases={"chat": judged},
        ),
        carbon=forecasts(**{f"r-{name}": 100 for name in NAMES}), judge=judge, **options,
    )  # fmt: skip
    judge.room = made
    if budgets:
        made.told = Told()
        held = CarbonBudgets(CarbonBudgetSettings(budgets), SIGNAL, made.told)
        made.budgets = made.dispatcher.budgets = held
    return made


async def ask(made, among=None, room=None, most_waiting=1, **changes):
    call = Call(
        request(model="chat", **changes), b"ask", ((":path", "/v1/chat/completions?x"),), None,
        named=lambda payload, model: payload + b" " + model.encode(), among=among, room=room,
        most_waiting=most_waiting,
    )  # fmt: skip
    return await made.director.infer(call)


async def test_an_accepted_answer_is_the_small_ones_and_nobody_else_runs():
    judge = Strict("small")
    made = room(judge)
    answer = await ask(made)
    assert (answer.payload, made.backend.asked) == (b"small", ["small"])
    assert answer.receipt.decision.flags == ()
    (asked,) = judge.asked
    assert asked[:3] == ("chat", "small", "/v1/chat/completions")
    assert (asked.request, asked.answer) == (b"ask", b"small")
    assert made.watch.verdicts == [("chat", "accepted")]


async def test_one_that_is_not_goes_on_to_the_next_better_and_both_are_accounted_for():
    judge = Strict("middle", takes_s=0.3)
    made = room(judge, budget(limit_ug=AMPLE))
    answer = await ask(made, tenant="acme")
    made.dispatcher.digest()
    receipt = answer.receipt
    assert (answer.payload, made.backend.asked) == (b"middle", ["small", "middle"])
    assert [call.payload for call in made.backend.calls] == [b"ask small", b"ask middle"]
    assert receipt.decision.flags == ("escalated",)
    assert (receipt.decision.variant.model, receipt.attempts) == ("middle", 2)
    # The row of the first says what it emitted; the receipt names it apart from its own.
    assert made.ledger.told == [("moved", "not_accepted"), ("answered", "")]
    first = made.ledger.rows[0][2]
    assert first.decision_id == receipt.decision_id
    assert 0.0 < receipt.lost_gco2e == first.gco2e < receipt.gco2e
    charged_g = sum(made.told.grams.values())
    assert charged_g == pytest.approx(first.gco2e + receipt.gco2e)
    assert receipt.e2e_ms == pytest.approx(2 * 400.0 + 2 * 300.0)
    # One request, of which each of two servers taught what it took.
    assert len(made.watch.receipts) == 1
    assert made.watch.receipts[0][0] == receipt
    lessons = [made.seat(name).margins._lessons for name in ("small", "middle")]
    assert lessons == [[1, 0], [1, 0]]
    assert made.in_flight == {}


async def test_the_best_is_not_judged():
    judge = Strict()
    made = room(judge)
    answer = await ask(made)
    assert (answer.payload, len(judge.asked)) == (b"large", 2)
    assert answer.receipt.decision.flags == ("escalated",)
    judge.asked.clear()
    answer = await ask(made, quality_floor=0.8)
    assert (answer.payload, judge.asked) == (b"large", [])


async def test_where_nobody_can_say_the_answer_stands():
    judge = Strict(error=JudgeError("hm"))
    answer = await ask(room(judge))
    assert (answer.payload, answer.receipt.decision.flags) == (b"small", ("not_judged",))


@pytest.mark.parametrize("why", ["budget", "absent", "grams", "failed"])
async def test_an_answer_that_was_not_accepted_stands_where_no_better_one_is_to_be_had(why):
    judge = Strict(takes_s=5.0 if why == "budget" else 0.0)
    names = NAMES[:1] if why == "absent" else NAMES
    budgets = [budget(limit_ug=AMPLE)]
    if why == "grams":
        budgets = [budget(limit_ug=1, then="variant")]
    broken = {"middle": fails("fault"), "large": fails("fault")} if why == "failed" else {}
    made = room(judge, *budgets, names=names, script=broken)
    limit = Budget(e2e_ms=6000.0) if why == "budget" else Budget()
    if why == "grams":
        await ask(made, tenant="acme")
        judge.asked.clear()
        made.ledger.rows.clear()
    answer = await ask(made, tenant="acme", budget=limit)
    made.dispatcher.digest()
    assert answer.payload == b"small"
    assert "not_accepted" in answer.receipt.decision.flags
    assert "escalated" not in answer.receipt.decision.flags
    assert made.in_flight == {}
    told = made.ledger.told
    assert told[-1] == ("answered", "")
    if why == "failed":
        # Nor does it go round among them: one that failed is enough.
        assert told[:-1] == [("moved", UpstreamFaultError.reason)]
        assert made.ledger.rows[-1][2].attempts == 2
        assert answer.receipt.lost_gco2e == pytest.approx(made.ledger.rows[0][2].gco2e)
    else:
        assert len(told) == 1
    settled = sum(made.told.grams.values())
    assert settled >= answer.receipt.gco2e


class Filling:
    """Endpoints that have room for what can wait, look by look; each look moves the clock on."""

    def __init__(self, made, monkeypatch, *looks):
        self.clock, self.looks, self.waits = made.clock, list(looks), 0
        monkeypatch.setattr(cascade, "asyncio", SimpleNamespace(sleep=self.sleep))

    async def sleep(self, delay_s):
        self.waits += 1
        self.clock.advance(delay_s)

    def __call__(self):
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


SMALL_ONLY, ANY = frozenset({"small"}), frozenset(NAMES)


async def test_what_can_wait_waits_for_a_place_at_a_better_variant(monkeypatch):
    made = room(Strict("large"), names=("small", "large"))
    filling = Filling(made, monkeypatch, SMALL_ONLY, SMALL_ONLY, ANY)
    latest = made.clock.now() + 3600.0
    answer = await ask(made, SMALL_ONLY, filling, can_wait_until=latest)
    assert (answer.payload, filling.waits) == (b"large", 3)
    assert answer.receipt.decision.flags == ("escalated",)
    assert made.in_flight == {}


@pytest.mark.parametrize(("can_wait_s", "at_most"), [(3600.0, 600), (10.2, 20), (float("nan"), 0)])
async def test_it_waits_for_a_while_and_not_beyond_its_deadline(monkeypatch, can_wait_s, at_most):
    made = room(Strict("large"), names=("small", "large"))
    filling = Filling(made, monkeypatch, SMALL_ONLY)
    latest = made.clock.now() + can_wait_s
    answer = await ask(made, SMALL_ONLY, filling, can_wait_until=latest)
    assert (answer.payload, answer.receipt.decision.flags) == (b"small", ("not_accepted",))
    assert filling.waits <= at_most and (filling.waits > 0) is (at_most > 0)


async def test_it_does_not_wait_for_servers_that_are_out(monkeypatch):
    made = room(Strict("large"), names=("small",))
    filling = Filling(made, monkeypatch, SMALL_ONLY)
    answer = await ask(made, SMALL_ONLY, filling, can_wait_until=made.clock.now() + 3600.0)
    assert (answer.payload, filling.waits) == (b"small", 0)


async def test_it_does_not_wait_for_what_time_does_not_change(monkeypatch):
    """The better variant has room, in a region that the request may not go to."""
    made = room(Strict("large"), names=("small", "large"), lie_in=("EU", "US"))
    filling = Filling(made, monkeypatch, None)
    latest = made.clock.now() + 3600.0
    answer = await ask(made, None, filling, can_wait_until=latest, residency=frozenset({"EU"}))
    assert (answer.payload, filling.waits) == (b"small", 0)
    assert answer.receipt.decision.flags == ("not_accepted",)


async def test_a_clock_that_steps_back_does_not_prolong_the_wait(monkeypatch):
    made = room(Strict("large"), names=("small", "large"))
    filling = Filling(made, monkeypatch, SMALL_ONLY)
    latest = made.clock.now() + 3600.0

    def stepped():
        made.clock.wall -= 60.0
        assert filling.waits <= 600
        return SMALL_ONLY

    answer = await ask(made, SMALL_ONLY, stepped, can_wait_until=latest)
    assert (answer.payload, answer.receipt.decision.flags) == (b"small", ("not_accepted",))
    assert filling.waits > 0


async def test_no_more_wait_at_once_than_leave_places_to_others(monkeypatch):
    """Of three answers that are not accepted one waits for the better variant; two stand."""
    made = room(Strict("large"), names=("small", "large"))
    begun, filled = asyncio.Event(), asyncio.Event()

    async def sleep(delay_s):
        begun.set()
        await filled.wait()

    monkeypatch.setattr(cascade, "asyncio", SimpleNamespace(sleep=sleep))
    latest = made.clock.now() + 3600.0
    first = asyncio.ensure_future(ask(made, SMALL_ONLY, lambda: ANY, can_wait_until=latest))
    while not begun.is_set():
        await asyncio.sleep(0)
    for _ in range(2):
        answer = await ask(made, SMALL_ONLY, lambda: ANY, can_wait_until=latest)
        assert (answer.payload, answer.receipt.decision.flags) == (b"small", ("not_accepted",))
    assert not first.done()
    filled.set()
    assert (await first).payload == b"large"
    # Its own turn is over: the next one may wait.
    assert (await ask(made, SMALL_ONLY, lambda: ANY, can_wait_until=latest)).payload == b"large"


async def test_whoever_leaves_while_it_waits_is_charged_for_what_ran(monkeypatch):
    made = room(Strict("large"), budget(limit_ug=AMPLE), names=("small", "large"))
    monkeypatch.setattr(cascade, "_LOOK_S", 5.0)
    latest = made.clock.now() + 3600.0
    asked = ask(made, SMALL_ONLY, lambda: SMALL_ONLY, can_wait_until=latest, tenant="acme")
    task = asyncio.ensure_future(asked)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not task.done() and made.in_flight == {}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.ledger.told == [("cancelled", "cancelled")]
    assert sum(made.told.grams.values()) == pytest.approx(made.ledger.rows[0][2].gco2e)


async def test_no_answer_is_judged_longer_than_its_budget_has():
    judge = Strict("small")
    made = room(judge)
    await ask(made, budget=Budget(e2e_ms=5000.0))
    assert judge.timeouts == [pytest.approx(5.0 - 0.4)]
    made.backend.script["small"] = [Says(b"small", end_s=9.0)]
    answer = await ask(made, budget=Budget(e2e_ms=5000.0))
    assert answer.receipt.decision.flags == ("not_judged",)
    assert len(judge.asked) == 1


@pytest.mark.parametrize("when", ["judging", "second"])
async def test_a_caller_that_leaves_is_charged_for_what_ran(when):
    judge = Strict()
    made = room(judge, budget(limit_ug=AMPLE))
    if when == "judging":
        judge.gate = asyncio.Event()
    else:
        made.backend.script["middle"] = [Says(b"middle", turns=1000)]
    task = asyncio.ensure_future(ask(made, tenant="acme"))
    for _ in range(50):
        await asyncio.sleep(0)
    assert (made.in_flight == {}) is (when == "judging")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.in_flight == {}
    rows = [("moved", "not_accepted")] if when == "second" else []
    assert made.ledger.told == [*rows, ("cancelled", "cancelled")]
    charged_g = sum(made.told.grams.values())
    assert charged_g == pytest.approx(sum(row[2].gco2e for row in made.ledger.rows))
    ruling = made.budgets.judge(request(tenant="acme"), 1, made.clock.now())
    assert ruling.entries[0].account.reserved_ug == 0
