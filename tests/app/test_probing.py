"""Probes of a fleet in time that passes when told to: each in its turn, the silent ones at once."""

import asyncio
import contextlib
import heapq
import itertools
import logging
from types import SimpleNamespace

import pytest

from router.app import probing as module
from router.app.probing import TICK_S, Prober
from router.contract import Probe, Upstream
from router.core import kernel_rows as k
from router.core.health import _STUCK_S, Cause, State
from router.core.lease import Lease
from router.model import UNBURDENED, Load, Outcome
from tests.app import support
from tests.app.support import Place, configured
from tests.config.samples import DELETE
from tests.director.support import Hands
from tests.factories import Dice

MODEL = ("llama-3.1-8b", "")
CLASSIFIER = ("classifier", "")


class Time(Hands):
    """A clock whose sleepers wake in their order when it is told to pass."""

    def __init__(self):
        super().__init__()
        self._sleepers = []
        self._count = itertools.count()

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.ticks + seconds, next(self._count), woken))
        await woken

    async def passes(self, seconds):
        await turns()
        until = self.ticks + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, woken = heapq.heappop(self._sleepers)
            self.advance(max(0.0, at - self.ticks))
            if not woken.done():
                woken.set_result(None)
            await turns()
        self.advance(until - self.ticks)

    async def stands_still(self, seconds):
        """The process is not run for so long; whoever waited is late."""
        self.advance(seconds)
        await self.passes(0.0)


async def turns(count=8):
    for _ in range(count):
        await asyncio.sleep(0)


class Servers:
    """A backend that is only probed: READY, or what ``says`` of a server and ``models`` of a
    (server, model). SILENT answers when the time is up."""

    def __init__(self, clock):
        self.clock = clock
        self.says = {}
        self.models = {}
        self.asked = []
        self.timeouts_s = set()
        self.under_way = self.most_under_way = 0
        self.resets = []

    async def probe(self, endpoint, timeout_s):
        self.asked.append((self.clock.ticks, endpoint.name))
        self.timeouts_s.add(timeout_s)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._answer(self.says.get(endpoint.name, Probe.READY), timeout_s)
        finally:
            self.under_way -= 1

    async def probe_model(self, endpoint, model, version, timeout_s):
        self.asked.append((self.clock.ticks, f"{endpoint.name} {model}"))
        return await self._answer(self.models.get((endpoint.name, model), Probe.READY), timeout_s)

    async def reset(self, endpoint):
        self.resets.append(endpoint.name)

    async def _answer(self, answer, timeout_s):
        if isinstance(answer, Exception):
            raise answer
        if answer is Probe.SILENT:
            await self.clock.sleep(timeout_s)
        return answer

    def times(self, name):
        return [at for at, asked in self.asked if asked == name]


class Scene:
    def __init__(self, place):
        self.place = place
        self.clock = place.clock
        self.servers = Servers(self.clock)
        upstreams = {"oip": Upstream(self.servers, None)}
        self.prober = Prober(place.runtime, upstreams, place.watch, self.clock, Dice())

    @contextlib.asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.prober.run())
            await self.clock.passes(0.0)
            yield
            task.cancel()

    def seat(self, name):
        return self.place.seat(name)

    def sent(self, name, run_s=1.0):
        """A request on its way to a server."""
        seat = self.seat(name)
        return Lease(seat, UNBURDENED, seat.outliers[MODEL], self.clock.ticks, run_s)

    def eligible(self, model=MODEL):
        """Names of the endpoints that decisions may choose for a model."""
        board = self.place.runtime.board
        endpoints = board.layout.candidates[model].endpoints
        rows = board.live(*model)[k.ELIGIBLE]
        return {one.name for one, on in zip(endpoints, rows, strict=True) if on}


@pytest.fixture
def clocked(monkeypatch):
    monkeypatch.setattr(support, "Hands", Time)

    def build(path):
        place = Place(path)
        asynchronous = SimpleNamespace(sleep=place.clock.sleep, TaskGroup=asyncio.TaskGroup)
        monkeypatch.setattr(module, "asyncio", asynchronous)
        return place

    return build


@pytest.fixture
async def scene(tmp_path, clocked):
    return Scene(await clocked(configured(tmp_path)).open())


# In peace


