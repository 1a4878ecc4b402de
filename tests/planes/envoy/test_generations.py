"""Endpoints that come and go, and policies that change, while Envoy serves."""

import asyncio
import json
import signal

import pytest

from tests.e2e import harness as h
from tests.e2e.test_discovery import PLACE, THIRD, listed, says
from tests.e2e.test_reload import CALLERS, Load, hang_up
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig
from tests.ports import free_ports

pytestmark = [hosts.missing, pytest.mark.timeout(300)]


class Found(rig.EnvoyGateway):
    """A gateway that knows no endpoint but those of a file."""

    def __init__(self, folder, config):
        self.pods = folder / "pods.json"
        self.tell_of()
        super().__init__(folder, config)

    def tell_of(self, *endpoints):
        aside = self.pods.with_suffix(".new")
        aside.write_text(json.dumps({"endpoints": [listed(one) for one in endpoints]}))
        aside.replace(self.pods)


class UnaryLoad(Load):
    async def streamed(self):
        return await self.client.receipt()


class Kept:
    """Callers that never pause; what they were told last."""

    def __init__(self, gateway):
        self.gateway = gateway

    async def __aenter__(self):
        self.client = self.gateway.client()
        self.load = UnaryLoad(await self.client.__aenter__())
        self.callers = [asyncio.ensure_future(self.load.call(one)) for one in range(CALLERS)]
        return self.load

    async def __aexit__(self, *raised):
        for caller in self.callers:
            caller.cancel()
        await asyncio.gather(*self.callers, return_exceptions=True)
        await self.client.__aexit__(*raised)


def names(*endpoints):
    return [f"{PLACE}/{one['name']}" for one in endpoints]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    (port,) = free_ports(1)
    three = [*h.pair(), h.endpoint(THIRD, "north", f"127.0.0.1:{port}")]
    # By name: Envoy is told of what that stands for.
    three[2]["address"] = f"localhost:{port}"
    config = h.base(three)
    config["server"]["workers"] = 2
    servers = h.emulator(folder, config)
    template = {key: three[0][key] for key in ("models", "max_in_flight", "emulated")}
    found = {"kind": "file", "name": PLACE, "path": "pods.json", "look_s": 0.05}
    config = {**config, "endpoints": [], "discovery": [{**found, "template": template}]}
    gateway = Found(folder, config)
    try:
        yield gateway, three
    finally:
        gateway.stop()
        servers.stop()


async def test_one_that_found_nobody_says_so_and_serves_once_it_has(started):
    gateway, (green, _, _) = started
    gateway.tell_of()
    async with gateway.client() as client:

        async def nobody():
            try:
                await client.receipt()
            except h.grpc.aio.AioRpcError as error:
                return error.code().name == "UNAVAILABLE"
            return False

        await h.until(nobody, "nobody being there")
        assert (await client.refusal())[:2] == ("UNAVAILABLE", "no_feasible_endpoint")
        gateway.tell_of(green)

        async def serves():
            return not await nobody()

        await h.until(serves, "somebody being there")
        assert (await client.receipt())["endpoint"] == f"{PLACE}/{h.GREEN}"


async def test_a_file_that_changes_under_load_costs_no_request(started):
    gateway, (green, near, third) = started
    gateway.tell_of(green, near)
    async with gateway.client() as client:

        async def serves():
            try:
                return bool(await client.receipt())
            except h.grpc.aio.AioRpcError:
                return False

        await h.until(serves, "somebody being there")
    async with Kept(gateway) as load:
        await load.sees(*names(green))
        for _ in range(3):
            gateway.tell_of(near, third)
            await load.sees(*names(third))
            gateway.tell_of(near)
            await load.sees(*names(near))
            gateway.tell_of(green, near, {**third, "region": "mars"})
            await load.sees(*names(green))
            assert await says(gateway, "discovery_left_out")
        gateway.write(policy="latency-first")
        await hang_up(gateway)
        await load.sees(*names(near), policy="latency-first")
        gateway.write(policy="no-such-policy")
        gateway.tell(signal.SIGHUP)
        await h.until(lambda: says(gateway, "reload_refused"), "its refusal")
        gateway.write()
        await hang_up(gateway)
        await load.sees(*names(green))
    assert load.failures == [] and len(load.places) > 100
    await h.until(gateway.quiet, "every end")
    await h.until(gateway.idle, "the gateway's knowing of it")


async def test_requests_on_an_endpoint_that_goes_finish_there_and_its_seat_goes_last(started):
    gateway, (green, near, _) = started
    gateway.tell_of(green, near)
    async with gateway.client() as client:

        async def there():
            return (await client.receipt())["endpoint"] == f"{PLACE}/{h.GREEN}"

        await h.until(there, "its coming")
        calls = [client.infer(h.ask(output_tokens=8000), h.WHOLE_RECEIPT) for _ in range(4)]

        async def under_way():
            return gateway.counts().get(f"{PLACE}/{h.GREEN}") == 4

        await h.until(under_way, "requests being there")
        gateway.tell_of(near)

        async def left():
            return (await client.receipt())["endpoint"] == f"{PLACE}/{h.NEAR}"

        await h.until(left, "its going")
        assert gateway.counts()[f"{PLACE}/{h.GREEN}"] == 4
        # Of the generation before: read as they were decided.
        receipts = []
        for call in calls:
            await call
            receipts.append(dict(await call.trailing_metadata()))
        assert {one["x-carbon-endpoint"] for one in receipts} == {f"{PLACE}/{h.GREEN}"}
        assert {one["x-carbon-region"] for one in receipts} == {"north"}

    async def gone():
        return f"{PLACE}/{h.GREEN}" not in gateway.counts()

    await h.until(gone, "its seat being given up")
    await h.until(gateway.idle, "the gateway's knowing of every end")


async def test_the_next_process_takes_over_what_went_meanwhile(tmp_path):
    made = rig.config()
    with rig.running(tmp_path / "f", made) as (gateway, _):
        pid = gateway.envoy_pid
        async with gateway.client() as client:
            slow = client.infer(h.ask(output_tokens=15_000))

            async def there():
                return gateway.counts()[h.GREEN] == 1

            await h.until(there, "departing")
            gateway.process.kill()
            gateway.process.wait()
            fewer = [one for one in made["endpoints"] if one["name"] != h.GREEN]
            again = rig.EnvoyGateway(tmp_path / "f", {**made, "endpoints": fewer})
            try:
                assert again.envoy_pid == pid
                assert (await client.receipt())["endpoint"] == h.NEAR
                assert again.counts()[h.GREEN] == 1
                await slow

                async def gone():
                    return h.GREEN not in again.counts()

                await h.until(gone, "its seat being given up")
            finally:
                assert again.stop() == 0
