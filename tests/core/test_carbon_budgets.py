"""Which accounts a request falls under, what becomes of it, and what is remembered."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.settings import BudgetScope, CarbonBudget, CarbonBudgetSettings, OnExhausted
from router.core import carbon_budgets
from router.core.budget_rulings import EXHAUSTED, OTHERS, SHADOW
from router.core.carbon_budgets import CarbonBudgets, Spent
from router.core.day_account import Fit, Sharing, day_of
from router.errors import CarbonBudgetError, CarbonBudgetHeldError
from router.model import Basis, Factors, Signal
from router.units import DAY_S
from tests.factories import NOW, SIGNAL, request

TODAY = day_of(NOW)


def budget(name="tenant", per="tenant", limit_ug=1000, then="shed", **changes):
    values = {"limits_ug": {}, "shadow": False, **changes}
    return CarbonBudget(name, BudgetScope(per), limit_ug, on_exhausted=OnExhausted(then), **values)


class Told:
    def __init__(self):
        self.outcomes = []
        self.grams = {}

    def exceeded(self, name, outcome):
        self.outcomes.append((name, outcome))

    def settled(self, name, kind, spent_g):
        self.grams[name, kind] = self.grams.get((name, kind), 0.0) + spent_g


class Keeping:
    """Budgets, and a shorthand to send requests through them."""

    def __init__(self, *budgets, tenants=(), **options):
        self.told = Told()
        given_settings = CarbonBudgetSettings(budgets, frozenset(tenants))
        self.budgets = CarbonBudgets(given_settings, SIGNAL, self.told, **options)
        self.now = NOW

    def judge(self, ask_ug=100, **changes):
        return self.budgets.judge(request(**changes), ask_ug, self.now)

    def enter(self, ask_ug=100, **changes):
        ruling = self.judge(ask_ug, **changes)
        assert ruling.refusal is None
        return self.budgets.hold(ruling, self.now)

    def spend(self, ug, **changes):
        self.enter(ug, **changes).settle(ug / 1e6, "measured")

    def left(self, **changes):
        return min(entry.account.left_ug for entry in self.judge(**changes).entries)


def test_without_a_budget_nobody_has_a_say():
    assert Keeping().judge() is None
    assert Keeping(budget(limit_ug=None, limits_ug={"acme": 5})).judge(tenant="other") is None


def test_each_tenant_has_its_own_and_some_have_more():
    keeping = Keeping(budget(limits_ug={"acme": 5000}))
    keeping.spend(1000, tenant="a")
    assert isinstance(keeping.judge(1, tenant="a").refusal, CarbonBudgetError)
    assert keeping.judge(1000, tenant="b").refusal is None
    assert keeping.judge(1000, tenant="").refusal is None
    assert keeping.judge(5000, tenant="acme").refusal is None
    assert keeping.judge(5001, tenant="acme").refusal is not None


def test_models_and_the_fleet_add_up_over_tenants():
    keeping = Keeping(budget("model", "model", 300), budget("all", "fleet", 500))
    keeping.spend(200, tenant="a")
    keeping.spend(100, tenant="b")
    assert keeping.judge(1, tenant="c").refusal.budget == "model"
    keeping.spend(200, tenant="a", model="other")
    assert keeping.judge(1, tenant="c", model="other").refusal.budget == "all"


def test_who_is_refused_learns_what_is_left_and_when_the_day_ends():
    keeping = Keeping(budget(limit_ug=2_000_000))
    keeping.spend(1_500_000, tenant="acme")
    refusal = keeping.judge(600_000, tenant="acme").refusal
    assert refusal.retry_after_s == (TODAY + 1) * DAY_S - NOW
    assert str(refusal) == (
        "the carbon budget 'tenant' of tenant 'acme' has 0.5 g left of 2 for this UTC day, and "
        "this request may emit 0.6 g"
    )
    assert keeping.judge(500_000, tenant="acme").refusal is None


def test_in_a_replay_the_day_ends_sooner():
    keeping = Keeping(budget(), day_speed=60.0)
    assert keeping.judge(1001).refusal.retry_after_s == ((TODAY + 1) * DAY_S - NOW) / 60.0


def test_what_requests_under_way_hold_comes_back_soon():
    keeping = Keeping(budget())
    hold = keeping.enter(1000)
    refusal = keeping.judge(1).refusal
    assert isinstance(refusal, CarbonBudgetHeldError)
    assert refusal.retry_after_s == 1.0
    hold.settle(10e-6, "estimated")
    assert keeping.judge(990).refusal is None
    assert keeping.told.grams == {("tenant", "estimated"): 10e-6}


def test_what_is_spent_weighs_more_than_what_is_held():
    keeping = Keeping(budget("a", "fleet", 500), budget("b", "fleet", 1000))
    keeping.enter(500)
    assert isinstance(keeping.judge(501).refusal, CarbonBudgetError)


@pytest.mark.parametrize(
    ("then", "greenest", "outcome"),
    [("greenest_only", True, "greenest"), ("warn", False, "warned")],
)
def test_what_is_served_all_the_same_is_told(then, greenest, outcome):
    keeping = Keeping(budget(then=then))
    keeping.spend(1000)
    assert keeping.told.outcomes == []
    ruling = keeping.judge(100)
    assert (ruling.refusal, ruling.greenest, ruling.flags) == (None, greenest, (EXHAUSTED,))
    keeping.enter(100).settle(100e-6, "measured")
    assert keeping.told.outcomes == [("tenant", outcome)]
    assert keeping.left() == -100


@pytest.mark.parametrize(
    ("wait_s", "is_let_in"), [(None, False), (DAY_S, False), (0.0, False), (-1.0, True)]
)
def test_what_can_wait_waits_for_another_days_budget_or_runs_as_late_as_it_may(wait_s, is_let_in):
    """``wait_s``: beyond the end of the day; None: it does not wait."""
    keeping = Keeping(budget(then="defer"))
    keeping.spend(1000)
    changes = {} if wait_s is None else {"can_wait_until": (TODAY + 1) * DAY_S + wait_s}
    ruling = keeping.judge(100, **changes)
    assert ruling.flags == (EXHAUSTED,)
    assert ruling.greenest is (ruling.refusal is None) is is_let_in
    if is_let_in:
        keeping.enter(100, **changes).settle(100e-6, "measured")
        assert keeping.told.outcomes == [("tenant", "deferred")] and keeping.left() == -100
    else:
        assert ruling.refusal.waits


def test_what_defers_lets_nobody_past_another_budget_that_refuses():
    keeping = Keeping(budget("a", then="defer"), budget("b", "fleet", then="shed"))
    keeping.spend(1000)
    ruling = keeping.judge(100, can_wait_until=NOW + 1.0)
    assert ruling.refusal.budget == "b" and not ruling.refusal.waits
    held = Keeping(budget("a", then="defer"))
    held.enter(1000)
    assert isinstance(held.judge(100, can_wait_until=NOW + 1.0).refusal, CarbonBudgetHeldError)


def test_who_waits_for_others_is_served_where_nobody_is_refused():
    keeping = Keeping(budget(then="greenest_only"))
    keeping.enter(1000)
    assert keeping.judge(1) == (keeping.judge(1).entries, 1, None, False, (), False)


@pytest.mark.parametrize("then", ["shed", "greenest_only", "warn"])
def test_in_the_shadow_nothing_is_done_and_it_is_told(then):
    keeping = Keeping(budget(then=then, shadow=True))
    keeping.spend(1000)
    ruling = keeping.judge(100)
    assert (ruling.refusal, ruling.greenest, ruling.flags) == (None, False, (SHADOW,))
    keeping.enter(100)
    assert keeping.told.outcomes == [("tenant", "shadow")]


def test_asking_reserves_nothing_and_tells_nobody():
    keeping = Keeping(budget())
    for _ in range(5):
        keeping.judge(800)
        keeping.judge(2000)
    assert keeping.left() == 1000
    assert keeping.told.outcomes == []


def test_a_request_that_goes_on_elsewhere_reserves_more_and_never_less():
    keeping = Keeping(budget())
    hold = keeping.enter(100)
    hold.raise_to(300)
    assert keeping.left() == 700
    hold.raise_to(200)
    assert keeping.left() == 700
    hold.settle(50e-6, "measured")
    hold.settle(50e-6, "measured")
    hold.raise_to(900)
    assert keeping.left() == 950


def test_the_receipt_tells_of_the_budget_with_least_left():
    keeping = Keeping(budget("a", "fleet", 1000), budget("b", "tenant", 400))
    hold = keeping.enter(100)
    assert hold.standing() == ("b", 0.75)
    hold.settle(700e-6, "measured")
    assert hold.standing() == ("b", 0.0)


def test_parts_of_a_microgram_are_not_lost():
    keeping = Keeping(budget())
    for _ in range(100):
        keeping.enter(1).settle(0.3e-6, "measured")
    assert keeping.left() in (970, 971)


def test_a_new_day_begins_anew_and_the_old_one_is_settled():
    keeping = Keeping(budget())
    hold, late = keeping.enter(400), keeping.enter(300)
    hold.settle(400e-6, "measured")
    keeping.now = (TODAY + 1) * DAY_S
    assert keeping.left() == 1000
    (closing,) = keeping.budgets.closing
    assert (closing.day, closing.reserved_ug) == (TODAY, 300)
    late.settle(250e-6, "measured")
    assert (closing.spent_ug, closing.reserved_ug) == (650, 0)
    assert keeping.left() == 1000
    assert closing not in keeping.budgets.attended.values()


def test_a_clock_that_is_set_back_a_little_does_not_open_the_day_before_again():
    keeping = Keeping(budget())
    keeping.now = (TODAY + 1) * DAY_S + 1.0
    keeping.spend(1000)
    keeping.now -= 10.0
    assert keeping.judge(1).refusal is not None
    keeping.now -= 5 * DAY_S
    assert keeping.judge(1).refusal is None


def test_strangers_share_one_account_once_they_are_too_many(monkeypatch):
    monkeypatch.setattr(carbon_budgets, "MOST_NAMES", 3)
    keeping = Keeping(budget(limits_ug={"acme": 7000}), tenants=("known",))
    for number in range(3):
        keeping.spend(10, tenant=f"stranger-{number}")
    for number in range(3, 50):
        keeping.spend(10, tenant=f"stranger-{number}")
    names = [view.name for view in keeping.budgets.views()]
    assert names == ["stranger-0", "stranger-1", "stranger-2", OTHERS]
    assert keeping.left(tenant="yet-another") == 1000 - 47 * 10
    # What they have spent of their own is not forgotten, nor is anybody pushed out that is known.
    assert keeping.left(tenant="stranger-1") == 990
    assert keeping.left(tenant="acme") == 7000
    assert keeping.left(tenant="known") == 1000
    refusal = keeping.judge(531, tenant="yet-another").refusal
    assert refusal.account is OTHERS
    keeping.budgets.missed(refusal, NOW)
    assert keeping.told.outcomes[-1] == ("tenant", "refused")


def test_what_was_spent_before_a_restart_counts():
    before = Keeping(budget(), budget("all", "fleet", 9000))
    before.spend(700, tenant="acme")
    before.enter(50, tenant="acme")
    kept = dict(before.budgets.spending())
    again = Keeping(budget(), budget("all", "fleet", 9000))
    again.budgets.turn(NOW)
    again.budgets.restore(TODAY, kept)
    # Of those that nobody asked for yet, too.
    assert dict(again.budgets.spending()) == {k: Spent(v.spent_ug, 0) for k, v in kept.items()}
    assert again.left(tenant="acme") == 250
    assert dict(again.budgets.spending()) == dict(kept)
    late = Keeping(budget())
    late.budgets.turn(NOW + DAY_S)
    late.budgets.restore(TODAY, kept)
    assert late.left(tenant="acme") == 1000


def test_what_a_shared_counter_knows_is_not_counted_twice():
    keeping = Keeping(budget())
    keeping.budgets.is_alone = False
    keeping.budgets.turn(NOW)
    key = "tenant:tenant:average-lifecycle:acme"
    keeping.budgets.restore(TODAY, {key: Spent(700, 650, 800)})
    (entry,) = keeping.judge(1, tenant="acme").entries
    assert (entry.account.spent_ug, entry.account.counted_ug) == (50, 0)
    # What was left when it was last known is divided while the counter cannot be reached.
    keeping.budgets.sharing = Sharing(False, 2)
    assert keeping.judge(50, tenant="acme").refusal is None
    assert keeping.judge(51, tenant="acme").refusal is not None
    assert keeping.budgets.attended[key] is entry.account


def test_a_reload_keeps_what_is_spent():
    keeping = Keeping(budget(), budget("all", "fleet", 9000))
    keeping.spend(700, tenant="acme")
    keeping.budgets.adopt(CarbonBudgetSettings((budget(limit_ug=800),)), SIGNAL)
    assert keeping.left(tenant="acme") == 100
    assert len(list(keeping.budgets.views())) == 1
    # Taken out and put in again, it is not forgotten.
    both = CarbonBudgetSettings((budget(limit_ug=800), budget("all", "fleet", 9000)))
    keeping.budgets.adopt(both, SIGNAL)
    assert [view.spent_ug for view in keeping.budgets.views()] == [700]
    keeping.judge(tenant="acme")
    assert [view.spent_ug for view in keeping.budgets.views()] == [700, 700]


def test_a_limit_that_is_lifted_closes_the_account():
    keeping = Keeping(budget())
    hold = keeping.enter(100, tenant="acme")
    only = CarbonBudgetSettings((budget(limit_ug=None, limits_ug={"b": 1}),))
    keeping.budgets.adopt(only, SIGNAL)
    assert keeping.judge(tenant="acme") is None
    hold.settle(100e-6, "measured")


def test_grams_of_another_signal_are_other_grams():
    keeping = Keeping(budget())
    keeping.spend(700)
    marginal = Signal(Basis.MARGINAL, Factors.NONE)
    keeping.budgets.adopt(CarbonBudgetSettings((budget(),)), marginal)
    assert keeping.left() == 1000
    keeping.budgets.adopt(CarbonBudgetSettings((budget(),)), SIGNAL)
    assert keeping.left() == 300


def test_accounts_that_the_configuration_names_are_there_before_anybody_asks():
    keeping = Keeping(
        budget(limits_ug={"acme": 7000}), budget("model", "model", 50), budget("all", "fleet", 9),
        tenants=("known",),
    )  # fmt: skip
    keeping.budgets.open_named(NOW, ["llama"])
    keeping.spend(5, tenant="stranger")
    named = {(view.budget.name, view.name): view.is_named for view in keeping.budgets.views()}
    assert named == {
        ("tenant", "acme"): True, ("tenant", "known"): True, ("tenant", "stranger"): False,
        ("model", "llama"): True, ("all", ""): True,
    }  # fmt: skip


def test_each_budget_may_be_divided_by_more():
    keeping = Keeping(budget("a", "fleet", 1000, gateways=8), budget("b", "fleet", 1000))
    keeping.budgets.is_alone = False
    keeping.budgets.sharing = Sharing(False, 2)
    fits = {entry.budget.name: entry.fit for entry in keeping.judge(200).entries}
    assert fits == {"a": Fit.EXHAUSTED, "b": Fit.FITS}


def test_parts_are_of_as_many_as_each_budget_has_also_of_accounts_that_open_meanwhile():
    keeping = Keeping(budget("a", limit_ug=1000, gateways=8), budget("b", limit_ug=1000))
    keeping.budgets.is_alone = False
    keeping.budgets.sharing = Sharing(True, 2)
    keeping.judge(1, tenant="early")
    keeping.budgets.go_by_parts()
    for tenant in ("early", "late"):
        for ask_ug, a, b in ((125, True, True), (126, False, True), (501, False, False)):
            entries = keeping.judge(ask_ug, tenant=tenant).entries
            fits = {entry.budget.name: entry.fit is Fit.FITS for entry in entries}
            assert fits == {"a": a, "b": b}
    parts = {one.key: keeping.budgets.part_ug(one) for one in keeping.budgets.accounts()}
    assert sorted(parts.values()) == [125, 125, 500, 500]


def test_a_draw_is_asked_for_as_soon_as_an_advance_is_used():
    keeping = Keeping(budget(limit_ug=1_000_000))
    asked = []
    keeping.budgets.wake = lambda: asked.append(1)
    keeping.budgets.is_alone = False
    keeping.enter(100)
    assert not asked
    keeping.budgets.sharing = Sharing(True, 1)
    keeping.enter(1)
    assert asked
    held = keeping.judge(50_000).refusal
    assert isinstance(held, CarbonBudgetHeldError)
    keeping.budgets.missed(held, NOW, final=False)
    assert len(asked) == 2
    assert keeping.told.outcomes == []
    keeping.budgets.missed(held, NOW)
    assert keeping.told.outcomes == [("tenant", "held")]


def test_what_can_never_fit_takes_nothing_from_others():
    keeping = Keeping(budget())
    keeping.budgets.is_alone = False
    keeping.budgets.sharing = sharing = Sharing(True, 2)
    refusal = keeping.judge(1001).refusal
    assert isinstance(refusal, CarbonBudgetError)
    keeping.budgets.missed(refusal, NOW)
    (account,) = keeping.budgets.accounts()
    # It is looked up, and nothing drawn.
    assert keeping.budgets.attended == {account.key: account}
    assert account.plan(NOW + 0.1, sharing) == 0


class Beside:
    """Workers beside this one, as a dictionary."""

    def __init__(self):
        self.others = {}
        self.own = {}
        self.shown = {}

    def others_ug(self, key, day):
        return self.others.get(key, 0)

    def own_ug(self, key, day):
        return self.own.get(key, 0)

    def show(self, key, day, spent_ug, reserved_ug):
        self.shown[key] = (spent_ug, reserved_ug)


def test_workers_beside_it_are_seen_and_see_it():
    keeping = Keeping(budget())
    keeping.budgets.shared = beside = Beside()
    key = "tenant:tenant:average-lifecycle:acme"
    beside.own[key] = 100
    keeping.spend(200, tenant="acme")
    keeping.enter(50, tenant="acme")
    assert beside.shown[key] == (300, 50)
    beside.others[key] = 600
    assert keeping.judge(50, tenant="acme").refusal is None
    assert keeping.judge(51, tenant="acme").refusal is not None
    (view,) = keeping.budgets.views()
    assert (view.spent_ug, view.reserved_ug, view.left_ug) == (900, 50, 50)


names = st.sampled_from(["a", "b", "c", "d", "e", ""])
STEPS = st.lists(
    st.tuples(names, st.sampled_from(["llama", "opt"]), st.integers(1, 400), st.floats(0.0, 1.2),
              st.sampled_from(["enter", "end", "midnight"])),
    max_size=120,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 4))
def test_it_is_a_plain_ledger(steps, most_names):
    """Beside a list of all that happened, added up anew each time."""
    limits = {"tenant": 1000, "model": 1500, "fleet": 2500}
    keeping = Keeping(*(budget(per, per, ug) for per, ug in limits.items()))
    ledger, under_way, own = [], [], []
    day = TODAY

    def used(per, name):
        holds = [(t, m, d, ug) for t, m, d, ug, _ in under_way]
        return sum(
            ug
            for t, m, d, ug in (*ledger, *holds)
            if d == day and name == {"tenant": t, "model": m, "fleet": ""}[per]
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carbon_budgets, "MOST_NAMES", most_names)
        for tenant, model, ask, share, what in steps:
            if what == "end" and under_way:
                account, of, since, held, hold = under_way.pop(0)
                spent = int(held * share)
                hold.settle(spent / 1e6, "measured")
                ledger.append((account, of, since, spent))
            elif what == "midnight":
                keeping.now += DAY_S
                day += 1
                own.clear()
            elif what == "enter":
                if tenant not in own and len(own) < most_names:
                    own.append(tenant)
                account = tenant if tenant in own else None
                asked = {"tenant": account, "model": model, "fleet": ""}
                fits = all(used(per, asked[per]) + ask <= ug for per, ug in limits.items())
                ruling = keeping.judge(ask, tenant=tenant, model=model)
                assert (ruling.refusal is None) == fits
                if fits:
                    hold = keeping.budgets.hold(ruling, keeping.now)
                    under_way.append((account, model, day, ask, hold))


def test_what_can_wait_is_told_that_it_does():
    keeping = Keeping(budget(then="defer"))
    keeping.spend(1000)
    refusal = keeping.judge(1).refusal
    assert isinstance(refusal, CarbonBudgetError) and refusal.waits
    assert refusal.retry_after_s > 0.0 and "a batch" in str(refusal)
    shed = Keeping(budget())
    shed.spend(1000)
    assert not shed.judge(1).refusal.waits and "a batch" not in str(shed.judge(1).refusal)