async def test_every_server_is_probed_at_the_start_and_then_at_each_interval(scene):
    start = scene.clock.ticks
    async with scene.running():
        assert set(scene.servers.times("west-0")) == set(scene.servers.times("east-0")) == {start}
        await scene.clock.passes(20.0)
    pauses = [b - a for a, b in itertools.pairwise(scene.servers.times("west-0"))]
    assert len(pauses) == 3
    assert all(5.0 <= pause <= 5.0 + TICK_S + 1e-6 for pause in pauses)


async def test_a_probe_takes_less_than_half_of_the_time_promised(scene):
    async with scene.running():
        await scene.clock.passes(6.0)
    assert scene.servers.timeouts_s == {0.9}


async def test_probes_follow_the_fleet(scene, tmp_path):
    async with scene.running():
        await scene.place.runtime.reload(configured(tmp_path, {"endpoints/0/name": "new-0"}))
        scene.servers.asked.clear()
        await scene.clock.passes(12.0)
    assert scene.servers.times("new-0")
    assert not scene.servers.times("west-0")


async def test_a_reload_during_a_probe_does_no_harm(scene, tmp_path):
    scene.servers.says["west-0"] = Probe.SILENT
    old = scene.seat("west-0")
    async with scene.running():
        await scene.place.runtime.reload(configured(tmp_path, {"endpoints/0/name": "new-0"}))
        await scene.clock.passes(2.0)
    assert old.health.state is State.EJECTED
    assert scene.seat("new-0").health.state is State.HEALTHY
    assert scene.eligible() == {"new-0", "east-0"}


async def test_the_answer_of_a_server_is_taken_in_before_its_model_is_asked_for(scene):
    """One that is out comes back though the other question hangs."""
    scene.servers.says["west-0"] = Probe.REFUSED
    async with scene.running():
        await scene.clock.passes(0.2)
        scene.servers.says.clear()
        scene.servers.models["west-0", "llama-3.1-8b"] = Probe.SILENT
        await scene.clock.passes(0.8)
        assert scene.eligible() == {"west-0", "east-0"}


# Out and back


async def test_a_server_whose_page_says_that_no_engine_runs_is_out_until_it_does(scene):
    loads = scene.place.runtime.loads
    async with scene.running():
        loads.polled("west-0", Load(0.0, 0.0, 0.0, 0.0, healthy=False), 0.0)
        await scene.clock.passes(5.0 + TICK_S)
        assert scene.eligible() == {"east-0"}
        assert scene.seat("west-0").health.cause is Cause.NOT_READY
        loads.polled("west-0", Load(0.0, 0.0, 0.0, 0.0), 0.0)
        await scene.clock.passes(0.8)
        assert scene.eligible() == {"west-0", "east-0"}


async def test_a_page_that_is_read_no_more_keeps_no_server_out(scene):
    loads = scene.place.runtime.loads
    loads.polled("west-0", Load(0.0, 0.0, 0.0, 0.0, healthy=False), 0.0)
    async with scene.running():
        assert scene.eligible() == {"east-0"}
        await scene.clock.passes(10.0 + 2.5 + TICK_S)
        assert scene.eligible() == {"west-0", "east-0"}


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Probe.NOT_READY, Cause.NOT_READY),
        (Probe.REFUSED, Cause.UNREACHABLE),
        (Probe.SILENT, Cause.SILENT),
    ],
)
async def test_a_server_that_fails_a_probe_is_out_and_back_soon_after(scene, answer, cause, caplog):
    scene.servers.says["west-0"] = answer
    async with scene.running():
        await scene.clock.passes(1.0)
        assert (scene.eligible(), scene.seat("west-0").cause) == ({"east-0"}, cause)
        await scene.clock.passes(30.0)
        assert (scene.eligible(), scene.place.watch.ejections) == ({"east-0"}, ["west-0"])
        scene.servers.says.clear()
        await scene.clock.passes(2.5 * 1.1 + 0.9 + TICK_S)
        assert scene.eligible() == {"west-0", "east-0"}
    line, back = caplog.records
    assert (line.levelno, line.endpoint, line.cause) == (logging.WARNING, "west-0", str(cause))
    assert (back.message, back.endpoint) == ("endpoint is back", line.endpoint)


async def test_a_dead_fleet_is_out_as_a_whole_and_not_ready(scene):
    scene.servers.says = {"west-0": Probe.REFUSED, "east-0": Probe.SILENT}
    async with scene.running():
        await scene.clock.passes(6.0)
        assert scene.eligible() == set()
        assert not scene.place.runtime.readiness().ready
        scene.servers.says.clear()
        await scene.clock.passes(4.0)
        assert scene.place.runtime.readiness().ready


