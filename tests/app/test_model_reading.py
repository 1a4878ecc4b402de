"""Servers are asked what their models take: at the start, after trouble, and now and then."""

import asyncio
import contextlib
import math
from types import SimpleNamespace

import pytest

from router.app import model_reading as module
from router.app.model_reading import REREAD_S, RETRY_S, TICK_S, ModelReader
from router.contract import StatedModel, Upstream
from router.errors import UpstreamDeniedError
from router.model import UNLIMITED
from tests.app.support import Place, configured
from tests.app.test_probing import Time, turns
from tests.config.samples import DELETE
from tests.factories import Dice

MODEL = "llama-3.1-8b"


class Catalogue:
    """Answers with what a test says of an endpoint's models."""

    def __init__(self, clock):
        self.clock = clock
        self.says = {}
        self.asked = []

    async def models(self, endpoint, timeout_s):
        self.asked.append((self.clock.ticks, endpoint.name))
        said = self.says.get(endpoint.name, {})
        if isinstance(said, Exception):
            raise said
        if said is None:
            await asyncio.Event().wait()
        return {name: StatedModel(True, tokens) for name, tokens in said.items()}

    def times(self, name):
        return [at for at, asked in self.asked if asked == name]


class Scene:
    def __init__(self, place):
        self.place = place
        self.clock = place.clock
        self.catalogue = Catalogue(self.clock)
        upstreams = {"oip": Upstream(None, None, catalogue=self.catalogue)}
        self.reader = ModelReader(place.runtime, upstreams, self.clock, Dice())

    @contextlib.asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.reader.run())
            await self.clock.passes(0.0)
            yield
            task.cancel()

    async def settled(self):
        """What was heard is in force: a view is built in a thread."""
        while not self.place.runtime.is_restated:
            await self.clock.passes(TICK_S)
            await asyncio.sleep(0.001)
        await turns()

    def contexts(self):
        candidates = self.place.view.snapshot.layout.find(MODEL, "")
        pairs = zip(candidates.endpoints, candidates.served, strict=True)
        return {endpoint.name: served.context_tokens for endpoint, served in pairs}


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    place = Place(configured(tmp_path, {"endpoints/0/models/0/context_tokens": DELETE}))
    place.clock = time = Time()
    place.runtime.clock = time
    made = Scene(await place.open())
    fake = SimpleNamespace(sleep=time.sleep, TaskGroup=asyncio.TaskGroup, timeout=asyncio.timeout)
    monkeypatch.setattr(module, "asyncio", fake)
    return made


async def test_what_servers_say_narrows_what_is_configured_and_fills_in_what_is_not(scene):
    before = scene.contexts()
    assert UNLIMITED in before.values()
    (free,) = (name for name, tokens in before.items() if tokens == UNLIMITED)
    bounded = next(name for name in before if name != free)
    scene.catalogue.says = {free: {MODEL: 2048.0}, bounded: {MODEL: before[bounded] * 2}}
    async with scene.running():
        await scene.settled()
        assert scene.contexts() == {**before, free: 2048.0}
        assert scene.place.view.snapshot.layout.contexts[MODEL] == before[bounded]


async def test_everybody_is_asked_at_once_and_then_slowly(scene):
    async with scene.running():
        assert {name for _, name in scene.catalogue.asked} == set(scene.contexts())
        name = scene.catalogue.asked[0][1]
        await scene.clock.passes(1.1 * REREAD_S)
        first, again = scene.catalogue.times(name)
        assert 0.8 * REREAD_S <= again - first <= 1.2 * REREAD_S + TICK_S


async def test_one_that_does_not_say_is_asked_again_sooner_and_keeps_what_it_said(scene):
    name = next(iter(scene.contexts()))
    scene.catalogue.says = {name: {MODEL: 2048.0}}
    async with scene.running():
        await scene.settled()
        scene.catalogue.says = {name: UpstreamDeniedError("no", status="401")}
        await scene.clock.passes(1.2 * REREAD_S + TICK_S)
        asked = len(scene.catalogue.times(name))
        await scene.clock.passes(1.2 * RETRY_S + TICK_S)
        assert len(scene.catalogue.times(name)) > asked
        assert scene.contexts()[name] == 2048.0


async def test_one_that_was_in_trouble_is_asked_once_it_is_back(scene):
    name = next(iter(scene.contexts()))
    health = scene.place.seat(name).health
    async with scene.running():
        await scene.clock.passes(10.0)
        health.refuse(scene.clock.monotonic())
        await scene.clock.passes(10.0)
        assert len(scene.catalogue.times(name)) == 1
        health.readmit(scene.clock.monotonic())
        await scene.clock.passes(TICK_S)
        assert len(scene.catalogue.times(name)) == 2
        await scene.clock.passes(10.0)
        assert len(scene.catalogue.times(name)) == 2


async def test_a_server_that_hangs_keeps_nobody_from_being_asked(scene):
    names = list(scene.contexts())
    scene.catalogue.says = {names[0]: None, names[1]: {MODEL: 1024.0}}
    async with scene.running():
        await scene.settled()
        assert scene.contexts()[names[1]] == 1024.0
        await scene.clock.passes(2.0 * REREAD_S)
        assert len(scene.catalogue.times(names[0])) == 1
        assert len(scene.catalogue.times(names[1])) > 1


async def test_protocols_that_say_nothing_of_models_are_not_asked(scene):
    upstreams = {"oip": Upstream(None, None)}
    scene.reader = ModelReader(scene.place.runtime, upstreams, scene.clock, Dice())
    async with scene.running():
        await scene.clock.passes(REREAD_S)
    assert not scene.catalogue.asked


async def test_a_reload_keeps_what_was_said_and_what_stays(scene, tmp_path):
    names = list(scene.contexts())
    scene.catalogue.says = {name: {MODEL: 1024.0} for name in names}
    async with scene.running():
        await scene.settled()
        changes = {"endpoints/1/address": "127.0.0.1:9999"}
        await scene.place.runtime.reload(configured(tmp_path, changes))
        moved = scene.place.runtime.config.fleet.endpoints[1].name
        kept = scene.contexts()
        assert kept[moved] != 1024.0
        assert all(tokens == 1024.0 for name, tokens in kept.items() if name != moved)
        await scene.clock.passes(TICK_S)
        await scene.settled()
        assert scene.contexts()[moved] == 1024.0


async def test_one_that_went_and_came_back_is_asked_again(scene, tmp_path):
    names = list(scene.contexts())
    scene.catalogue.says = {name: {MODEL: 1024.0} for name in names}
    async with scene.running():
        await scene.settled()
        went = scene.place.runtime.config.fleet.endpoints[1].name
        await scene.place.runtime.reload(configured(tmp_path, {"endpoints/1": DELETE}))
        await scene.clock.passes(TICK_S)
        assert went not in scene.contexts()
        await scene.place.runtime.reload(configured(tmp_path))
        await scene.clock.passes(TICK_S)
        await scene.settled()
        assert scene.contexts()[went] == 1024.0
        assert len(scene.catalogue.times(went)) == 2


async def test_the_view_says_whose_word_holds(scene):
    names = list(scene.contexts())
    scene.catalogue.says = {names[0]: {MODEL: 1024.0}}
    async with scene.running():
        await scene.settled()
        served = {one.name: one.served for one in scene.place.runtime.fleet().endpoints}
        told = next(one for one in served[names[0]] if one.name == MODEL)
        assert (told.stated_tokens, told.listed) == (1024.0, True)
        (other,) = (one for one in served[names[1]] if one.name == MODEL)
        assert math.isnan(other.stated_tokens) and other.listed is None
