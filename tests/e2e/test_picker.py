"""The endpoint picker before a real Envoy, in the parts of the Gateway API Inference Extension's
conformance tests that need no Kubernetes; and what breaks."""

import asyncio
import contextlib
import json

import grpc
import pytest

from router._pb import externalscaler_pb2
from router._pb.externalscaler_pb2_grpc import ExternalScalerStub
from tests.e2e import harness as h
from tests.gateway.picker import envoy_rig as rig
from tests.planes.envoy import host as hosts
from tests.ports import free_ports

pytestmark = [hosts.missing, pytest.mark.timeout(300)]


@contextlib.contextmanager
def standing(folder):
    """(gateway, servers by name, Envoy); closed pools by the host `closed.example.com`, whose
    picker is nowhere, as is that of `open.example.com`, which fails open."""
    config = rig.fleet()
    config["server"]["scaler"] = f"127.0.0.1:{free_ports(1)[0]}"
    servers, running = {}, []
    try:
        first, *others = config["endpoints"]
        # The first is killed in the end.
        for name, endpoints in (("clean-0", [first]), ("others", others)):
            servers[name] = h.emulator(folder, {**config, "endpoints": endpoints}, name)
            running.append(servers[name])
        gateway = rig.PickerGateway(folder, config)
        running.append(gateway)
        addresses = [one["address"] for one in config["endpoints"]]
        nowhere = f"127.0.0.1:{free_ports(1)[0]}"
        pools = [
            ("primary.example.com", gateway.picker, addresses, False, False),
            ("secondary.example.com", gateway.picker, addresses[1:], False, False),
            ("open.example.com", nowhere, addresses[:1], True, False),
            ("closed.example.com", nowhere, addresses[:1], False, False),
        ]
        envoy = rig.Envoy(folder, pools)
        running.append(envoy)
        yield gateway, servers, envoy
    finally:
        for one in reversed(running):
            one.stop()


@pytest.fixture(scope="module")
def stood(tmp_path_factory):
    with standing(tmp_path_factory.mktemp("picker")) as everything:
        yield everything


@pytest.fixture
def gateway(stood):
    return stood[0]


@pytest.fixture
async def client(stood):
    async with rig.caller(stood[2]) as client:
        yield client


def addresses(gateway):
    return {one["name"]: one["address"] for one in gateway.config["endpoints"]}


# GatewayFollowingEPPRouting, and with several ports of one address: …WithDataParallelism.


async def test_envoy_goes_where_the_picker_says(gateway, client):
    assert (await client.carbon())["endpoint"] == "clean-0"
    for name, address in addresses(gateway).items():
        found = await client.carbon(test_epp_endpoint_selection=address)
        assert found["endpoint"] == name
    both = ",".join(list(addresses(gateway).values())[1:])
    answers = await asyncio.gather(
        *(client.carbon(test_epp_endpoint_selection=both) for _ in range(20))
    )
    assert {one["endpoint"] for one in answers} <= {"clean-1", "clean-2"}
    await h.until(gateway.idle, "an end")


async def test_the_configuration_that_the_page_shows_works(gateway, tmp_path):
    pool = gateway.picker, list(addresses(gateway).values())
    envoy = await asyncio.to_thread(rig.Envoy, tmp_path, pool, configured=rig.of_page)
    try:
        async with rig.caller(envoy) as client:
            assert (await client.carbon())["endpoint"] == "clean-0"
    finally:
        envoy.stop()


# GatewayDestinationEndpointServed: the lease and the receipt are of who answered.


async def test_what_is_counted_is_of_who_served(gateway, client):
    before = await gateway.total("requests_total", region="clean-1")
    for _ in range(3):
        address = addresses(gateway)["clean-1"]
        await client.carbon(test_epp_endpoint_selection=address)

    async def counted():
        found = await gateway.total("requests_total", region="clean-1")
        return found >= before + 3

    await h.until(counted, "counting")


