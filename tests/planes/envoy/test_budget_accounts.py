"""Carbon budgets on Envoy's plane: what callers are told, and that a limit is spent once."""

import asyncio
import contextlib
import ctypes
import json
import math
import threading
from types import SimpleNamespace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.emitted import most_g
from router.core.energy import Crowd, run_coefficients
from router.core.lengths import Expected
from router.planes.envoy.known_file import KnownFile
from router.planes.envoy.layout import BudgetCells, RunCells, TableHead
from router.units import micrograms
from tests.e2e import harness as h
from tests.e2e.test_budgets import (
    CHAT_MODEL,
    LIMIT_G,
    QUICK_MODEL,
    RESERVED_G,
    SHADOWED_MODEL,
    many_budgets,
)
from tests.factories import token_profile
from tests.long import LONG
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig

pytestmark = [hosts.missing, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Every test has tenants, or a model, of its own."""
    folder, made = tmp_path_factory.mktemp("envoy-budgets"), many_budgets()
    made["server"]["workers"] = 2
    with rig.running(folder, made) as (gateway, _):
        gateway.folder = folder
        yield gateway


async def up(gateway):
    async with gateway.client() as client:

        async def answered():
            with contextlib.suppress(grpc.aio.AioRpcError):
                return await client.receipt(h.ask(SHADOWED_MODEL))

        await h.until(answered, "an answer")


async def spend(client, tenant, most=400):
    """Requests until one is refused for good; how many were answered, and that refusal."""
    answered = 0
    for _ in range(most):
        try:
            await client.receipt(x_tenant=tenant)
            answered += 1
        except grpc.aio.AioRpcError as error:
            told = dict(error.trailing_metadata())
            if told["x-carbon-reason"] != "carbon_budget_held":
                return answered, error, told
    raise AssertionError(f"{answered} requests were answered")


async def settled_g(gateway, budget):
    await h.until(gateway.quiet, "every end")
    await h.until(gateway.idle, "knowing of it")
    return await gateway.total("carbon_budget_settled_grams_total", budget=budget)


def budget_of(**changes):
    """A table of one budget, as far as claims read it."""
    head = TableHead(budgets=1, budgets_at=ctypes.sizeof(TableHead))
    return bytes(head) + bytes(BudgetCells(account=0, **changes))


def test_of_what_is_granted_no_two_claim_the_same(tmp_path, host):
    file, table = KnownFile(tmp_path / "known"), budget_of()
    envoy = host.known(tmp_path / "known")
    file.accounts[0].granted_ug, file.accounts[0].left_ug = 1000, 5000
    let_in = []

    def claim():
        let_in.append(sum(envoy.claim(0, table, 7)[0] for _ in range(500)))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(let_in) == 1000 // 7 and file.accounts[0].claimed_ug == 1000 // 7 * 7
    # The day has room, which is to be granted yet; and then it has none.
    assert envoy.claim(0, table, 7) == (False, True)
    file.accounts[0].left_ug = 6
    assert envoy.claim(0, table, 7) == (False, False)
    # A budget that refuses nobody counts all the same.
    assert envoy.claim(0, budget_of(is_shadow=1), 7)[0]
    assert envoy.claim(0, budget_of(action=2), 7)[0]
    assert file.accounts[0].claimed_ug == 1000 // 7 * 7 + 14
    # Without an account of its own nothing is claimed.
    assert envoy.claim(-1, table, 7)[0]


TOKENS = st.floats(1.0, 1e5)


@given(
    st.tuples(TOKENS, TOKENS, TOKENS), st.floats(0.0, 1e4), st.integers(0, 300),
    st.floats(0.0, 1e6), st.sampled_from([math.nan, 0.0, 20.0, 900.0]),
    st.sampled_from([0.0, 1e-4]),
)  # fmt: skip
def test_a_request_reserves_what_it_would_natively(
    host, tokens, network_j, others, cached, g_per_kwh, per_token
):
    profile = token_profile(tpot_ms_per_cached_token=per_token, prefill_ms_per_token2=per_token)
    run = RunCells(*run_coefficients(profile), cached_tokens=cached)
    reserved = host.most_ug(run, (*tokens, network_j, others), g_per_kwh, 1.2)
    decision = SimpleNamespace(
        served=SimpleNamespace(profile=profile), cached_tokens=0.0, run_g_per_kwh=g_per_kwh
    )
    crowd = Crowd(float(others), 0.0, cached)
    most = most_g(decision, Expected(*tokens), crowd, network_j, SimpleNamespace(pue=1.2))
    assert reserved == pytest.approx(micrograms(most), rel=1e-9, abs=1.0)


def assert_spent(total_g):
    """The limit, once: on a busy machine requests take somewhat more than they reserved, all of
    them together less than one more would reserve."""
    assert LIMIT_G - 2.0 * RESERVED_G <= total_g < LIMIT_G + RESERVED_G


async def test_over_grpc_what_is_spent_is_refused_until_the_day_ends(place):
    await up(place)
    async with place.client() as client:
        first = await client.receipt(x_tenant="acme")
        left = float(first["budget"].removeprefix("name=called; left="))
        assert first["budget"].startswith("name=called; ") and 0.5 < left <= 1.0
        answered, error, told = await spend(client, "acme")
        assert answered > 5
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told["x-carbon-reason"] == "carbon_budget_exhausted"
        assert 0 < int(told["x-carbon-retry-after-s"]) <= 86_400
        assert told["grpc-retry-pushback-ms"] == "-1"
        assert "'called'" in error.details()
        total_g = await settled_g(place, "called")
        assert_spent(total_g)
        await client.receipt(x_tenant="other")
    named = {"budget": "called"}

    async def told_of():
        return await place.total("carbon_budget_exceeded_total", outcome="refused", **named) >= 1

    await h.until(told_of, "counting")

    async def nothing_is_reserved():
        return await place.total("carbon_budget_reserved_grams") == 0.0

    await h.until(nothing_is_reserved, "every end being read")


async def test_many_at_once_on_two_workers_spend_a_limit_once(place):
    before_g = await settled_g(place, "kept")
    channels = [h.grpc.aio.insecure_channel(place.address, options=h.QUICK) for _ in range(8)]
    ends = await asyncio.gather(*(spend(h.Client(one), "before") for one in channels))
    assert sum(answered for answered, *_ in ends) > 5
    spent_g = await settled_g(place, "kept") - before_g
    assert_spent(spent_g)
    for one in channels:
        await one.close()


async def test_over_http_what_is_spent_is_429_and_sdks_are_told_not_to_ask_again(place):
    async def post(tenant):
        return await place.chat({"x-tenant": tenant}, model=CHAT_MODEL, max_tokens=4)

    status, headers, _ = await post("web")
    assert status == 200 and "budget_left=" in headers["x-carbon"]

    async def refused():
        _, headers, body = await post("web")
        told = json.loads(body).get("error", {})
        return (headers, told) if told.get("code") == "carbon_budget_exhausted" else None

    async def spent():
        for _ in range(10):
            if found := await refused():
                return found

    headers, error = await h.until(spent, "the budget being spent")
    assert error["type"] == "rate_limit_error"
    assert headers["x-should-retry"] == "false"
    assert 0 < int(headers["retry-after"]) <= 86_400
    assert (await post("beside"))[0] == 200


async def test_without_grams_left_a_fleet_that_goes_by_latency_goes_green(place):
    async with place.client() as client:
        assert (await client.receipt(h.ask(QUICK_MODEL)))["endpoint"] == h.NEAR

        async def greened():
            receipt = await client.receipt(h.ask(QUICK_MODEL))
            return receipt if receipt["endpoint"] == h.GREEN else None

        receipt = await h.until(greened, "the budget being spent")
        assert {"greenest_only", "carbon_budget_exhausted"} <= set(receipt["flags"].split(","))
        near = await client.receipt(h.ask(QUICK_MODEL), x_ttft_budget_ms=40)
        assert near["endpoint"] == h.NEAR
        assert "greenest_only" in near["flags"]


async def test_in_the_shadow_nobody_is_refused_and_it_is_counted(place):
    named = {"budget": SHADOWED_MODEL}
    before = await place.total("carbon_budget_exceeded_total", outcome="shadow", **named)
    async with place.client() as client:
        for _ in range(3):
            receipt = await client.receipt(h.ask(SHADOWED_MODEL))
            assert "carbon_budget_shadow" in receipt["flags"]

    async def counted():
        now = await place.total("carbon_budget_exceeded_total", outcome="shadow", **named)
        return now == before + 3.0

    await h.until(counted, "counting")
    assert await place.total("carbon_budget_exceeded_total", outcome="refused", **named) == 0.0


@LONG
async def test_a_day_that_turns_gives_everybody_a_new_limit(tmp_path):
    made = many_budgets()
    # A day of the replay takes 5 s.
    made["clock"] = {"start": "2022-05-14T00:00Z", "speed": 17_280}
    with rig.running(tmp_path, made) as (gateway, _):
        await up(gateway)
        async with gateway.client() as client:
            for _ in range(2):

                async def answered():
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        return await client.receipt(x_tenant="acme")

                await h.until(answered, "a day with something left")
                _, _, told = await spend(client, "acme")
                assert int(told["x-carbon-retry-after-s"]) <= 5


@LONG
async def test_the_next_process_gives_nothing_back(place):
    """Last: it ends the one of all."""
    async with place.client() as client:
        answered, *_ = await spend(client, "shared")
        assert answered > 5
        assert place.stop() == 0
        again = rig.EnvoyGateway(place.folder, place.config)
        try:
            async with again.client() as other:

                async def told():
                    try:
                        await other.receipt(x_tenant="shared")
                    except grpc.aio.AioRpcError as error:
                        return dict(error.trailing_metadata()).get("x-carbon-reason")

                async def refused():
                    return await told() == "carbon_budget_exhausted"

                await h.until(refused, "the spend of before being known")
        finally:
            assert again.stop() == 0
