"""The console of a process: what it says is what metrics, receipts and decisions say, and it says
nothing to whom it is none of."""

import asyncio
import json
import random

import pytest
from prometheus_client import CollectorRegistry

from router.app.console.answers import ProcessAnswers
from router.app.console.audiences import LINGER_S, Audiences
from router.app.console.past import PastScenes
from router.app.console.rounds import ConsoleRounds
from router.app.console.sampling import Sampling
from router.app.observers import LoggedRequests
from router.config.settings import BudgetScope, CarbonBudget, OnExhausted
from router.console.feed import Event, Onlooker
from router.console.scene import EVERYTHING, Scope
from router.core.carbon_budgets import AccountView
from router.director.recording import Recorder
from router.telemetry.exposition import exposition
from router.telemetry.metrics import Metrics
from router.telemetry.request_file import RequestFile
from router.telemetry.security import SecurityLog
from tests.app.support import Place, configured
from tests.director.support import Says, report

ACME = Scope("acme")
HOSTILE = '<img src=x onerror=alert(1)>"&\u202e\n'


class Watched:
    """A runtime that serves, and its console; ``lines``: of a scope, as its stream has them."""

    def __init__(self, folder):
        slow = Says(b"an answer", end_s=1.5, trailers=report(energy_j=120.0, output_tokens=40.0))
        script = dict.fromkeys(("west-0", "east-0"), slow)
        self.place = Place(configured(folder), script)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.metrics.know(self.place.runtime.config.fleet)
        file = RequestFile(None, random.Random(1), lambda *_: None)
        self.observer = LoggedRequests(
            self.metrics, file, SecurityLog(CollectorRegistry(), lambda: 0.0)
        )
        self.place.watch = self.observer
        self.accounts = []
        self.audiences = Audiences()
        self.sampling = Sampling(self.observer, random.Random(1), f"{self.audiences.boot}-")
        self.console = ConsoleRounds(
            self.place.runtime, self.registry, self.audiences, self.sampling,
            lambda: self.accounts, self.place.clock,
        )  # fmt: skip
        self.onlookers = {}

    async def open(self):
        await self.place.open()
        self.console.attach(self.place.dispatcher)
        past = PastScenes(self.place.runtime, self.audiences, None, 1)
        self.answers = ProcessAnswers(self.place.runtime, self.sampling, past)
        return self

    def join(self, scope):
        feed = self.console.join(scope)
        self.onlookers[scope] = onlooker = Onlooker(lambda: None)
        feed.join(onlooker)
        return feed

    async def tick(self, seconds=1.0):
        self.place.clock.advance(seconds)
        self.place.dispatcher.digest()
        await self.console.tick()
        found = {}
        for scope, onlooker in self.onlookers.items():
            found[scope] = {}
            for block in (await onlooker.next(1.0)).decode().split("\n\n")[:-1]:
                _, name, data = block.split("\n")
                found[scope][name[7:]] = json.loads(data[6:])
        return found

    def page(self, name):
        """Of a family, by the text of /metrics."""
        text = exposition(self.registry)[0].decode()
        rows = [one for one in text.splitlines() if one.startswith(name + "{")]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


@pytest.fixture
async def watched(tmp_path):
    return await Watched(tmp_path).open()


