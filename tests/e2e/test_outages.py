"""What a fleet survives with the settings as they ship: real processes, killed or broken."""

import asyncio
import contextlib
import os
import signal
from collections import Counter

import grpc
import pytest

from router._pb import inference_pb2 as pb
from tests.e2e.harness import (
    QUICK,
    SERVICE,
    Gateway,
    ask,
    base,
    emulator,
    endpoint,
    free_ports,
    until,
)

# Long enough that many are under way when something breaks, in emulated milliseconds a token.
TOKENS = 400


def fleet(green=1, brown=1, **changes):
    """``green`` endpoints in the clean region, ``brown`` in the dirty one."""
    ports = free_ports(green + brown)
    endpoints = [endpoint(f"green-{n}", "north", f"127.0.0.1:{ports[n]}") for n in range(green)]
    endpoints += [
        endpoint(f"brown-{n}", "here", f"127.0.0.1:{ports[green + n]}") for n in range(brown)
    ]
    return base(endpoints, **changes)


@contextlib.contextmanager
def running(folder, config, emulated=None):
    """The gateway before an emulator process for each endpoint (or those ``emulated``)."""
    children = {
        one["name"]: emulator(folder, {**config, "endpoints": [one]}, one["name"])
        for one in config["endpoints"]
        if emulated is None or one["name"] in emulated
    }
    gateway = Gateway(folder, config)
    try:
        yield gateway, children
    finally:
        for child in (gateway, *children.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)
            child.stop()


class Volley:
    """Requests one after the other, each on its way before the last is back."""

    def __init__(self, gateway, tokens=TOKENS, timeout=15.0):
        self.gateway, self.tokens, self.timeout = gateway, tokens, timeout
        self.outcomes = []
        self.places = Counter()

    async def one(self, client):
        call = client.infer(ask(output_tokens=self.tokens), timeout=self.timeout)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            reason = dict(error.trailing_metadata() or ()).get("x-carbon-reason")
            self.outcomes.append((error.code().name, reason))
        else:
            self.outcomes.append(("OK", None))
            trailers = dict(await call.trailing_metadata())
            self.places[trailers["x-carbon-endpoint"]] += 1

    async def send(self, count, after=None, pause_s=0.01):
        """``count`` requests; ``after`` is called when half of them are on their way."""
        async with self.gateway.client() as client, asyncio.TaskGroup() as group:
            for number in range(count):
                if after is not None and number == count // 2:
                    after()
                group.create_task(self.one(client))
                await asyncio.sleep(pause_s)  # spreads them; nothing is waited for

    @property
    def lost(self):
        return [outcome for outcome in self.outcomes if outcome[0] != "OK"]


async def test_a_killed_favourite_loses_none_of_those_under_way(tmp_path):
    with running(tmp_path, fleet(2, 2)) as (gateway, children):
        volley = Volley(gateway)
        await volley.send(80, after=children["green-0"].process.kill)
        assert not volley.lost
        assert volley.places["green-0"] < 80
        await until(gateway.idle)


async def test_a_server_that_drops_everything_at_once_costs_nobody_an_answer(tmp_path):
    """One request makes the emulated server cancel all that runs there, with UNAVAILABLE."""
    with running(tmp_path, fleet(1, 1)) as (gateway, _):
        volley = Volley(gateway)
        async with gateway.client() as client, asyncio.TaskGroup() as group:
            group.create_task(volley.send(60))
            await until(lambda: _under_way(gateway, 20), "many requests being under way")
            told = await client.refusal(x_emulate_fault="reset", x_residency="eu", timeout=5)
            assert told[1] in ("upstream_fault", "upstream_lost")
        assert not volley.lost
        await until(gateway.idle)


async def _under_way(gateway, count):
    return await gateway.in_flight() >= count


async def test_a_region_that_is_lost_with_most_of_the_fleet_is_left_and_nothing_is_lost(tmp_path):
    """Two endpoints of three: a cap that is meant for outliers must not hold."""

    def kill():
        for name in ("green-0", "green-1"):
            children[name].process.kill()

    with running(tmp_path, fleet(2, 1)) as (gateway, children):
        volley = Volley(gateway)
        await volley.send(60, after=kill)
        assert not volley.lost
        states = {name: one["state"] for name, one in (await gateway.endpoints()).items()}
        assert states == {"green-0": "ejected", "green-1": "ejected", "brown-0": "healthy"}
        assert (await gateway.readiness())[0] == 200
        await until(gateway.idle)


