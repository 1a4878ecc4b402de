"""Carbon budgets as processes: what callers are told, restarts, workers, fleets, a dead store."""

import asyncio
import contextlib
import json

import aiohttp
import grpc
import pytest

from tests.e2e.harness import (
    GREEN,
    NEAR,
    Client,
    Gateway,
    answers,
    ask,
    base,
    emulator,
    pair,
    until,
)
from tests.e2e.test_http import Http, all_healthy, fleet
from tests.state.redis.servers import Server

# The most that a request to the green endpoint emits that asks for 4 tokens, and reserves; g.
ONE_G = 20e-6
RESERVED_G = 100e-6


def per_tenant(count, **changes):
    """A budget of about so many requests to the green endpoint."""
    return {"per": "tenant", "g_per_day": count * ONE_G + RESERVED_G, **changes}


async def spent(client, tenant="acme", most=400):
    """Grams of all answers until one is refused for want of them, and that refusal."""
    total_g = 0.0
    for _ in range(most):
        try:
            receipt = await client.receipt(x_tenant=tenant)
        except grpc.aio.AioRpcError as error:
            told = dict(error.trailing_metadata())
            if told["x-carbon-reason"] == "carbon_budget_held":
                continue
            return total_g, error.code(), told
        total_g += float(receipt["gco2e"])
    raise AssertionError(f"{most} requests were answered")


async def test_over_grpc_what_is_spent_is_refused_until_the_day_ends(spawn):
    config = base(pair(), carbon_budget=per_tenant(10))
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    limit_g = config["carbon_budget"]["g_per_day"]
    async with gateway.client() as client:
        first = await client.receipt(x_tenant="acme")
        assert float(first["gco2e"]) <= ONE_G
        left = float(first["budget"].removeprefix("name=tenant; left="))
        assert left == pytest.approx(1.0 - float(first["gco2e"]) / limit_g, abs=0.01)
        total_g, code, told = await spent(client)
        total_g += float(first["gco2e"])
        assert limit_g - RESERVED_G <= total_g <= limit_g
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told["x-carbon-reason"] == "carbon_budget_exhausted"
        assert 0 < int(told["x-carbon-retry-after-s"]) <= 86_400
        assert told["grpc-retry-pushback-ms"] == "-1"
        # In a stream it is told in-band, and nobody else pays.
        stream = client.stream(ask(), metadata=(("x-tenant", "acme"),))
        (answer,) = answers([message async for message in stream])
        reason = answer.infer_response.parameters["x-carbon-reason"].string_param
        assert reason == "carbon_budget_exhausted"
        await client.receipt(x_tenant="other")
    assert await gateway.total("carbon_budget_exceeded_total", outcome="refused") == 2.0
    assert await gateway.total("refused_total", reason="carbon_budget_exhausted") == 2.0
    settled_g = await gateway.total("carbon_budget_settled_grams_total", energy_kind="emulated")
    assert settled_g == pytest.approx(total_g + ONE_G, abs=ONE_G)
    assert await gateway.total("carbon_budget_reserved_grams") == 0.0


async def test_over_http_what_is_spent_is_429_and_sdks_are_told_not_to_ask_again(tmp_path):
    with fleet(tmp_path, carbon_budget=per_tenant(5)) as (gateway, _, address):
        await until(lambda: all_healthy(gateway), "every endpoint up")
        async with aiohttp.ClientSession() as session:
            client = Http(session, address)
            found = await client.carbon(x_tenant="acme")
            assert 0.0 < float(found["budget_left"]) < 1.0
            while True:
                status, headers, answer = await client.post(x_tenant="acme")
                if status != 200:
                    break
            error = json.loads(answer)["error"]
            assert (status, error["code"]) == (429, "carbon_budget_exhausted")
            assert error["type"] == "rate_limit_error"
            assert headers["x-should-retry"] == "false"
            assert 0 < int(headers["retry-after"]) <= 86_400
            status, _, answer = await client.post("/v1/messages", x_tenant="acme")
            assert status == 429
            told = json.loads(answer)
            assert (told["type"], told["error"]["type"]) == ("error", "rate_limit_error")
            assert (await client.post(x_tenant="other"))[0] == 200
            receipt = await client.carbon(x_tenant="other")
            path = f"http://{address}/v1/carbon/receipts/{receipt['id']}"
            async with session.get(path, headers={"x-tenant": "other"}) as reply:
                assert (await reply.json())["budget"].startswith("name=tenant; left=0.")


async def test_without_grams_left_a_fleet_that_goes_by_latency_goes_green(spawn):
    budget = {"per": "fleet", "g_per_day": 5e-3, "on_exhausted": "greenest_only"}
    config = base(pair(), policy="latency-first", carbon_budget=budget)
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    await until(lambda: all_healthy(gateway), "every endpoint up")
    async with gateway.client() as client:
        assert (await client.receipt())["endpoint"] == NEAR

        async def greened():
            receipt = await client.receipt()
            return receipt if receipt["endpoint"] == GREEN else None

        receipt = await until(greened, "the budget being spent")
        flags = receipt["flags"].split(",")
        assert {"greenest_only", "carbon_budget_exhausted"} <= set(flags)
        # A budget of the caller's own holds, so it stays near and is told.
        near = await client.receipt(x_ttft_budget_ms=40)
        assert near["endpoint"] == NEAR
        assert "greenest_only" in near["flags"]


