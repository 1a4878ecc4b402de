"""Absurd figures of callers and servers, on the shipped defaults: nobody else notices."""

import asyncio
import contextlib
import math
from types import SimpleNamespace

import grpc
import pytest
from aiohttp import web

from router._pb import inference_pb2 as pb
from router._pb import router_pb2 as rpb
from tests.backends.oip.upstreams import upstream
from tests.e2e.harness import (
    MODEL,
    PROFILE,
    Gateway,
    ask,
    base,
    endpoint,
    http,
    until,
)
from tests.ports import free_ports

ABSURD = (1e300, 1e308, 9e18, 1e9, 1e-300, 0.0, -1.0, math.nan, math.inf)
LATENCY = {"x_ttft_budget_ms": 300}


def claiming(name, value):
    request = pb.ModelInferRequest.FromString(ask())
    request.parameters[name].double_param = value
    return request.SerializeToString()


def reporting(server):
    """What a scripted server does: a short pause, and a report of ``server.tokens``."""

    async def answer(payload, context):
        if b"text_input" not in payload:  # a probe
            return pb.ServerReadyResponse(ready=True).SerializeToString()
        await asyncio.sleep(0.01)
        if server.tokens:
            told = f"TEXT request_cost.output_tokens={server.tokens}"
            context.set_trailing_metadata((("endpoint-load-metrics", told),))
        return pb.ModelInferResponse(model_name="llama").SerializeToString()

    return answer


@contextlib.asynccontextmanager
async def place(spawn, regions=("north", "here"), metrics=None, **models):
    """A gateway as shipped before scripted servers, the first of them green.

    ``models``: beside `MODEL`, what is configured of each.
    """
    async with contextlib.AsyncExitStack() as servers:
        made, endpoints = [], []
        for number, where in enumerate(regions):
            server = await servers.enter_async_context(upstream())
            server.tokens = 4
            server.unary = reporting(server)
            one = endpoint(f"{where}-{number}", where, server.endpoint.address)
            one["models"] = [
                {"name": name, "profile": "fast@test", **model}
                for name, model in {MODEL: {}, **models}.items()
            ]
            if metrics:
                one["metrics"] = {"url": f"{metrics}/{number}", "engine": "vllm"}
            made.append(server)
            endpoints.append(one)
        profile = {**PROFILE, "prefill_ms_per_token": 0.1}
        config = base(endpoints, profiles={"fast@test": profile}, load={"scrape_s": 0.1})
        config["models"] |= dict.fromkeys(models, config["models"][MODEL])
        gateway = await asyncio.to_thread(spawn, Gateway, config)
        async with gateway.client() as client:
            yield SimpleNamespace(gateway=gateway, client=client, servers=made)


def control(client, method):
    request = {"Decide": rpb.DecideRequest, "Explain": rpb.ExplainRequest}[method]
    response = {"Decide": rpb.DecideResponse, "Explain": rpb.ExplainResponse}[method]
    call = client.channel.unary_unary(
        f"/carbonrouter.v1.CarbonRouter/{method}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return lambda **route: call(request(request=rpb.RouteRequest(model=MODEL, **route)), timeout=10)


async def served(client, model=MODEL, times=20, **headers):
    """Where ``times`` honest requests went; each must be answered."""
    receipts = [await client.receipt(ask(model), timeout=5, **headers) for _ in range(times)]
    return {receipt["endpoint"] for receipt in receipts}


async def test_no_figure_of_a_caller_freezes_or_steers_the_gateway(spawn):
    async with place(spawn) as at:
        for value in ABSURD:
            for name in ("input_tokens", "prompt_tokens", "max_tokens", "max_new_tokens"):
                receipt = await at.client.receipt(claiming(name, value), timeout=5)
                assert receipt["flags"].split(",")[0].endswith("_ignored")
            for method in ("Decide", "Explain"):
                for name in ("input_tokens", "max_output_tokens"):
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await control(at.client, method)(**{name: value})
                    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await served(at.client, **LATENCY) == {"north-0"}
        assert (await asyncio.to_thread(http, at.gateway.admin, "/healthz"))[0] == 200
        assert await at.gateway.total("ignored_claims_total") == 4 * len(ABSURD)


async def test_questions_change_neither_prices_nor_where_a_sequence_goes(spawn):
    async with place(spawn) as at:
        explain, decide = control(at.client, "Explain"), control(at.client, "Decide")
        before = (await explain()).candidates
        for number in range(300):
            await decide(sequence_id=f"s{number}", residency=["us"], tpot_budget_ms=3.0)
        after = (await explain()).candidates
        assert [one.premium_g for one in after] == [one.premium_g for one in before]
        assert [one.cost for one in after] == [one.cost for one in before]
        request = pb.ModelInferRequest.FromString(ask())
        request.parameters["sequence_id"].string_param = "s7"
        receipt = await at.client.receipt(request.SerializeToString())
        assert receipt["endpoint"] == "north-0"


async def test_one_answer_of_one_server_stops_nobody(spawn):
    # Each claim is made of two models of its own: one without an end, one of a short context.
    claims = {
        f"{tokens}-{context}": (tokens, {"context_tokens": context} if context else {})
        for tokens in ("1e308", "9e18", "1e6")
        for context in (0, 8192)
    }
    async with place(spawn, **{name: model for name, (_, model) in claims.items()}) as at:
        for name, (tokens, _) in claims.items():
            at.servers[0].tokens = tokens
            for _ in range(3):
                await at.client.receipt(ask(name), timeout=5)
            at.servers[0].tokens = 4
            assert await served(at.client, name) == {"north-0"}
            budget = {"x_latency_budget_ms": 400, "x_tenant": "alice"}
            assert await served(at.client, name, **budget) == {"north-0"}


async def test_one_tenants_prompts_are_not_anothers(spawn):
    async with place(spawn) as at:
        for _ in range(60):
            await at.client.receipt(claiming("input_tokens", 8182.0), x_tenant="mallory")
        assert await served(at.client, x_tenant="alice", **LATENCY) == {"north-0"}
        assert await served(at.client, **LATENCY) == {"north-0"}


async def test_an_endpoint_that_claims_load_attracts_nobody(spawn):
    (port,) = free_ports(1)
    pages, scrapes = {"0": (0, 0), "1": (40, 0)}, []

    async def page(request):
        scrapes.append(request.match_info["number"])
        running, waiting = pages[request.match_info["number"]]
        text = f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n"
        return web.Response(text=text)

    async def read_twice():
        return scrapes.count("1") >= 2

    app = web.Application()
    app.router.add_get("/{number}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        where = f"http://127.0.0.1:{port}"
        async with place(spawn, ("north", "north"), metrics=where) as at:
            for claim in ((40, 0), ("1e308", "1e308"), ("NaN", 30), (-40, 0)):
                pages["1"] = claim
                scrapes.clear()
                await until(read_twice, "the claim being read")
                assert await served(at.client) == {"north-0"}
    finally:
        await runner.cleanup()
