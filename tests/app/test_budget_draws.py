"""Gateways that draw on one store: what they spend together, whatever becomes of it."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.app.budget_draws import BudgetDraws, counter_of
from router.config.settings import CarbonBudgetSettings
from router.core.carbon_budgets import CarbonBudgets
from router.core.day_account import ADVANCES, day_of
from router.errors import CarbonBudgetError, StateStoreError
from router.peers.members import SeenMembers
from router.state.memory import MemoryStore
from router.units import DAY_S
from tests.core.test_carbon_budgets import budget
from tests.factories import NOW, SIGNAL, request

LIMIT = 1_000_000
COUNTER = f"carbon_budget:t:tenant:average-lifecycle:acme:{'2023-11-14'}"


class Frail:
    """A store that fails when told to; ``lossy``: after it has done what it was asked."""

    def __init__(self):
        self.store = MemoryStore()
        self.down = self.lossy = False
        self.calls = 0
        # Of the clock, each call.
        self.takes_s, self.clock = 0.0, None

    def __getattr__(self, name):
        method = getattr(self.store, name)

        async def call(*arguments):
            self.calls += 1
            if self.takes_s:
                self.clock.advance(self.takes_s)
            if self.down and not self.lossy:
                raise StateStoreError("down")
            answer = await method(*arguments)
            if self.down:
                raise StateStoreError("lost")
            return answer

        return call


class Hands:
    def __init__(self):
        self.wall = NOW
        self.ticks = 1000.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.ticks

    def advance(self, seconds):
        self.wall += seconds
        self.ticks += seconds


class Gateway:
    def __init__(self, store, clock, identity, limit_ug=LIMIT):
        self.clock = clock
        given_settings = CarbonBudgetSettings((budget("t", limit_ug=limit_ug),), frozenset())
        self.budgets = CarbonBudgets(given_settings, SIGNAL)
        self.members = SeenMembers()
        self.draws = BudgetDraws(self.budgets, store, identity, clock, self.members)
        self.budgets.turn(clock.now())

    def ask(self, ask_ug, tenant="acme"):
        """Whether it is let in; it emits what it had reserved, or ``spent_ug``."""
        ruling = self.budgets.judge(request(tenant=tenant), ask_ug, self.clock.now())
        if ruling.refusal is not None:
            self.budgets.missed(ruling.refusal, self.clock.monotonic())
            return ruling.refusal
        return self.budgets.hold(ruling, self.clock.monotonic())

    def spend(self, ug, tenant="acme"):
        """Micrograms spent at once; 0 when it was refused."""
        held = self.ask(ug, tenant)
        if isinstance(held, Exception):
            return 0
        held.settle(ug / 1e6, "measured")
        return ug

    @property
    def account(self):
        (found,) = self.budgets.accounts()
        return found


class Fleet:
    def __init__(self, gateways=2):
        self.store, self.clock = Frail(), Hands()
        self.gateways = [
            Gateway(self.store, self.clock, f"gw-{number}") for number in range(gateways)
        ]

    async def rounds(self, count=1, wait_s=0.5):
        for _ in range(count):
            for gateway in self.gateways:
                await self.round_of(gateway)
            self.clock.advance(wait_s)

    async def round_of(self, gateway):
        """After what the exchange of loads saw."""
        if self.store.down:
            gateway.members.missed()
        else:
            gateway.members.seen(len(self.gateways), self.clock.monotonic())
        await gateway.draws.round()

    async def counted(self, name=COUNTER):
        return await self.store.store.add(name, 0, DAY_S, self.clock.now())


def test_a_counter_says_whose_and_of_which_day_it_is():
    fleet = Fleet(1)
    fleet.gateways[0].spend(1)
    assert counter_of(fleet.gateways[0].account) == COUNTER


async def test_limits_are_shared_by_as_many_as_are_seen():
    fleet = Fleet(3)
    assert {gateway.budgets.sharing for gateway in fleet.gateways} == {(False, 1)}
    await fleet.rounds(5)
    assert {gateway.budgets.sharing for gateway in fleet.gateways} == {(True, 3)}
    await fleet.gateways[2].draws.leave()
    fleet.gateways.pop()
    await fleet.rounds(50)
    # Not at once: who was away for a moment is not gone.
    assert {gateway.budgets.sharing for gateway in fleet.gateways} == {(True, 3)}
    await fleet.rounds(20)
    assert {gateway.budgets.sharing for gateway in fleet.gateways} == {(True, 2)}


@pytest.mark.parametrize("gateways", [1, 2, 5])
async def test_together_they_spend_the_limit_and_hardly_more(gateways):
    fleet = Fleet(gateways)
    await fleet.rounds(5)
    spent, ask = 0, 700
    for _ in range(60):
        for gateway in fleet.gateways:
            spent += sum(gateway.spend(ask) for _ in range(2000 // gateways))
        await fleet.rounds()
    assert LIMIT - gateways * ask <= spent
    assert spent <= LIMIT + gateways * max(LIMIT // (ADVANCES * gateways), ask)
    for gateway in fleet.gateways:
        refusal = gateway.ask(ask)
        assert isinstance(refusal, CarbonBudgetError)
    for gateway in fleet.gateways:
        await gateway.draws.leave()
    assert await fleet.counted() == spent


async def test_a_few_requests_are_never_shed_for_want_of_a_round():
    fleet = Fleet(4)
    await fleet.rounds(5)
    for gateway in fleet.gateways:
        assert gateway.spend(LIMIT // 500)
        assert gateway.spend(LIMIT // 5000)
    await fleet.rounds()
    for gateway in fleet.gateways:
        assert all(gateway.spend(LIMIT // 5000) for _ in range(4))


async def test_what_nobody_needs_any_more_is_there_for_the_others():
    fleet = Fleet(2)
    one, two = fleet.gateways
    await fleet.rounds(5)
    for _ in range(20):
        one.spend(10_000)
        await fleet.rounds()
    assert await fleet.counted() > 200_000
    await fleet.rounds(70)
    assert await fleet.counted() == 200_000
    assert not one.budgets.attended
    spent = 0
    for _ in range(60):
        spent += sum(two.spend(1000) for _ in range(30))
        await fleet.rounds()
    assert spent == 800_000


async def test_without_the_store_what_was_left_is_divided_and_not_copied():
    fleet = Fleet(4)
    await fleet.rounds(5)
    for gateway in fleet.gateways:
        gateway.spend(100_000)
    await fleet.rounds(12)
    fleet.store.down = True
    await fleet.rounds(5)
    assert all(gateway.draws.is_lost for gateway in fleet.gateways)
    assert {gateway.budgets.sharing for gateway in fleet.gateways} == {(False, 4)}
    spent = [400_000]
    for gateway in fleet.gateways:
        spent.append(sum(gateway.spend(1000) for _ in range(1000)))
    assert max(spent[1:]) <= 2 * 150_000
    assert sum(spent) <= LIMIT
    assert sum(spent) > 900_000
    # One alone is one of four all the same.
    assert isinstance(fleet.gateways[0].ask(1000), CarbonBudgetError)
    await fleet.rounds(50)
    assert isinstance(fleet.gateways[0].ask(1000), CarbonBudgetError)
    fleet.store.down = False
    await fleet.rounds(13)
    # It knows nobody at first, and may be gone again.
    assert {gateway.budgets.sharing for gateway in fleet.gateways} == {(True, 4)}
    assert await fleet.counted() >= sum(spent)
    for gateway in fleet.gateways:
        await gateway.draws.leave()
    assert await fleet.counted() == sum(spent)


async def test_a_store_that_was_never_reached_is_taken_for_as_many_as_were_seen_before():
    fleet = Fleet(1)
    (gateway,) = fleet.gateways
    gateway.draws.assume(4)
    fleet.store.down = True
    await fleet.rounds()
    assert gateway.budgets.sharing == (False, 4)
    assert sum(gateway.spend(1000) for _ in range(1000)) == 250_000


async def test_a_day_that_begins_without_the_store_is_divided_too():
    fleet = Fleet(2)
    await fleet.rounds(5)
    fleet.store.down = True
    fleet.clock.advance(DAY_S)
    await fleet.rounds()
    spent = [sum(gateway.spend(1000) for _ in range(2000)) for gateway in fleet.gateways]
    assert spent == [500_000, 500_000]


async def test_a_store_that_was_emptied_hears_of_it_all_again():
    fleet = Fleet(2)
    await fleet.rounds(5)
    for _ in range(10):
        for gateway in fleet.gateways:
            gateway.spend(40_000)
        await fleet.rounds()
    before = await fleet.counted()
    assert before >= 800_000
    fleet.store.store = MemoryStore()
    await fleet.rounds(6)
    assert await fleet.counted() >= 800_000
    spent = 800_000
    for _ in range(20):
        for gateway in fleet.gateways:
            spent += sum(gateway.spend(1000) for _ in range(100))
        await fleet.rounds()
    assert spent <= LIMIT + 2 * max(LIMIT // (2 * ADVANCES), 1000)


async def test_a_new_day_draws_on_a_new_counter_and_the_old_one_is_settled():
    fleet = Fleet(1)
    (gateway,) = fleet.gateways
    await fleet.rounds(5)
    gateway.spend(30_000)
    await fleet.rounds()
    late = gateway.ask(20_000)
    await fleet.rounds()
    fleet.clock.wall = (day_of(NOW) + 1) * DAY_S
    gateway.spend(5_000)
    await fleet.rounds()
    (closing,) = gateway.budgets.closing
    late.settle(10_000 / 1e6, "measured")
    await fleet.rounds(3)
    assert gateway.budgets.closing == []
    assert closing.is_over
    assert await fleet.counted() == 40_000
    assert await fleet.counted(COUNTER.replace("11-14", "11-15")) >= 5_000
    await gateway.draws.leave()
    assert await fleet.counted(COUNTER.replace("11-14", "11-15")) == 5_000


async def test_a_day_that_can_never_be_settled_is_let_go():
    fleet = Fleet(1)
    (gateway,) = fleet.gateways
    gateway.spend(30_000)
    fleet.store.down = True
    fleet.clock.advance(DAY_S)
    await fleet.rounds()
    gateway.spend(1)
    assert len(gateway.budgets.closing) == 1
    fleet.clock.advance(4 * DAY_S)
    fleet.store.down = False
    gateway.budgets.turn(fleet.clock.now())
    await fleet.rounds(2)
    assert all(account.day >= day_of(fleet.clock.now()) - 2 for account in gateway.budgets.closing)


async def test_accounts_that_are_named_are_looked_at_though_nobody_asks():
    fleet = Fleet(2)
    one, two = fleet.gateways
    named = CarbonBudgetSettings((budget("t", limit_ug=None, limits_ug={"acme": LIMIT}),))
    for gateway in fleet.gateways:
        gateway.budgets.adopt(named, SIGNAL)
        gateway.budgets.open_named(NOW, ())
    await fleet.rounds(5)
    for _ in range(100):
        one.spend(9_000)
        await fleet.rounds()
    fleet.store.down = True
    await fleet.rounds()
    spent = sum(two.spend(1000) for _ in range(1000))
    # It never served it, and knows all the same that next to nothing was left.
    assert spent <= LIMIT - 900_000


async def test_who_is_back_first_draws_nothing_that_others_spent_without_the_store():
    """On a day that began without it, when the counter knows of nobody."""
    fleet = Fleet(2)
    one, two = fleet.gateways
    await fleet.rounds(5)
    fleet.store.down = True
    fleet.clock.advance(DAY_S)
    await fleet.rounds(8)
    spent = sum(gateway.spend(1000) for gateway in fleet.gateways for _ in range(450))
    fleet.store.down = False
    for _ in range(30):
        spent += sum(one.spend(1000) for _ in range(20))
        await fleet.round_of(one)
        fleet.clock.advance(0.1)
    # Its part, of which it had used nine tenths.
    assert spent == 950_000
    await fleet.rounds(12)
    assert one.budgets.sharing == two.budgets.sharing == (True, 2)
    for _ in range(20):
        for gateway in fleet.gateways:
            spent += sum(gateway.spend(1000) for _ in range(20))
        await fleet.rounds()
    assert 0.97 * LIMIT <= spent <= LIMIT + LIMIT // ADVANCES


async def test_a_call_that_fails_now_and_then_keeps_nobody_to_a_part_for_long():
    fleet = Fleet(2)
    one, _ = fleet.gateways
    await fleet.rounds(5)
    spent = 0
    for _ in range(60):
        fleet.store.down = True
        await fleet.round_of(one)
        fleet.store.down = False
        spent += sum(one.spend(1000) for _ in range(10))
        await fleet.rounds(8)
        spent += sum(one.spend(1000) for _ in range(10))
    # All of it, which is twice its part.
    assert spent >= 0.97 * LIMIT


async def test_who_finds_the_store_emptied_first_draws_nothing_that_others_spent():
    fleet = Fleet(2)
    one, _ = fleet.gateways
    await fleet.rounds(5)
    spent = 0
    for _ in range(45):
        spent += sum(gateway.spend(10_000) for gateway in fleet.gateways)
        await fleet.rounds()
    assert spent == 900_000
    fleet.store.store = MemoryStore()
    for _ in range(30):
        spent += sum(one.spend(1000) for _ in range(20))
        await fleet.round_of(one)
        fleet.clock.advance(0.1)
    assert spent <= LIMIT
    await fleet.rounds(14)
    for _ in range(20):
        for gateway in fleet.gateways:
            spent += sum(gateway.spend(1000) for _ in range(20))
        await fleet.rounds()
    assert 0.97 * LIMIT <= spent <= LIMIT + LIMIT // ADVANCES


class Weird(MemoryStore):
    """Somebody else writes its counters."""

    async def add(self, counter, amount, ttl_s, now):
        await super().add(counter, amount, ttl_s, now)
        return -(10**18)


async def test_a_counter_that_says_nonsense_is_not_asked_for_ever():
    clock = Hands()
    gateway = Gateway(Weird(), clock, "gw")
    gateway.spend(1000)
    async with asyncio.timeout(5.0):
        await gateway.draws.round()
        await gateway.draws.leave()


async def test_many_accounts_are_drawn_for_in_one_round():
    fleet = Fleet(1)
    (gateway,) = fleet.gateways
    for number in range(100):
        gateway.spend(1000, tenant=f"tenant-{number}")
    await fleet.rounds()
    assert all(account.drawn_ug >= 1000 for account in gateway.budgets.accounts())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["spend", "spend", "hold", "end", "round", "wait", "down", "up", "crash"]),
        st.integers(0, 2), st.integers(1, 60_000), st.booleans(),
    ),
    max_size=120,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_no_more_is_spent_than_was_let_in_ahead(steps):
    """With faults of the store, crashes of gateways and answers that are lost: the limit, an
    advance a gateway, and what was divided on a view that others had drawn from since."""

    async def play():
        fleet = Fleet(3)
        await fleet.rounds(5)
        spent = stale = largest = 0
        under_way = []
        for what, which, ug, lossy in steps:
            gateway = fleet.gateways[which]
            if what in ("spend", "hold"):
                held = gateway.ask(ug)
                if isinstance(held, Exception):
                    continue
                largest = max(largest, ug)
                if fleet.store.down:
                    stale += ug
                spent += ug
                if what == "spend":
                    held.settle(ug / 1e6, "measured")
                else:
                    under_way.append((which, held, ug))
            elif what == "end" and under_way:
                _, held, ug = under_way.pop(0)
                held.settle(ug / 1e6, "measured")
            elif what == "round":
                await fleet.round_of(gateway)
            elif what == "wait":
                fleet.clock.advance(ug / 2000)
            elif what == "crash":
                fleet.gateways[which] = Gateway(
                    fleet.store, fleet.clock, f"gw-{which}-{len(steps)}"
                )
                under_way = [one for one in under_way if one[0] != which]
            else:
                fleet.store.down, fleet.store.lossy = what == "down", lossy
        advance = 3 * max(LIMIT // (ADVANCES * 3), largest)
        crashes = sum(what == "crash" for what, *_ in steps)
        # A gateway that is killed has not counted what it let in ahead.
        assert spent <= LIMIT + (1 + crashes) * advance + stale

    asyncio.run(play())


async def test_a_round_for_one_account_does_not_go_through_thousands():
    fleet = Fleet(1)
    (gateway,) = fleet.gateways
    names = [f"t{number}" for number in range(300)]
    for name in names:
        gateway.spend(100, name)
    await fleet.rounds(3)
    await gateway.draws.round()
    for name in names:
        # No more than is drawn: nobody is in a hurry.
        gateway.spend(10, name)
    gateway.spend(5_000, "acme")
    before = fleet.store.calls
    fleet.clock.advance(0.1)
    await gateway.draws.round()
    fleet.clock.advance(0.1)
    await gateway.draws.round()
    # What is drawn, and what is spent, and twice whether the store still knows of it.
    assert fleet.store.calls == before + 4
    gateway.budgets.turn(fleet.clock.now())
    await fleet.rounds(6)
    assert await fleet.counted() >= 5_000


async def test_a_store_that_is_slow_for_thousands_is_not_lost_and_hears_of_all():
    """Each call takes a moment, and there are more than fit into a round."""
    fleet = Fleet(1)
    (gateway,) = fleet.gateways
    woken = []
    gateway.budgets.wake = lambda: woken.append(fleet.clock.ticks)
    fleet.store.takes_s, fleet.store.clock = 0.005, fleet.clock
    names = [f"t{number}" for number in range(600)]
    for name in names:
        gateway.spend(100, name)
    await gateway.draws.round()
    # It asked for the next one at once.
    assert woken
    rounds = 0
    while any(one.told_ug != one.spent_ug for one in gateway.budgets.accounts()):
        await gateway.draws.round()
        rounds += 1
        assert not gateway.draws.is_lost
    assert 1 < rounds < 40


async def test_what_an_emptied_store_is_told_again_it_is_told_once():
    """A counter tells of the loss before the mark is looked at, which tells of it as well."""
    fleet = Fleet(2)
    one, two = fleet.gateways
    one.spend(300_000)
    two.spend(100_000)
    await fleet.rounds(10)
    fleet.store.store = MemoryStore()
    spent = 400_000 + one.spend(10_000)
    # Before the next look at the mark.
    await one.draws.round()
    await fleet.rounds(10)
    assert one.account.left_ug == two.account.left_ug == LIMIT - spent
    await one.draws.leave()
    await two.draws.leave()
    assert await fleet.counted() == spent