async def test_when_all_are_dead_readiness_says_so_and_callers_are_told_at_once(tmp_path):
    with running(tmp_path, fleet(1, 1)) as (gateway, children):
        async with gateway.client() as client:
            assert await client.receipt()
            for child in children.values():
                child.process.kill()

            async def unready():
                status, body = await gateway.readiness()
                return status == 503 and body["reasons"][0]["reason"] == "no_healthy_endpoint"

            await until(unready, "readiness saying so")
            told = await client.refusal(timeout=5.0)
            assert told[:2] == ("UNAVAILABLE", "no_feasible_endpoint")


async def test_an_endpoint_that_comes_back_is_taken_in_again(tmp_path):
    config = fleet(1, 1)
    with running(tmp_path, config) as (gateway, children):
        async with gateway.client() as client:
            assert (await client.receipt())["endpoint"] == "green-0"
            children["green-0"].process.kill()
            children["green-0"].wait()

            async def at(name):
                return (await client.receipt())["endpoint"] == name

            await until(lambda: at("brown-0"), "traffic leaving the dead endpoint")
            one = {**config, "endpoints": config["endpoints"][:1]}
            children["again"] = emulator(tmp_path, one, "again")
            await until(lambda: at("green-0"), "traffic coming back")


async def test_what_hangs_in_a_frozen_server_moves_while_its_callers_wait(tmp_path):
    """Five without any deadline, and the rest with 15 s."""
    with running(tmp_path, fleet(1, 1)) as (gateway, children):
        volley = Volley(gateway, tokens=50)
        async with gateway.client() as client:
            assert (await client.receipt())["endpoint"] == "green-0"
            os.kill(children["green-0"].pid, signal.SIGSTOP)
            endless = Volley(gateway, tokens=50, timeout=None)
            async with asyncio.timeout(30.0):
                await asyncio.gather(endless.send(5), volley.send(30))
        assert not (volley.lost or endless.lost)
        assert set(volley.places + endless.places) == {"brown-0"}
        assert (await gateway.endpoints())["green-0"]["cause"] == "silent"
        await until(gateway.idle)


class Broken:
    """A server that says ready and answers every request with one status."""

    def __init__(self, address, code):
        self.code = code
        self.calls = 0
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        unary = grpc.unary_unary_rpc_method_handler
        handlers = {"ModelInfer": unary(self._infer), "ServerReady": unary(self._ready),
                    "ModelReady": unary(self._ready)}  # fmt: skip
        service = SERVICE.strip("/")
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, handlers),)
        )
        self.server.add_insecure_port(address)

    async def _infer(self, payload, context):
        self.calls += 1
        await context.abort(self.code, "broken")

    async def _ready(self, payload, context):
        return pb.ServerReadyResponse(ready=True).SerializeToString()


CODES = [
    "NOT_FOUND", "PERMISSION_DENIED", "UNIMPLEMENTED", "INTERNAL", "UNKNOWN", "UNAVAILABLE",
    "INVALID_ARGUMENT", "OUT_OF_RANGE",
]  # fmt: skip


@pytest.mark.parametrize("code", CODES)
async def test_a_favourite_that_is_ready_and_broken_costs_nobody_an_answer(tmp_path, code):
    config = fleet(1, 1)
    broken = Broken(config["endpoints"][0]["address"], grpc.StatusCode[code])
    await broken.server.start()
    try:
        with running(tmp_path, config, emulated={"brown-0"}) as (gateway, _):
            volley = Volley(gateway, tokens=4)
            await volley.send(40)
            assert not volley.lost
            assert volley.places == {"brown-0": 40}
            assert broken.calls <= 15
            assert (await gateway.endpoints())["green-0"]["cause"] == "outlier"
    finally:
        await broken.server.stop(0)


async def test_a_fleet_that_is_full_says_so_and_serves_as_soon_as_it_is_not(tmp_path):
    config = fleet(1, 1)
    full = [Broken(one["address"], grpc.StatusCode.RESOURCE_EXHAUSTED)
            for one in config["endpoints"]]  # fmt: skip
    for one in full:
        await one.server.start()
    with running(tmp_path, config, emulated=()) as (gateway, _):
        volley = Volley(gateway, tokens=4)
        await volley.send(40)
        assert {code for code, _ in volley.outcomes} == {"RESOURCE_EXHAUSTED"}
        assert sum(one.calls for one in full) <= 1.2 * 40 + 10
        for one in full:
            await one.server.stop(0)
        green = {**config, "endpoints": config["endpoints"][:1]}
        child = emulator(tmp_path, green, "well-again")
        try:
            async with grpc.aio.insecure_channel(gateway.address, options=QUICK):
                await until(lambda: _answered(gateway), "an answer")
        finally:
            child.stop()