async def test_in_the_shadow_nobody_is_refused_and_it_is_counted(spawn):
    config = base(pair(), carbon_budget={"per": "fleet", "g_per_day": 1e-6, "shadow": True})
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    async with gateway.client() as client:
        for _ in range(3):
            assert "carbon_budget_shadow" in (await client.receipt())["flags"]
    assert await gateway.total("carbon_budget_exceeded_total", outcome="shadow") == 3.0
    assert await gateway.total("carbon_budget_exceeded_total", outcome="refused") == 0.0


@pytest.mark.parametrize("workers", [1, 2])
async def test_workers_spend_a_limit_once_and_a_restart_does_not_give_it_back(spawn, workers):
    config = base(pair(), carbon_budget=per_tenant(30), state={"file": "state.json"})
    spawn(emulator, config)
    limit_g = config["carbon_budget"]["g_per_day"]
    gateway = spawn(Gateway, config, "--workers", str(workers))

    async def all_of_it(gateway):
        total_g = 0.0
        # Each connection is to whichever worker the kernel picks.
        for _ in range(6):
            async with gateway.client() as client:
                total_g += (await spent(client))[0]
        return total_g

    first_g = await all_of_it(gateway)
    assert limit_g - RESERVED_G <= first_g <= limit_g
    assert gateway.stop() == 0
    again = spawn(Gateway, config, "--workers", str(workers))
    assert await all_of_it(again) + first_g <= limit_g + 1e-6 * workers


async def test_a_day_that_turns_gives_everybody_a_new_limit(spawn):
    # A day of the replay takes 20 s.
    config = base(
        pair(), carbon_budget=per_tenant(3), clock={"start": "2022-05-14T00:00Z", "speed": 4320}
    )
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    async with gateway.client() as client:
        _, _, told = await spent(client)
        assert int(told["x-carbon-retry-after-s"]) <= 20

        async def served():
            with contextlib.suppress(grpc.aio.AioRpcError):
                return await client.receipt(x_tenant="acme")

        await until(served, "the next day")


@pytest.fixture
def redis():
    made = Server()
    yield made
    made.close()


@pytest.fixture
async def two(spawn, redis, tmp_path):
    """Two gateways on one store, which see each other."""
    redis.start()
    config = base(
        pair(), carbon_budget=per_tenant(300, overrides={"acme": 300 * ONE_G}),
        state={"redis": {"url": redis.url}},
    )  # fmt: skip
    spawn(emulator, config)
    made = []
    for number in range(2):
        folder = tmp_path / f"gateway-{number}"
        folder.mkdir()
        own = {**config, "server": base([])["server"]}
        made.append(spawn(lambda _, own=own, folder=folder: Gateway(folder, own)))

    async def met():
        return [await gateway.total("gateway_processes") for gateway in made] == [2, 2]

    await until(met, "both seeing each other")
    return made


async def together(gateways, most=600):
    """Grams that clients of all of them spend at once, until each is refused."""

    async def one(gateway):
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            return (await spent(Client(channel), most=most))[0]

    return sum(await asyncio.gather(*(one(gateway) for gateway in gateways)))


async def test_two_gateways_on_one_store_spend_a_limit_once(two, redis):
    limit_g = 300 * ONE_G
    total_g = await together(two)
    # Ahead of a draw: a hundredth over both, or a request each.
    assert total_g <= limit_g + 2 * RESERVED_G
    # What the other one had drawn and not spent comes back within half a minute.
    assert total_g >= 0.5 * limit_g
    for gateway in two:
        assert gateway.stop() == 0
    for counter in ("carbon_budget", "carbon_budget_spent"):
        (key,) = redis.ask("KEYS", f"*:{counter}:tenant:tenant:average-lifecycle:acme*")
        counted_g = int(redis.ask("GET", key)) / 1e6
        assert counted_g == pytest.approx(total_g, abs=3e-6)


async def test_a_store_that_dies_leaves_each_its_part_and_hears_of_it_afterwards(two, redis):
    limit_g = 300 * ONE_G
    async with two[0].client() as client:
        before_g = 0.0
        for _ in range(20):
            before_g += float((await client.receipt(x_tenant="acme"))["gco2e"])

    async def looked():
        rows = [
            await gateway.total("carbon_budget_remaining_grams", budget="tenant") for gateway in two
        ]
        return all(left < limit_g - 0.9 * before_g for left in rows)

    await until(looked, "both knowing what was spent")
    redis.kill()

    async def divided():
        return all([await gateway.total("carbon_budget_divided_by") == 2.0 for gateway in two])

    await until(divided, "both dividing what was left")
    for gateway in two:
        _, readiness = await gateway.readiness()
        assert "carbon_budget_divided" in {one["reason"] for one in readiness["reasons"]}
    one_g = await together(two[:1])
    # What it had drawn, at most a quarter of what was left for one of two, and half of the rest.
    assert one_g <= 0.625 * (limit_g - before_g) + 2 * RESERVED_G
    rest_g = await together(two[1:])
    total_g = before_g + one_g + rest_g
    assert total_g <= limit_g + 2 * RESERVED_G
    assert one_g > 0.0 and rest_g > 0.0
    redis.start()

    async def counted():
        keys = redis.ask("KEYS", "*tenant:tenant:average-lifecycle:acme*")
        return keys and int(redis.ask("GET", keys[0])) / 1e6 >= total_g - 3e-6

    await until(counted, "the store hearing of what was spent without it")
