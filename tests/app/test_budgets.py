"""A process's budgets: its rounds in the background, what it says of them, and a reload."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from router.app.budgets import BudgetRounds
from router.app.loading import load
from router.core.budget_holds import BudgetHold
from router.errors import CarbonBudgetError
from router.peers.spending import WorkerSpending, spending_nbytes
from router.telemetry.budgets import BudgetMetrics
from router.units import DAY_S
from tests.app.support import Place, configured
from tests.app.test_budget_draws import Frail
from tests.director import virtual_time
from tests.factories import request

MODEL = "llama-3.1-8b"


class Process:
    """What the composition root puts together, without its sockets."""

    def __init__(self, folder, budgets, store=None, spending=None, row=0, **changes):
        self.path = configured(folder, {"carbon_budget": budgets, **changes})
        self.place = Place(self.path)
        self.registry = CollectorRegistry()
        self.metrics = BudgetMetrics(self.registry)
        self.rounds = BudgetRounds(
            load(self.path), self.place.clock, self.metrics, store, "gw", None, spending, row,
            2 if row else 1,
        )  # fmt: skip

    async def open(self):
        await self.place.open()
        await self.rounds.join(self.place.dispatcher)
        return self

    def ask(self, ug, tenant="acme"):
        clock = self.place.clock
        budgets = self.rounds.budgets
        ruling = budgets.judge(request(model=MODEL, tenant=tenant), ug, clock.now())
        if ruling.refusal is not None:
            budgets.missed(ruling.refusal, clock.monotonic())
            return ruling.refusal
        return budgets.hold(ruling, clock.monotonic())

    def spend(self, ug, tenant="acme"):
        held = self.ask(ug, tenant)
        if isinstance(held, BudgetHold):
            held.settle(ug / 1e6, "measured")
            return ug
        return 0

    def shown(self, name, /, **labels):
        self.metrics.show()
        return self.registry.get_sample_value(f"carbon_router_carbon_budget_{name}", labels)


ONE_GRAM = {"per": "tenant", "g_per_day": 1, "overrides": {"big": 5}}


async def test_what_is_decided_is_held_to_the_budgets_of_the_file(tmp_path):
    process = await Process(tmp_path, ONE_GRAM).open()
    process.spend(999_999)
    with pytest.raises(CarbonBudgetError):
        process.place.director.decide(request(model=MODEL, origin="west", tenant="acme"))
    process.place.director.decide(request(model=MODEL, origin="west", tenant="other"))


def test_what_is_spent_is_kept_while_it_runs_and_at_the_end(tmp_path):
    async def play():
        state = {"state": {"file": "state.json"}}
        process = await Process(tmp_path, ONE_GRAM, **state).open()
        process.spend(400_000)
        await process.rounds.run()
        assert (tmp_path / "state.json.budget").exists()
        process.spend(100_000)
        await process.rounds.close()
        again = await Process(tmp_path, ONE_GRAM, **state).open()
        assert isinstance(again.ask(500_001), CarbonBudgetError)
        assert again.spend(500_000)

    virtual_time.run(play())


def test_two_processes_on_one_store_draw_as_soon_as_something_is_wanted(tmp_path):
    async def play():
        store = Frail()
        processes = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            processes.append(await Process(folder, ONE_GRAM, store).open())
        loops = [asyncio.ensure_future(repeated(process)) for process in processes]
        spent = 0
        for _ in range(300):
            for process in processes:
                spent += process.spend(4_000)
                process.place.clock.advance(0.02)
            await asyncio.sleep(0.02)
        assert 980_000 <= spent <= 1_010_000
        assert all(isinstance(process.ask(4_000), CarbonBudgetError) for process in processes)
        for process, loop in zip(processes, loops, strict=True):
            loop.cancel()
            await process.rounds.close()
        counted = {name.split(":")[4]: one.total for name, one in store.store._counts.items()}
        assert counted == {"acme": spent, "big": 0}

    virtual_time.run(play())


async def repeated(process):
    while True:
        await process.rounds.run()


def test_a_store_that_cannot_be_reached_is_said_in_readiness_and_metrics(tmp_path):
    async def play():
        store = Frail()
        budgets = [ONE_GRAM, {"per": "fleet", "g_per_day": 9, "gateways": 6, "name": "all"}]
        process = await Process(tmp_path, budgets, store).open()
        await process.rounds.run()
        assert process.rounds.notes() == ()
        assert process.shown("divided_by", budget="all") == 0.0
        store.down = True
        process.spend(500_000)
        process.place.clock.advance(3.0)
        await process.rounds.run()
        (note,) = process.rounds.notes()
        assert (note.reason, note.blocking) == ("carbon_budget_divided", False)
        assert "(tenant: 1/1, all: 1/6)" in note.detail
        assert process.shown("divided_by", budget="all") == 6.0
        assert process.shown("divided_by", budget="tenant") == 1.0
        await process.rounds.close()

    virtual_time.run(play())


async def test_without_budgets_the_store_is_left_alone(tmp_path):
    store = Frail()
    store.down = True
    process = await Process(tmp_path, [], store).open()
    await process.rounds.run()
    await process.rounds.close()
    assert store.calls == 0
    assert process.rounds.notes() == ()


def test_a_store_that_hangs_holds_up_neither_the_start_nor_the_end(tmp_path):
    class Hanging:
        def __getattr__(self, name):
            async def call(*arguments):
                await asyncio.sleep(60.0)

            return call

    async def play():
        process = Process(tmp_path, ONE_GRAM, Hanging())
        began = asyncio.get_running_loop().time()
        await process.open()
        assert asyncio.get_running_loop().time() - began < 3.0
        process.spend(1)
        await process.rounds.close()
        assert asyncio.get_running_loop().time() - began < 6.0

    virtual_time.run(play())


async def test_workers_side_by_side_spend_a_limit_once(tmp_path):
    memory = bytearray(spending_nbytes(2))
    workers = []
    for row in (1, 2):
        folder = tmp_path / str(row)
        folder.mkdir()
        spending = WorkerSpending(memory, 2, row)
        workers.append(await Process(folder, ONE_GRAM, None, spending, row).open())
    spent = sum(worker.spend(1000) for _ in range(900) for worker in workers)
    assert spent == 1_000_000
    one, two = workers
    assert one.shown("spent_grams", budget="tenant", name="big") == 0.0
    one.spend(2_000_000, "big")
    two.ask(1_000_000, "big")
    for worker in workers:
        left = worker.shown("remaining_grams", budget="tenant", name="big")
        assert left == 2.0


async def test_a_reload_puts_other_budgets_in_force_and_forgets_nothing(tmp_path):
    process = await Process(tmp_path, ONE_GRAM).open()
    process.spend(600_000)
    other = {**ONE_GRAM, "g_per_day": 0.5}
    configured(tmp_path, {"carbon_budget": other})
    process.rounds.adopt(load(process.path))
    assert isinstance(process.ask(1), CarbonBudgetError)
    configured(tmp_path, {})
    process.rounds.adopt(load(process.path))
    assert process.rounds.budgets.judge(request(model=MODEL), 1, process.place.clock.now()) is None


def test_a_day_that_is_over_is_let_go_once_nothing_is_under_way(tmp_path):
    async def play():
        process = await Process(tmp_path, ONE_GRAM).open()
        held = process.ask(5)
        process.place.clock.advance(DAY_S)
        await process.rounds.run()
        assert len(process.rounds.budgets.closing) == 1
        held.settle(5e-6, "measured")
        await process.rounds.run()
        assert process.rounds.budgets.closing == []

    virtual_time.run(play())