async def _answered(gateway):
    volley = Volley(gateway, tokens=4)
    await volley.send(1)
    return not volley.lost


class Moody:
    """A server that says ready, and does with requests what ``does`` says; valid answers else."""

    def __init__(self, address):
        self.does = "answer"
        self.broken = asyncio.Event()
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        unary = grpc.unary_unary_rpc_method_handler
        stream = grpc.stream_stream_rpc_method_handler
        handlers = {
            "ModelInfer": unary(self._infer), "ModelStreamInfer": stream(self._stream),
            "ServerReady": unary(self._ready), "ModelReady": unary(self._ready),
        }  # fmt: skip
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.strip("/"), handlers),)
        )
        self.server.add_insecure_port(address)

    async def _infer(self, payload, context):
        if self.does == "break":
            await self.broken.wait()
            await context.abort(grpc.StatusCode.INTERNAL, "CUDA error: an illegal memory access")
        if self.does == "garbage":
            return b"\xff\xff\xff"
        if self.does == "nothing":
            return b""
        return pb.ModelInferResponse(model_name="tiny").SerializeToString()

    async def _stream(self, payloads, context):
        async for _ in payloads:
            answer = pb.ModelInferResponse(model_name="tiny", id="r1")
            failed = "failed to run" if self.does == "tell" else ""
            message = pb.ModelStreamInferResponse(infer_response=answer, error_message=failed)
            await context.write(message.SerializeToString())

    async def _ready(self, payload, context):
        return pb.ServerReadyResponse(ready=True).SerializeToString()


@contextlib.asynccontextmanager
async def moody(folder, config):
    """The gateway before a `Moody` green endpoint and an emulated brown one."""
    server = Moody(config["endpoints"][0]["address"])
    await server.server.start()
    try:
        with running(folder, config, emulated={"brown-0"}) as (gateway, _):
            yield gateway, server
    finally:
        await server.server.stop(0)


async def test_a_server_that_breaks_under_all_that_runs_there_loses_none_of_it(tmp_path):
    """Many more at once than a caller has trials, or the gateway retries."""
    config = fleet(1, 1)
    for one in config["endpoints"]:
        one["max_in_flight"] = 200
    async with moody(tmp_path, config) as (gateway, green):
        green.does = "break"
        volley = Volley(gateway, tokens=4)
        async with asyncio.TaskGroup() as group:
            group.create_task(volley.send(100, pause_s=0.001))
            await until(lambda: _under_way(gateway, 100), "all being under way")
            green.broken.set()
        assert not volley.lost
        assert volley.places == {"brown-0": 100}
        await until(gateway.idle)


@pytest.mark.parametrize("what", ["garbage", "nothing"])
async def test_a_favourite_that_answers_what_is_no_answer_costs_nobody_one(tmp_path, what):
    async with moody(tmp_path, fleet(1, 1)) as (gateway, green):
        green.does = what
        volley = Volley(gateway, tokens=4)
        await volley.send(40)
        assert not volley.lost
        assert volley.places == {"brown-0": 40}


async def test_a_favourite_that_fails_every_stream_in_band_costs_nobody_an_answer(tmp_path):
    async with moody(tmp_path, fleet(1, 1)) as (gateway, green), gateway.client() as client:
        green.does = "tell"
        for _ in range(20):
            call = client.stream(ask())
            answered = [pb.ModelStreamInferResponse.FromString(one) async for one in call]
            assert answered and not any(one.error_message for one in answered)
        assert (await gateway.endpoints())["green-0"]["cause"] == "outlier"


async def test_a_server_alone_that_died_twice_is_back_as_soon_as_it_is(tmp_path):
    config = fleet(1, 0)
    with running(tmp_path, config) as (gateway, children):
        for again in ("once", "twice", "thrice"):
            await until(lambda: _answered(gateway), "an answer")
            children["green-0"].process.kill()
            children["green-0"].wait()
            await until(lambda: _is_out(gateway), "the gateway noticing")
            children["green-0"] = emulator(tmp_path, config, again)
        async with asyncio.timeout(6.0):
            await until(lambda: _answered(gateway), "an answer")


async def _is_out(gateway):
    return (await gateway.endpoints())["green-0"]["state"] == "ejected"
