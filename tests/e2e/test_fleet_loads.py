"""Gateways that share a store act as one: no endpoint gets more than it may have, whoever asks.

Servers here count what runs on them, so that no gateway's word is taken for it.
"""

import asyncio
import contextlib
import signal

import grpc
import pytest

from router._pb import inference_pb2 as pb
from tests.e2e.harness import SERVICE, Gateway, base, endpoint, until
from tests.ports import free_ports
from tests.state.redis.servers import Server

GATEWAYS = 6
CAP = 6
# So many callers a gateway that not all of them can be served at once.
CALLERS = 5
REQUESTS = 8
SERVICE_S = 0.15


class CountingServer:
    """A model server that knows the most that ever ran on it at once; ``hold``: none is answered
    until it is let go."""

    def __init__(self, port):
        self.port, self.running, self.peak, self.served = port, 0, 0, 0
        self.go = asyncio.Event()
        self.go.set()
        self._server = grpc.aio.server()
        ready = {
            "ServerLive": pb.ServerLiveResponse(live=True),
            "ServerReady": pb.ServerReadyResponse(ready=True),
            "ModelReady": pb.ModelReadyResponse(ready=True),
        }
        handlers = {name: self._saying(answer) for name, answer in ready.items()}
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.strip("/"), handlers),)
        )
        self._server.add_insecure_port(f"127.0.0.1:{port}")

    @staticmethod
    def _saying(answer):
        async def say(_request, _context):
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(say)

    async def _infer(self, request, _context):
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(SERVICE_S)
            await self.go.wait()
        finally:
            self.running -= 1
        self.served += 1
        asked = pb.ModelInferRequest.FromString(request)
        answer = pb.ModelInferResponse(model_name=asked.model_name, id=asked.id)
        return answer.SerializeToString()

    async def start(self):
        await self._server.start()

    async def stop(self):
        self.go.set()
        await self._server.stop(None)


@contextlib.asynccontextmanager
async def counting(count):
    servers = [CountingServer(port) for port in free_ports(count)]
    for server in servers:
        await server.start()
    try:
        yield servers
    finally:
        for server in servers:
            await server.stop()


@pytest.fixture
def redis():
    made = Server().start()
    yield made
    made.close()


@pytest.fixture
def start(spawn, redis, tmp_path):
    """Starts gateways of one fleet, each in a folder of its own, all at once."""

    def one(name, servers):
        folder = tmp_path / name
        folder.mkdir()
        endpoints = [
            endpoint(f"s{i}", "north" if i else "here", f"127.0.0.1:{server.port}",
                     max_in_flight=CAP)
            for i, server in enumerate(servers)
        ]  # fmt: skip
        config = base(endpoints, state={"redis": {"url": redis.url}})
        return spawn(lambda _: Gateway(folder, config))

    async def started(servers, *names):
        starts = (asyncio.to_thread(one, name, servers) for name in names)
        return await asyncio.gather(*starts)

    return started


async def insist(client, times=1):
    """Ask until answered: a gateway that has no place says so after a moment."""
    answered = 0
    while answered < times:
        try:
            await client.receipt()
            answered += 1
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise


async def processes(gateway):
    return await gateway.total("gateway_processes")


async def sees(gateway, count):
    async def seen():
        return await processes(gateway) == count

    await until(seen, f"{count} processes being seen")


async def shared(gateway):
    return await gateway.total("place_sharing", standing="shared") == 1


async def keep(servers, gateways):
    """Peaks are what endpoints take. Where the machine kept the store's answers from a gateway for
    a second, it was on its own for a moment, and says so."""
    peaks = [server.peak for server in servers]
    lifts = sum([await one.total("place_lifts_total") for one in gateways])
    assert min(peaks) >= CAP
    assert lifts or max(peaks) == CAP


async def test_six_gateways_are_one_router_in_who_may_have_which_place(start):
    async with counting(3) as servers:
        fleet = await start(servers, *"abcdef")
        for gateway in fleet:
            await sees(gateway, GATEWAYS)
            await until(lambda one=gateway: shared(one), "places being shared")
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(one.client()) for one in fleet]
            await asyncio.gather(
                *(insist(client, REQUESTS) for client in clients for _ in range(CALLERS))
            )
        assert sum(server.served for server in servers) == GATEWAYS * CALLERS * REQUESTS
        # All of the room is used, and no more than there is.
        await keep(servers, fleet)

        # One dies with requests under way; what it had is had by others within moments.
        victim, *others = fleet
        for server in servers:
            server.go.clear()
        async with victim.client() as client:
            # A place that another gateway has is had after a moment, which may be a refusal's.
            calls = [asyncio.ensure_future(insist(client)) for _ in range(4)]

            async def running():
                return sum(server.running for server in servers) > 0

            await until(running, "some of them being under way")
            victim.tell(signal.SIGKILL)
            victim.wait()
            # Its end is the test's doing.
            victim.process.returncode = 0
            await asyncio.gather(*calls, return_exceptions=True)
        for gateway in others:
            await sees(gateway, GATEWAYS - 1)
        for server in servers:
            server.go.set()

        # Whoever comes is seen, and whoever goes is gone, without a word of configuration.
        (late,) = await start(servers, "g")
        await sees(others[0], GATEWAYS)
        assert late.stop() == 0
        await sees(others[0], GATEWAYS - 1)
        async with others[0].client() as client:
            await asyncio.gather(*(insist(client) for _ in range(3 * CAP)))
        await keep(servers, others)


async def test_gateways_serve_on_without_the_store_say_so_and_share_again(start, redis):
    async with counting(2) as servers:
        fleet = await start(servers, *"ab")
        for gateway in fleet:
            await until(lambda one=gateway: shared(one), "places being shared")
        redis.kill()

        async def alone(gateway):
            _, body = await gateway.readiness()
            return "gateways_unseen" in {reason["reason"] for reason in body["reasons"]}

        for gateway in fleet:
            await until(lambda one=gateway: alone(one), "the loss being told")
            async with gateway.client() as client:
                # Its part of the places, and then what else there is: nothing fails.
                await asyncio.gather(*(client.receipt() for _ in range(2 * CAP)))
        redis.start()
        for gateway in fleet:
            await until(lambda one=gateway: shared(one), "places being shared again")
            assert not await alone(gateway)
