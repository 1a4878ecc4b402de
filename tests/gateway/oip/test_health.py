"""grpc.health.v1 with the stock stub."""

import grpc
import pytest
from grpc_health.v1 import health_pb2 as hpb
from grpc_health.v1.health_pb2_grpc import HealthStub

from router.gateway.oip import health
from tests.gateway.support import Script, error_of, running, soon

SERVING = hpb.HealthCheckResponse.SERVING
NOT_SERVING = hpb.HealthCheckResponse.NOT_SERVING


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(health, "POLL_S", 0.005)


async def check(stub, name=""):
    return (await soon(stub.Check(hpb.HealthCheckRequest(service=name)))).status


async def test_check_and_list_follow_readiness_and_models():
    ready = True
    async with running(Script(), ready=lambda: ready) as gateway:
        stub = HealthStub(gateway.channel)
        gateway.director.models = {"llama": True, "iris": False}
        assert await check(stub) == SERVING
        assert await check(stub, "inference.GRPCInferenceService") == SERVING
        assert await check(stub, "model/llama") == SERVING
        assert await check(stub, "model/iris") == NOT_SERVING
        listed = await soon(stub.List(hpb.HealthListRequest()))
        assert {name: reply.status for name, reply in listed.statuses.items()} == {
            "": SERVING,
            "inference.GRPCInferenceService": SERVING,
            "carbonrouter.v1.CarbonRouter": SERVING,
            "model/llama": SERVING,
            "model/iris": NOT_SERVING,
        }
        ready = False
        assert await check(stub) == NOT_SERVING
        assert await check(stub, "model/llama") == SERVING


async def test_check_of_an_unknown_name_is_not_found():
    async with running(Script()) as gateway:
        stub = HealthStub(gateway.channel)
        code, _, _ = await error_of(stub.Check(hpb.HealthCheckRequest(service="model/nope")))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_every_change_and_a_name_that_comes_to_be():
    async with running(Script()) as gateway:
        watch = HealthStub(gateway.channel).Watch(hpb.HealthCheckRequest(service="model/new"))
        assert (await soon(watch.read())).status == hpb.HealthCheckResponse.SERVICE_UNKNOWN
        gateway.director.models["new"] = True
        assert (await soon(watch.read())).status == SERVING
        gateway.director.models["new"] = False
        assert (await soon(watch.read())).status == NOT_SERVING


async def test_draining_tells_watchers_and_lets_go_of_them():
    async with running(Script()) as gateway:
        watch = HealthStub(gateway.channel).Watch(hpb.HealthCheckRequest())
        assert (await soon(watch.read())).status == SERVING
        await soon(gateway.gateway.drain(3600.0))
        assert (await soon(watch.read())).status == NOT_SERVING
        assert await soon(watch.read()) is grpc.aio.EOF