async def test_every_number_is_the_metrics_or_the_receipts(watched):
    watched.join(EVERYTHING)
    watched.sampling._recorder.adopt(1.0)
    await watched.tick()
    answers = [await watched.place.infer() for _ in range(5)]
    told = (await watched.tick(2.0))[EVERYTHING]
    totals = told["tick"]["totals"]
    assert totals["gco2e_g"] == watched.page("carbon_router_gco2e_grams_total") > 0.0
    assert totals["energy_j"] == watched.page("carbon_router_energy_joules_total")
    assert totals["saved_g"] == watched.page("carbon_router_saved_gco2e_grams_total")
    assert totals["requests"] == {"OK": 5.0}
    emitted = sum(answer.receipt.gco2e for answer in answers)
    assert totals["gco2e_g"] == pytest.approx(emitted)
    # Five answers of 1.5 s, and a pause.
    rates = told["tick"]["rates"]
    assert rates["seconds"] == 9.5
    assert rates["gco2e_g_per_s"] == pytest.approx(emitted / 9.5)
    assert rates["requests_per_s"] == pytest.approx(5.0 / 9.5)
    (row, *_) = told["decisions"]
    receipts = {answer.receipt.decision_id: answer.receipt for answer in answers}
    assert {one["id"] for one in told["decisions"]} == set(receipts)
    for row in told["decisions"]:
        receipt = receipts[row["id"]]
        assert row["receipt"]["gco2e_g"] == receipt.gco2e
        assert row["receipt"]["energy_j"] == receipt.energy_j
        assert row["gco2e_g"] == receipt.decision.gco2e
        assert row["latency_first"]["gco2e_g"] == receipt.decision.latency_first_gco2e
    # Asked at once, it is as it is now, and not as of the last tick.
    await watched.place.infer()
    state = await watched.console.state(EVERYTHING)
    assert state["tick"]["totals"]["requests"] == {"OK": 6.0}
    assert state["tick"]["rates"] == told["tick"]["rates"]
    moved = sum(count for *_, count, _, _ in told["tick"]["flows"]["rows"])
    assert moved == 5.0


async def test_intensities_are_those_that_decide_and_endpoints_as_they_are(watched):
    watched.join(EVERYTHING)
    told = (await watched.tick())[EVERYTHING]
    view = watched.place.runtime.fleet()
    for region in view.regions:
        shown = told["grid"]["zones"][region.grid_zone]["now"]
        assert shown["g"] == region.intensity.g_per_kwh
        assert shown["kind"] == region.intensity.kind.value
    assert [one["name"] for one in told["fleet"]["endpoints"]] == [e.name for e in view.endpoints]
    assert [row[1] for row in told["tick"]["endpoints"]] == [e.in_flight for e in view.endpoints]
    # Whoever comes now is told what stands, and no tick that is over: the next follows at once.
    begun = watched.console.beginning(EVERYTHING, watched.console.join(EVERYTHING)).decode()
    assert "event: fleet" in begun and "event: grid" in begun and "event: tick" not in begun
    # What has not changed is not told again.
    assert set((await watched.tick())[EVERYTHING]) == {"tick"}


async def test_a_tenant_sees_its_own_and_nothing_else(watched):
    budget = CarbonBudget("daily", BudgetScope.TENANT, None, {}, OnExhausted.WARN, False)
    fleet = CarbonBudget("all", BudgetScope.FLEET, 9, {}, OnExhausted.WARN, False)
    watched.accounts = [
        AccountView(budget, "acme", True, 10_000_000, 4_000_000, 0, 6_000_000),
        AccountView(budget, "rival", True, 10_000_000, 4_000_000, 0, 6_000_000),
        AccountView(budget, None, False, 10_000_000, 0, 0, 10_000_000),
        AccountView(fleet, "", True, 9, 0, 0, 9),
    ]
    watched.join(EVERYTHING)
    watched.join(ACME)
    watched.sampling._recorder.adopt(1.0)
    await watched.tick()
    mine = await watched.place.infer(tenant="acme")
    await watched.place.infer(tenant="rival", request_id="the rival's")
    told = await watched.tick()
    assert len(told[EVERYTHING]["decisions"]) == 2
    assert [one["tenant"] for one in told[ACME]["decisions"]] == ["acme"]
    tick = told[ACME]["tick"]
    assert tick["totals"] is tick["rates"] is None
    assert tick["own"]["gco2e_g"] == pytest.approx(mine.receipt.gco2e)
    assert tick["own"]["requests"] == 1
    assert [(one["budget"], one["name"]) for one in tick["budgets"]] == [("daily", "acme")]
    assert tick["budgets"][0]["left_g"] == 6.0
    assert "rival" not in json.dumps(told[ACME])
    assert sum(row[2] for row in tick["flows"]["rows"]) == 1.0
    (other,) = [one for one in told[EVERYTHING]["decisions"] if one["tenant"] == "rival"]
    for key in (other["key"], other["id"]):
        assert await watched.answers.decision(ACME, key) is None
        assert await watched.answers.decision(EVERYTHING, key) is not None
    assert "rival" not in json.dumps(await watched.console.state(ACME))


