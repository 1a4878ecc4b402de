"""A watched file that changes under load: endpoints come and go, and no request notices."""

import asyncio
import json

import pytest

from tests.e2e.harness import (
    GREEN,
    NEAR,
    Gateway,
    answers,
    ask,
    base,
    emulator,
    endpoint,
    pair,
    port_of,
    until,
)
from tests.e2e.test_reload import constant_load, hang_up
from tests.fakes.kubernetes_api import (
    NODES,
    SLICES,
    FakeCluster,
    endpoint_slice,
    node,
    slice_endpoint,
)
from tests.ports import free_ports

THIRD = "green-1"
PLACE = "pods"


def listed(one):
    return {"name": one["name"], "address": one["address"], "region": one["region"]}


class Found(Gateway):
    """A gateway that knows no endpoint but those of a file."""

    def __init__(self, folder, config):
        self.pods = folder / "pods.json"
        self.tell_of()
        super().__init__(folder, config)

    def tell_of(self, *endpoints):
        aside = self.pods.with_suffix(".new")
        aside.write_text(json.dumps({"endpoints": [listed(one) for one in endpoints]}))
        aside.replace(self.pods)

    async def routes_to(self, *endpoints):
        wanted = {f"{PLACE}/{one['name']}" for one in endpoints}

        async def there():
            return set(await self.endpoints()) == wanted

        await until(there, f"{wanted} in force")


@pytest.fixture(scope="module")
def started(spawn_once):
    (port,) = free_ports(1)
    three = [*pair(), endpoint(THIRD, "north", f"127.0.0.1:{port}")]
    config = base(three)
    config["server"]["drain_s"] = 10
    spawn_once(emulator, config)
    template = {key: three[0][key] for key in ("models", "max_in_flight", "emulated")}
    found = {"kind": "file", "name": PLACE, "path": "pods.json", "look_s": 0.05}
    config = {**config, "endpoints": [], "discovery": [{**found, "template": template}]}
    return spawn_once(Found, config), three


@pytest.fixture
async def fleet(started):
    yield started
    gateway, _ = started
    await until(gateway.idle, "in-flight back to zero")


async def test_a_gateway_that_found_nobody_says_so_and_serves_once_it_has(fleet):
    gateway, (green, _, _) = fleet
    gateway.tell_of()
    await gateway.routes_to()
    status, state = await gateway.readiness()
    assert status == 503
    assert {one["reason"] for one in state["reasons"]} == {"no_healthy_endpoint"}
    async with gateway.client() as client:
        code, reason, _ = await client.refusal()
        assert (code, reason) == ("UNAVAILABLE", "no_feasible_endpoint")
        gateway.tell_of(green)
        await gateway.routes_to(green)
        assert (await client.receipt())["endpoint"] == f"{PLACE}/{GREEN}"
    assert (await gateway.readiness())[0] == 200


async def test_a_file_that_changes_under_load_costs_no_request(fleet):
    gateway, (green, near, third) = fleet
    gateway.tell_of(green, near)
    await gateway.routes_to(green, near)
    async with constant_load(gateway) as load:
        await load.sees(f"{PLACE}/{GREEN}")
        for _ in range(3):
            gateway.tell_of(near, third)
            await gateway.routes_to(near, third)
            await load.sees(f"{PLACE}/{THIRD}")
            gateway.tell_of(near)
            await gateway.routes_to(near)
            await load.sees(f"{PLACE}/{NEAR}")
            # Half a file, and what steers nobody anywhere.
            gateway.pods.write_text("endpoints: [{name: x, addr")
            await until(lambda: says(gateway, "discovery_stale"), "the file being refused")
            gateway.tell_of(green, near, {**third, "region": "mars"})
            await gateway.routes_to(green, near)
            assert await says(gateway, "discovery_left_out")
            await load.sees(f"{PLACE}/{GREEN}")
        gateway.write(policy="latency-first")
        await hang_up(gateway)
        await load.sees(f"{PLACE}/{NEAR}", policy="latency-first")
        gateway.write()
        await hang_up(gateway)
        await load.sees(f"{PLACE}/{GREEN}")
    assert load.failures == []
    assert len(load.places) > 100
    assert await gateway.total("fleet_changes_total", outcome="applied") >= 9


async def says(gateway, reason):
    _, state = await gateway.readiness()
    return reason in {one["reason"] for one in state["reasons"]}


async def test_requests_on_an_endpoint_that_goes_finish_there(fleet):
    gateway, (green, near, _) = fleet
    gateway.tell_of(green, near)
    await gateway.routes_to(green, near)
    async with gateway.client() as client, asyncio.TaskGroup() as group:
        unary = group.create_task(client.receipt(ask(output_tokens=1000)))
        stream = client.stream(ask(output_tokens=1000))
        first = await anext(aiter(stream))

        async def both_there():
            return (await gateway.endpoints())[f"{PLACE}/{GREEN}"]["in_flight"] == 2

        await until(both_there, "both requests being under way")
        gateway.tell_of(near)
        await gateway.routes_to(near)
        assert (await client.receipt())["endpoint"] == f"{PLACE}/{NEAR}"
        rest = [message async for message in stream]
    assert unary.result()["endpoint"] == f"{PLACE}/{GREEN}"
    assert [one.error_message for one in answers([first, *rest])] == [""] * 1000


async def test_a_service_of_a_cluster_is_followed(started, tmp_path, monkeypatch):
    """By a kubeconfig, over HTTP; ports stand for pods, which share an address here."""
    _, (green, near, _) = started
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with FakeCluster() as cluster:
        cluster.kubeconfig(tmp_path)
        await cluster.put(NODES, node("node-n", "eu", "north"), node("node-h", "us", "us-1"))
        slices = {
            one["name"]: endpoint_slice(
                one["name"],
                slice_endpoint(one["name"], "127.0.0.1", where),
                ports=[("grpc", port_of(one["address"]))],
            )
            for one, where in ((green, "node-n"), (near, "node-h"))
        }
        await cluster.put(SLICES, slices[GREEN])
        template = {key: green[key] for key in ("models", "max_in_flight", "emulated")}
        found = {
            "kind": "kubernetes", "name": "vllm", "namespace": "inference", "service": "vllm",
            "kubeconfig": "kubeconfig", "regions": {"us": "here"}, "template": template,
        }  # fmt: skip
        config = {**base([green, near]), "endpoints": [], "discovery": [found]}
        gateway = await asyncio.to_thread(Gateway, tmp_path, config)
        try:
            async with gateway.client() as client:
                assert (await client.receipt())["endpoint"] == f"vllm/{GREEN}"
                await cluster.put(SLICES, *slices.values())

                async def both():
                    return len(await gateway.endpoints()) == 2

                await until(both, "the second pod being found")
                assert (await gateway.endpoints())[f"vllm/{NEAR}"]["region"] == "here"
                cluster.refuse["endpointslices"] = 403
                cluster.hang_up()
                await until(lambda: says(gateway, "discovery_stale"), "the denial being said")
                assert (await client.receipt())["endpoint"] == f"vllm/{GREEN}"
                await cluster.put(SLICES, slices[NEAR])
                cluster.refuse.clear()

                async def gone():
                    return set(await gateway.endpoints()) == {f"vllm/{NEAR}"}

                await until(gone, "the first pod being gone")
                assert (await client.receipt())["endpoint"] == f"vllm/{NEAR}"
        finally:
            assert await asyncio.to_thread(gateway.stop) == 0