async def test_a_server_that_does_not_know_the_question_stays(scene):
    scene.servers.says["west-0"] = Probe.UNKNOWN
    async with scene.running():
        await scene.clock.passes(30.0)
    assert scene.eligible() == {"west-0", "east-0"}


async def test_a_restart_costs_one_ejection_and_ends_with_the_first_ready_probe(scene):
    async with scene.running():
        scene.seat("west-0").health.lose(scene.clock.ticks)
        scene.servers.says["west-0"] = Probe.REFUSED
        await scene.clock.passes(2 * TICK_S)
        assert scene.seat("west-0").health.state is State.EJECTED
        scene.servers.says.clear()
        await scene.clock.passes(1.0)
        assert scene.seat("west-0").health.state is State.HEALTHY


async def test_an_endpoint_that_is_out_keeps_its_requests_when_it_says_so_itself(scene):
    """NOT_READY comes from one that shuts down, and answers what it has."""
    lease = scene.sent("west-0")
    scene.servers.says["west-0"] = Probe.NOT_READY
    async with scene.running():
        await scene.clock.passes(3.0)
    assert scene.servers.resets == []
    lease.close(Outcome.SUCCEEDED)


# Silence


@pytest.mark.parametrize("phase_s", [0.0, 0.03, 0.0999, 0.35, 0.47, 4.9, 4.99])
async def test_one_that_freezes_under_a_request_is_out_and_given_up_in_time(scene, phase_s):
    async with scene.running():
        await scene.clock.passes(phase_s)
        scene.sent("west-0", run_s=30.0)
        scene.servers.says["west-0"] = Probe.SILENT
        await scene.clock.passes(2.0)
    assert scene.seat("west-0").health.cause is Cause.SILENT
    assert scene.servers.resets == ["west-0"]
    assert scene.eligible() == {"east-0"}


async def test_one_that_freezes_between_the_two_questions_is_out_in_time(scene):
    async with scene.running():
        await scene.clock.passes(1.0)
        scene.sent("west-0", run_s=30.0)
        scene.servers.models["west-0", "llama-3.1-8b"] = Probe.SILENT
        while len(scene.servers.times("west-0")) < 2:
            await scene.clock.passes(0.01)
        scene.servers.says["west-0"] = Probe.SILENT
        await scene.clock.passes(2.0)
        assert scene.seat("west-0").health.cause is Cause.SILENT


async def test_callers_that_give_up_are_no_sign_of_life(scene):
    """Requests with 0.3 s of patience each half second: the frozen one keeps them for seconds."""
    async with scene.running():
        await scene.clock.passes(0.5)
        scene.servers.says["west-0"] = Probe.SILENT
        for _ in range(4):
            lease = scene.sent("west-0")
            await scene.clock.passes(0.3)
            lease.close(Outcome.IGNORED)
            await scene.clock.passes(0.2)
        assert not scene.seat("west-0").health.admits(0)


async def test_a_new_server_that_gets_a_request_before_the_first_tick_stays(scene):
    scene.sent("west-0", run_s=30.0)
    async with scene.running():
        await scene.clock.passes(10.0)
    assert (scene.servers.resets, scene.place.watch.ejections) == ([], [])


async def test_one_that_freezes_idle_is_out_by_its_turn_and_nothing_is_given_up(scene):
    async with scene.running():
        scene.servers.says["west-0"] = Probe.SILENT
        await scene.clock.passes(5.5 + TICK_S + 0.9)
    assert scene.seat("west-0").health.cause is Cause.SILENT
    assert scene.servers.resets == []


async def test_long_work_that_is_silent_is_probed_now_and_then_and_left_alone(scene):
    scene.seat("west-0").signs += 1
    async with scene.running():
        lease = scene.sent("west-0", run_s=30.0)
        await scene.clock.passes(60.0)
        assert 60 <= len(scene.servers.times("west-0")) <= 125
        assert scene.servers.resets == []
        lease.close(Outcome.SUCCEEDED)
    assert scene.eligible() == {"west-0", "east-0"}


async def test_tokens_are_signs_enough(scene):
    async with scene.running():
        scene.sent("west-0")
        for _ in range(200):
            scene.seat("west-0").signs += 1
            await scene.clock.passes(TICK_S)
    assert len(scene.servers.times("west-0")) <= 5


