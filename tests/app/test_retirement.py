"""Servers that a reload took away keep their channels until nothing runs there any more."""

import asyncio
import contextlib

import pytest

from router.app import retirement as module
from router.app.retirement import Retirement
from router.contract import Upstream
from router.model import UNBURDENED
from tests.app.support import Place, configured
from tests.factories import NOW

WEST, EAST = "127.0.0.1:9001", "127.0.0.1:9002"
NEW = {"endpoints/0/name": "new-0", "endpoints/0/address": "127.0.0.1:9003"}
PATIENCE_S = 20.0


class Channels:
    """Remembers what was kept, each time."""

    def __init__(self):
        self.kept = []
        self.error = None

    async def prune(self, addresses):
        self.kept.append(set(addresses))
        if self.error is not None:
            raise self.error


class Scene:
    def __init__(self, folder, place):
        self.folder = folder
        self.place = place
        self.channels = Channels()
        self.retirement = Retirement({"oip": Upstream(self.channels, None)}, place.runtime)

    async def reload(self, changes=None):
        """Reload, and see off what it took away: a coroutine to run beside."""
        runtime = self.place.runtime
        before, seats = runtime.config.fleet, runtime.board.seats
        await runtime.reload(configured(self.folder, changes))
        return self.retirement.see_off(before, seats)


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHECK_S", 0.0)
    return Scene(tmp_path, await Place(configured(tmp_path)).open())


@contextlib.asynccontextmanager
async def beside(*coroutines):
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        yield [group.create_task(one) for one in coroutines]


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_idle_is_closed_at_once(scene):
    await (await scene.reload(NEW))
    assert scene.channels.kept == [{"127.0.0.1:9003", EAST}]


async def test_what_is_busy_is_closed_when_its_last_request_has_ended(scene):
    seat = scene.place.seat("west-0")
    seat.take(UNBURDENED, NOW)
    seat.take(UNBURDENED, NOW)
    async with beside(await scene.reload(NEW)):
        for _ in range(2):
            await turns()
            assert scene.channels.kept == []
            seat.give_back(UNBURDENED)
    assert scene.channels.kept == [{"127.0.0.1:9003", EAST}]


async def test_nobody_waits_for_requests_on_what_stays(scene):
    scene.place.seat("east-0").take(UNBURDENED, NOW)
    await (await scene.reload(NEW))
    assert len(scene.channels.kept) == 1


async def test_it_waits_no_longer_than_a_shutdown_would(scene, caplog):
    scene.place.seat("west-0").take(UNBURDENED, NOW)
    async with asyncio.timeout(PATIENCE_S):
        await (await scene.reload({**NEW, "server": {"drain_s": 0.01}}))
    assert scene.channels.kept == [{"127.0.0.1:9003", EAST}]
    assert "cut off" in caplog.text


async def test_a_server_that_moved_keeps_its_old_channel_while_it_is_used(scene):
    seat = scene.place.seat("west-0")
    seat.take(UNBURDENED, NOW)
    async with beside(await scene.reload({"endpoints/0/address": "127.0.0.1:9004"})):
        await turns()
        assert scene.channels.kept == []
        seat.give_back(UNBURDENED)
    assert scene.channels.kept == [{"127.0.0.1:9004", EAST}]


async def test_an_address_that_comes_back_meanwhile_is_kept(scene):
    seat = scene.place.seat("west-0")
    seat.take(UNBURDENED, NOW)
    async with beside(await scene.reload(NEW)):
        await turns()
        await (await scene.reload())
        seat.give_back(UNBURDENED)
    assert all(WEST in kept for kept in scene.channels.kept)
    assert scene.channels.kept[-1] == {WEST, EAST}


async def test_one_reload_does_not_cut_what_another_one_waits_for(scene):
    seat = scene.place.seat("west-0")
    seat.take(UNBURDENED, NOW)
    async with beside(await scene.reload(NEW)):
        await turns()
        await (await scene.reload({**NEW, "endpoints/0/address": "127.0.0.1:9005"}))
        assert scene.channels.kept == [{WEST, "127.0.0.1:9005", EAST}]
        seat.give_back(UNBURDENED)
    assert scene.channels.kept[-1] == {"127.0.0.1:9005", EAST}


async def test_a_channel_that_does_not_close_is_only_logged(scene, caplog):
    scene.channels.error = RuntimeError("stuck")
    await (await scene.reload(NEW))
    assert "not closed" in caplog.text


async def test_each_protocol_keeps_its_own_addresses(scene):
    other = Channels()
    upstreams = {"other": Upstream(other, None), "oip": Upstream(scene.channels, None)}
    scene.retirement = Retirement(upstreams, scene.place.runtime)
    other.error = RuntimeError("stuck")
    await (await scene.reload(NEW))
    assert (other.kept, scene.channels.kept) == ([set()], [{"127.0.0.1:9003", EAST}])


async def test_it_can_be_stopped(scene):
    scene.place.seat("west-0").take(UNBURDENED, NOW)
    async with beside(await scene.reload(NEW)) as (task,):
        await turns()
        task.cancel()
    assert task.cancelled()
    assert scene.channels.kept == []