async def test_a_decision_opens_to_every_term_and_another_policy_is_tried(watched):
    watched.join(EVERYTHING)
    watched.sampling._recorder.adopt(1.0)
    await watched.tick()
    answer = await watched.place.infer(request_id=HOSTILE)
    await watched.tick()
    found = await watched.answers.decision(EVERYTHING, answer.receipt.decision_id)
    assert found["decision"]["request_id"] == HOSTILE
    (best, *others) = found["explanation"]["candidates"]
    decision = answer.receipt.decision
    assert best["endpoint"] == decision.endpoint.name
    assert (best["gco2e"], best["ttft_ms"]) == (decision.gco2e, decision.ttft_ms)
    assert others and all(one["cost"] is None or one["cost"] >= best["cost"] for one in others)
    tried = await watched.answers.what_if(EVERYTHING, "latency-first")
    assert tried["decisions"] == 1 and tried["effect"]["total"]["requests"] == 1.0


async def test_while_nobody_looks_on_nothing_is_done(watched):
    ledgers = Recorder(lambda _: None, 0.5, random.Random(1))
    watched.place.dispatcher.recorder = ledgers
    watched.console.attach(watched.place.dispatcher)
    assert watched.observer.onlooker is None
    async with asyncio.TaskGroup() as group:
        rounds = group.create_task(watched.console.run())
        await asyncio.sleep(0)
        feed = watched.join(EVERYTHING)
        assert watched.place.dispatcher.recorder is not ledgers
        assert watched.observer.onlooker is not None
        onlooker = watched.onlookers[EVERYTHING]
        assert b"event: tick" in await onlooker.next(20.0)
        feed.leave(onlooker)
        # Whoever comes again soon goes on; then all of it ends.
        watched.audiences.see_off(watched.place.clock.monotonic())
        watched.place.clock.advance(LINGER_S + 1.0)
        watched.audiences.see_off(watched.place.clock.monotonic())
        watched.console._woken.set()
        await rounds
    assert watched.place.dispatcher.recorder is ledgers
    assert watched.observer.onlooker is None
    assert watched.sampling.decisions.all() == []
    # Who comes now begins anew, whatever came before: numbers of another feed say nothing here.
    again = watched.console.join(EVERYTHING)
    again.publish([Event("fleet", 1)])
    for seq in range(4):
        assert again.since(f"{feed.boot}-{seq}") is None
    # Asked once, it says how things are, without a stream.
    state = await watched.console.state(EVERYTHING)
    assert state["tick"]["rates"] is None and state["fleet"]["regions"]
    json.dumps(state)


async def test_no_key_of_a_decision_is_that_of_another_process(watched, tmp_path_factory):
    keys = []
    for one in (watched, await Watched(tmp_path_factory.mktemp("other")).open()):
        one.join(EVERYTHING)
        one.sampling._recorder.adopt(1.0)
        await one.place.infer()
        (row,) = (await one.tick())[EVERYTHING]["decisions"]
        keys.append(row["key"])
    assert len(set(keys)) == 2


async def test_the_share_of_decisions_follows_how_many_there_are(watched):
    watched.join(EVERYTHING)
    recorder = watched.sampling._recorder
    watched.sampling.follow(4000, 1.0)
    assert recorder.share == pytest.approx(0.001)
    for _ in range(40):
        watched.sampling.follow(1, 1.0)
    assert recorder.share > 0.67
