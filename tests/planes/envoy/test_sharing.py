"""Several planes on one store: an endpoint gets no more than it may have, whoever asks."""

import asyncio
import contextlib
import shutil

import grpc
import pytest

from router.app.envoy import run_folder
from tests.e2e import harness as h
from tests.e2e.test_fleet_loads import CAP, counting, insist, keep, sees, shared
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig
from tests.state.redis.servers import Server

pytestmark = [hosts.missing, pytest.mark.timeout(300)]
PLANES = ("a", "b")
CALLERS, REQUESTS = 8, 8


@pytest.fixture
def redis():
    made = Server().start()
    yield made
    made.close()


def plane(folder, servers, url):
    folder.mkdir()
    endpoints = [
        h.endpoint(f"s{i}", "north" if i else "here", f"127.0.0.1:{one.port}", max_in_flight=CAP)
        for i, one in enumerate(servers)
    ]
    return rig.EnvoyGateway(folder, h.base(endpoints, state={"redis": {"url": url}}))


async def test_two_planes_are_one_router_in_who_may_have_which_place(tmp_path, redis):
    async with counting(2) as servers, contextlib.AsyncExitStack() as stack:
        starts = (asyncio.to_thread(plane, tmp_path / one, servers, redis.url) for one in PLANES)
        planes = await asyncio.gather(*starts)
        for one in planes:
            stack.callback(shutil.rmtree, run_folder(one.path), ignore_errors=True)
            stack.callback(one.stop)
        for one in planes:
            await sees(one, len(PLANES))
            await h.until(lambda one=one: shared(one), "places being shared")
        clients = [await stack.enter_async_context(one.client()) for one in planes]
        await asyncio.gather(
            *(insist(client, REQUESTS) for client in clients for _ in range(CALLERS))
        )
        assert sum(server.served for server in servers) == len(PLANES) * CALLERS * REQUESTS
        await keep(servers, planes)
        for one in planes:
            await h.until(one.quiet, "every end")
            await h.until(one.idle, "every end")

        # Whatever one of them has, the other leaves to it: all of it, while one has nothing.
        for server in servers:
            server.go.clear()
        calls = []

        async def all_of_it():
            if sum(server.running for server in servers) == len(servers) * CAP:
                return True
            calls.append(asyncio.ensure_future(insist(clients[0])))
            return False

        await h.until(all_of_it, "one plane having all")
        with pytest.raises(grpc.aio.AioRpcError):
            await clients[1].receipt(timeout=2.0)
        for server in servers:
            server.go.set()
        await asyncio.gather(*calls)
        await keep(servers, planes)