async def test_one_that_answers_probes_and_no_request_is_given_up_at_last(scene):
    async with scene.running():
        await scene.clock.passes(1.0)
        scene.seat("west-0").signs += 1
        scene.sent("west-0", run_s=0.5)
        await scene.clock.passes(_STUCK_S - 1.0)
        assert scene.servers.resets == []
        await scene.clock.passes(2.0)
        assert (scene.servers.resets, scene.eligible()) == (["west-0"], {"east-0"})
    assert scene.place.watch.ejections == ["west-0"]


async def test_a_gateway_that_stood_still_blames_nobody_for_it(scene):
    scene.servers.says["west-0"] = Probe.SILENT
    async with scene.running():
        scene.sent("west-0", run_s=30.0)
        await scene.clock.passes(0.5)
        scene.servers.says.clear()
        await scene.clock.stands_still(5.0)
        await scene.clock.passes(1.0)
    assert scene.eligible() == {"west-0", "east-0"}
    assert scene.place.watch.ejections == []


async def test_a_gateway_that_stood_still_listens_before_it_asks(scene):
    async with scene.running():
        scene.sent("west-0", run_s=30.0)
        await scene.clock.passes(0.3)
        await scene.clock.stands_still(3.0)
        await scene.clock.passes(0.3)
        assert len(scene.servers.times("west-0")) == 1
        await scene.clock.passes(0.4)
        assert len(scene.servers.times("west-0")) == 2


async def test_a_gateway_that_stood_still_still_finds_who_is_frozen(scene):
    scene.servers.says["west-0"] = Probe.SILENT
    async with scene.running():
        scene.sent("west-0", run_s=30.0)
        await scene.clock.passes(0.5)
        await scene.clock.stands_still(5.0)
        await scene.clock.passes(2.0)
        assert scene.eligible() == {"east-0"}


# Models


async def test_a_model_that_its_server_lost_is_out_there_alone(scene, caplog):
    scene.servers.models["east-0", "llama-3.1-8b"] = Probe.NOT_READY
    async with scene.running():
        await scene.clock.passes(12.0)
        assert (scene.eligible(), scene.eligible(CLASSIFIER)) == ({"west-0"}, {"east-0"})
        assert scene.place.watch.ejections == []
        scene.servers.models.clear()
        await scene.clock.passes(12.0)
        assert scene.eligible() == {"west-0", "east-0"}
    assert [line.model for line in caplog.records] == ["llama-3.1-8b"] * 2


async def test_models_are_asked_for_by_turns(scene):
    async with scene.running():
        await scene.clock.passes(21.0)
    asked = [name for _, name in scene.servers.asked if name.startswith("east-0 ")]
    names = ["east-0 llama-3.1-8b", "east-0 classifier"]
    assert asked in ([*names, *names], [*names[::-1], *names[::-1]], [*names, *names, names[0]])


@pytest.mark.parametrize("answer", [Probe.UNKNOWN, Probe.SILENT, Probe.REFUSED])
async def test_a_server_that_does_not_say_whether_it_has_a_model_has_it(scene, answer):
    scene.servers.models["west-0", "llama-3.1-8b"] = answer
    async with scene.running():
        await scene.clock.passes(12.0)
        assert scene.eligible() == {"west-0", "east-0"}


# Many


def many(tmp_path, count):
    one = {
        "region": "us-west", "max_in_flight": 4,
        "models": [{"name": "llama-3.1-8b", "profile": "llama-3.1-8b@1xh100"}],
    }  # fmt: skip
    endpoints = [{**one, "name": f"e{n}", "address": f"127.0.0.1:{9000 + n}"} for n in range(count)]
    return configured(tmp_path, {"endpoints": endpoints, "profiles": DELETE})


async def test_a_large_fleet_is_probed_some_at_a_time_and_all_of_it(tmp_path, clocked):
    scene = Scene(await clocked(many(tmp_path, 150)).open())
    scene.servers.says = {f"e{n}": Probe.SILENT for n in range(150)}
    async with scene.running():
        await scene.clock.passes(8.0)
        assert scene.servers.most_under_way <= 64
        assert scene.eligible() == set()


async def test_every_server_of_a_fleet_is_probed_though_many_hang(tmp_path, clocked):
    scene = Scene(await clocked(many(tmp_path, 500)).open())
    scene.servers.says = {f"e{n}": Probe.SILENT for n in range(500)}
    async with scene.running():
        await scene.clock.passes(18.0)
        assert scene.eligible() == set()