async def test_a_long_body_passes_whole(gateway, client):
    long = [{"role": "user", "content": "x" * 3_000_000}]
    status, fields, body = await client.post({"messages": long})
    assert status == 200, body
    assert 'endpoint="clean-0"' in fields["x-carbon"]


async def test_nobody_of_those_named_is_503(gateway, client):
    status, fields, body = await client.post(test_epp_endpoint_selection="10.9.9.9:80")
    assert (status, fields["x-carbon-reason"]) == (503, "no_feasible_endpoint")
    assert json.loads(body)["error"]["code"] == "no_feasible_endpoint"


async def test_a_destination_of_the_clients_own_is_overwritten(gateway, client):
    address = addresses(gateway)["clean-2"]
    assert (await client.carbon(x_gateway_destination_endpoint=address))["endpoint"] == "clean-0"


async def test_refusals_and_streams_pass(gateway, client):
    status, fields, _ = await client.post(x_residency="mars")
    assert (status, fields["x-carbon-reason"]) == (400, "residency_excluded")
    status, fields, body = await client.post({"stream": True})
    assert status == 200 and body.rstrip().endswith(b"data: [DONE]")
    assert fields["x-carbon"].startswith('id="')
    await h.until(gateway.idle, "an end")


# EppUnAvailableFailOpen, and its opposite.


async def test_without_a_picker_a_pool_is_open_or_closed(client):
    status, fields, _ = await client.post(host="open.example.com")
    assert status == 200 and "x-carbon" not in fields
    status, _, _ = await client.post(host="closed.example.com")
    assert status >= 500


# InferencePoolMultipleRulesDifferentPools: the list is of one pool.


async def test_a_pool_that_lacks_the_first_goes_on_to_the_next(gateway, client):
    found = await client.carbon(host="secondary.example.com")
    # As decided: but who answered was the next one, and has the place.
    assert found["endpoint"] == "clean-1"


async def test_a_caller_that_leaves_frees_the_place(gateway, client):
    for _ in range(5):
        async with asyncio.TaskGroup() as group:
            asked = client.post({"output_tokens": 5000, "stream": True})
            task = group.create_task(asked)

            async def runs():
                return await gateway.in_flight() >= 1

            await h.until(runs, "a start")
            task.cancel()
        await h.until(gateway.idle, "a cancel")


async def test_health_is_told_in_the_protocols_words(gateway):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with grpc.aio.insecure_channel(gateway.picker) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("liveness", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_keda_and_other_routers_are_told_of_the_same_fleet(gateway):
    wanted = {}
    async with grpc.aio.insecure_channel(gateway.config["server"]["scaler"]) as channel:
        stub = ExternalScalerStub(channel)
        for region in gateway.config["regions"]:
            ref = externalscaler_pb2.ScaledObjectRef(scalerMetadata={"region": region})
            asked = externalscaler_pb2.GetMetricsRequest(scaledObjectRef=ref, metricName="m")
            (value,) = (await stub.GetMetrics(asked)).metricValues
            wanted[region] = value.metricValueFloat
    # Little runs: where it is cleanest one is enough, and stays.
    assert wanted["clean-0"] == 1.0 and max(wanted.values()) <= 1.0
    grams = {
        labels["endpoint"]: value
        for labels, value in (await gateway.metrics())["carbon_router_gco2e_per_token"]
    }
    assert 0.0 < grams["clean-0"] < grams["clean-1"] < grams["clean-2"]
    address = addresses(gateway)["clean-0"]
    status, page = await h.get(gateway.admin, f"/endpoints/{address}/metrics")
    assert status == 200 and f"{grams['clean-0']!r}" in page


# Last: it kills a server.


async def test_a_server_that_died_is_passed_over_by_envoy_and_learned_of(stood, client):
    gateway, servers, _ = stood
    servers["clean-0"].stop()
    found = await client.carbon()
    assert found["endpoint"] == "clean-1"

    async def out():
        return (await gateway.endpoints())["clean-0"]["state"] != "healthy"

    await h.until(out, "a probe")
    assert (await client.carbon())["endpoint"] == "clean-1"
    await h.until(gateway.idle, "an end")
