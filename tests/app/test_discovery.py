"""What is found is put in force: coalesced, with what was learned kept, and said."""

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from router.app import discovery as module
from router.app.discovery import Discovery
from router.app.retirement import Retirement
from router.errors import ConfigError, NothingFeasibleError
from router.model import FoundEndpoint
from router.telemetry.discovery import DiscoveryMetrics
from tests.app.support import Place, configured
from tests.config.test_found import MODEL, TEMPLATE, place

PATIENCE_S = 20.0
A, B = FoundEndpoint("a", "10.0.0.1:8000"), FoundEndpoint("b", "10.0.0.2:8000")


class Finder:
    """Tells what a test says."""

    def __init__(self):
        self.listener = None
        self.started = asyncio.Event()
        self.error = None

    async def run(self, listener):
        self.listener = listener
        self.started.set()
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


class Scene:
    def __init__(self, served):
        self.served = served
        self.runtime = served.runtime
        self.finders = {}
        self.registry = CollectorRegistry()
        self.adopted = 0
        self.discovery = Discovery(
            served.runtime, self._build, DiscoveryMetrics(self.registry), self._adopted
        )

    def _build(self, settings):
        return self.finders.setdefault(settings.name, Finder())

    def _adopted(self):
        self.adopted += 1

    @property
    def names(self):
        return [one.name for one in self.runtime.config.fleet.endpoints]

    @property
    def reasons(self):
        return {one.reason: one.detail for one in self.runtime.readiness().reasons}

    async def until(self, holds):
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.001)

    async def finder(self, name="pods"):
        await self.until(lambda: name in self.finders)
        await self.finders[name].started.wait()
        return self.finders[name]

    def metric(self, name, **labels):
        return self.registry.get_sample_value(f"carbon_router_{name}", labels)

    @contextlib.asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.discovery.run(Retirement({}, self.runtime)))
            yield
            task.cancel()


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHECK_S", 0.01)
    monkeypatch.setattr(module, "_REVIVE_S", 0.01)
    return Scene(await Place(configured(tmp_path, {"discovery": [place()]})).open())


async def test_many_changes_are_one_and_what_stays_keeps_its_seat(scene):
    async with scene.running():
        finder = await scene.finder()
        seat = scene.served.seat("west-0")
        for last in range(1, 50):
            finder.listener.found([A, FoundEndpoint(f"n{last}", f"10.0.1.{last}:80")])
        finder.listener.found([A, B])
        await scene.until(lambda: scene.adopted)
        assert scene.names == ["west-0", "east-0", "pods/a", "pods/b"]
        assert scene.adopted == 1
        assert scene.served.seat("west-0") is seat
        found = scene.served.seat("pods/a")
        finder.listener.found([A])
        await scene.until(lambda: scene.adopted == 2)
        assert scene.names == ["west-0", "east-0", "pods/a"]
        assert scene.served.seat("pods/a") is found
        assert scene.metric("fleet_changes_total", outcome="applied") == 2
        await scene.until(
            lambda: scene.metric("discovery_endpoints", place="pods", outcome="routed") == 1
        )


async def test_the_same_again_changes_nothing(scene):
    async with scene.running():
        finder = await scene.finder()
        finder.listener.found([A])
        await scene.until(lambda: scene.adopted)
        board = scene.runtime.board
        finder.listener.found([A])
        await scene.discovery.stand(PATIENCE_S)
        await scene.until(lambda: not scene.discovery._due.is_set())
        assert scene.runtime.board is board


async def test_a_failure_takes_nothing_away_and_is_said(scene):
    async with scene.running():
        finder = await scene.finder()
        finder.listener.failed("no such file")
        await scene.discovery.stand(PATIENCE_S)
        assert "no such file" in scene.reasons["discovery_unread"]
        finder.listener.found([A])
        await scene.until(lambda: scene.adopted)
        assert "discovery_unread" not in scene.reasons
        finder.listener.failed("gone")
        assert "gone" in scene.reasons["discovery_stale"]
        assert scene.names[2:] == ["pods/a"]
        assert scene.metric("discovery_failures_total", place="pods") == 2
        await scene.until(lambda: not scene.discovery._due.is_set())
        finder.listener.failed("gone")
        assert scene.metric("discovery_failures_total", place="pods") == 3
        assert not scene.discovery._due.is_set()


async def test_what_is_left_out_is_said(scene):
    async with scene.running():
        finder = await scene.finder()
        finder.listener.found([A, B._replace(address="nowhere")])
        await scene.until(lambda: scene.adopted)
        assert "pods: 'b': its address is not host:port" in scene.reasons["discovery_left_out"]
        assert scene.runtime.readiness().ready


async def test_a_finder_that_dies_is_revived(scene):
    scene.finders["pods"] = finder = Finder()
    finder.error = RuntimeError("a bug")
    async with scene.running():
        await scene.until(lambda: "RuntimeError" in scene.reasons.get("discovery_unread", ""))
        finder.error = None
        finder.started.clear()
        await finder.started.wait()
        finder.listener.found([A])
        await scene.until(lambda: scene.adopted)


async def test_a_reload_keeps_what_is_found_and_changes_what_is_taken_of_it(scene, tmp_path):
    async with scene.running():
        (await scene.finder()).listener.found([A])
        await scene.until(lambda: scene.adopted)
        wider = {**TEMPLATE, "max_in_flight": 7}
        await scene.runtime.reload(configured(tmp_path, {"discovery": [place(template=wider)]}))
        assert scene.runtime.config.fleet.endpoints[-1].max_in_flight == 7
        await scene.runtime.reload(configured(tmp_path))
        await scene.until(lambda: not scene.runtime.found)
        assert scene.names == ["west-0", "east-0"]


async def test_what_cannot_be_reached_as_it_should_leaves_the_fleet(scene, monkeypatch):
    async def broken():
        raise ConfigError("x", [("key", "gone")])

    async with scene.running():
        finder = await scene.finder()
        with monkeypatch.context() as patched:
            patched.setattr(scene.runtime, "adopt_found", broken)
            finder.listener.found([A])
            await scene.until(lambda: scene.metric("fleet_changes_total", outcome="refused"))
        finder.listener.found([A])
        await scene.until(lambda: scene.adopted)


async def test_a_model_that_nobody_serves_yet_may_be_asked_for_again(tmp_path):
    lengths = {"input_tokens": 10, "output_tokens": 10, "output_tokens_p95": 20}
    changes = {"discovery": [place()], "endpoints": [], "models": {MODEL: lengths}}
    served = await Place(configured(tmp_path, changes)).open()
    assert not served.runtime.readiness().ready
    with pytest.raises(NothingFeasibleError):
        await served.infer()
    served.runtime.found["pods"] = (A,)
    assert await served.runtime.adopt_found()
    assert served.runtime.config.fleet.endpoints[0].name == "pods/a"
