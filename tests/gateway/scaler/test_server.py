"""KEDA's calls, by a stock client of grpcio over the generated stubs."""

import contextlib
import math

import grpc
import pytest

from router._pb import externalscaler_pb2 as pb
from router._pb.externalscaler_pb2_grpc import ExternalScalerStub
from router.errors import UnknownModelError
from router.gateway.oip.server import ServerOptions
from router.gateway.scaler.server import ScalerServer, asked_of
from tests.gateway.support import QUICK, soon


class Hints:
    def __init__(self, count=3):
        self.count = count
        self.asked = []

    def wanted(self, region, model="", per_replica=math.nan):
        self.asked.append((region, model, per_replica))
        if model == "nobody":
            raise UnknownModelError("model: 'nobody' is not served")
        return self.count


@contextlib.asynccontextmanager
async def scaling(hints):
    server = ScalerServer("127.0.0.1:0", ServerOptions("127.0.0.1:0"), hints)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=QUICK) as channel:
        yield ExternalScalerStub(channel), server
    await server.drain(0.0)


def ref(**metadata):
    return pb.ScaledObjectRef(name="vllm-west", namespace="inference", scalerMetadata=metadata)


async def test_keda_is_told_how_many_in_units_of_one():
    hints = Hints()
    async with scaling(hints) as (stub, _):
        spec = await stub.GetMetricSpec(ref(region="US West", model="Llama/3"))
        (metric,) = spec.metricSpecs
        assert (metric.metricName, metric.targetSize, metric.targetSizeFloat) == (
            "carbon-router-us-west-llama-3", 1, 1.0,
        )  # fmt: skip
        asked = pb.GetMetricsRequest(
            scaledObjectRef=ref(region="west", requestsPerReplica="32"),
            metricName=metric.metricName,
        )
        (value,) = (await stub.GetMetrics(asked)).metricValues
        assert (value.metricName, value.metricValue, value.metricValueFloat) == (
            metric.metricName, 3, 3.0,
        )  # fmt: skip
        assert hints.asked == [("west", "", 32.0)]
        assert (await stub.IsActive(ref(region="west"))).result
        hints.count = 0
        assert not (await stub.IsActive(ref(region="west"))).result


async def test_a_watcher_is_told_at_once_and_ends_with_the_gateway():
    async with scaling(Hints()) as (stub, server):
        call = stub.StreamIsActive(ref(region="west"))
        assert (await soon(call.read())).result
        await server.drain(0.0)
        with contextlib.suppress(grpc.aio.AioRpcError):
            assert await soon(call.read()) is grpc.aio.EOF


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"region": "x" * 300},
        {"region": "west", "model": "nobody"},
        {"region": "west", "requestsPerReplica": "many"},
        {"region": "west", "requestsPerReplica": "nan"},
        {"region": "west", "requestsPerReplica": "-1"},
        {"region": "west", "requestsPerReplica": "inf"},
    ],
)
async def test_what_cannot_be_meant_is_refused_by_name(metadata):
    async with scaling(Hints()) as (stub, _):
        for call in (
            stub.IsActive(ref(**metadata)),
            stub.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref(**metadata))),
            stub.StreamIsActive(ref(**metadata)).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await soon(call)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_names_are_as_keda_wants_them():
    assert asked_of(ref(region="a" * 200)).metric == ("carbon-router-" + "a" * 200)[:63]