async def test_a_region_that_freezes_as_a_whole_is_out_in_time(tmp_path, clocked):
    scene = Scene(await clocked(many(tmp_path, 150)).open())
    async with scene.running():
        await scene.clock.passes(6.0)
        for number in range(150):
            scene.sent(f"e{number}", run_s=30.0)
            scene.servers.says[f"e{number}"] = Probe.SILENT
        await scene.clock.passes(2.0)
        assert len(scene.eligible()) == 1
        await scene.clock.passes(4.0)
        assert scene.eligible() == set()
    assert len(scene.servers.resets) == 150


async def test_the_last_in_service_is_given_more_time_to_break_its_silence(tmp_path, clocked):
    """Nobody could take what hangs there: a moment's freeze need not cost anything."""
    scene = Scene(await clocked(many(tmp_path, 2)).open())
    async with scene.running():
        await scene.clock.passes(6.0)
        for name in ("e0", "e1"):
            scene.sent(name, run_s=0.1)
            scene.servers.says[name] = Probe.SILENT
        await scene.clock.passes(2.0)
        assert len(scene.eligible()) == 1
        scene.servers.says.clear()
        await scene.clock.passes(10.0)
        assert scene.eligible() == {"e0", "e1"}


async def test_those_that_wait_longest_for_their_probe_are_probed_first(tmp_path, clocked):
    """Two rounds of a fleet that takes three turns each: nobody's second is before another's
    first."""
    scene = Scene(await clocked(many(tmp_path, 150)).open())
    scene.servers.says = {f"e{n}": Probe.SILENT for n in range(150)}
    async with scene.running():
        await scene.clock.passes(6.0)
    firsts = max(scene.servers.times(f"e{n}")[0] for n in range(150))
    seconds = [scene.servers.times(f"e{n}")[1:2] for n in range(150)]
    assert all(times[0] >= firsts for times in seconds if times)


async def test_those_with_requests_are_probed_first(tmp_path, clocked):
    scene = Scene(await clocked(many(tmp_path, 150)).open())
    scene.servers.says = {f"e{n}": Probe.SILENT for n in range(150)}
    scene.sent("e149")
    async with scene.running():
        await scene.clock.passes(0.95)
        assert scene.seat("e149").health.state is State.EJECTED


# Defects


class Defect:
    """The probes of west-0 hang until told to die; those of others are answered."""

    def __init__(self, servers):
        self.answer = servers.probe
        self.dies = asyncio.get_running_loop().create_future()

    async def probe(self, endpoint, timeout_s):
        if endpoint.name == "west-0":
            await self.dies
            raise ValueError("a defect")
        return await self.answer(endpoint, timeout_s)


async def test_a_probe_that_dies_leaves_nothing_behind_that_a_restart_would_miss(scene):
    scene.servers.says["west-0"] = ValueError("a defect")
    with pytest.raises(ExceptionGroup):
        await scene.prober.run()
    scene.servers.says["west-0"] = Probe.NOT_READY
    async with scene.running():
        await scene.clock.passes(6.0)
        assert scene.eligible() == {"east-0"}


async def test_a_probe_cancelled_before_it_ran_is_made_up_for_after_a_restart(scene):
    """Another one dies in the moment in which this one is created."""
    defect = Defect(scene.servers)
    scene.servers.probe = defect.probe
    running = asyncio.get_running_loop().create_task(scene.prober.run())
    await scene.clock.passes(0.05)
    scene.clock.advance(5.6)
    _, _, woken = scene.clock._sleepers.pop()
    defect.dies.set_result(None)
    woken.set_result(None)
    with pytest.raises(ExceptionGroup):
        await running
    scene.servers.probe, before = defect.answer, len(scene.servers.times("east-0"))
    async with scene.running():
        await scene.clock.passes(6.0)
    assert len(scene.servers.times("east-0")) > before
    assert scene.prober._under_way == 0


async def test_it_can_be_stopped_while_probes_are_out(scene):
    scene.servers.says = {"west-0": Probe.SILENT, "east-0": Probe.SILENT}
    before = asyncio.all_tasks()
    async with scene.running():
        assert scene.servers.under_way == 2
    assert asyncio.all_tasks() == before
    assert not scene.seat("west-0").health.probe_out
