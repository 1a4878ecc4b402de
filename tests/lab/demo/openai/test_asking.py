"""The caller before a server that answers as it is told to."""

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from router.lab.demo.openai.asking import AskedChat, ChatCaller, Ending
from router.lab.demo.openai.fleet import ChatQuestion

FIELD = 'id="d-1", region="texas", endpoint="llama-texas"'
USAGE = {"choices": [], "usage": {"completion_tokens": 2, "energy": {"joules": 2.5}}}
DONE = "[DONE]"


def chunk(text: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def broken(code: str) -> dict[str, Any]:
    return {"error": {"message": "gone", "type": "server_error", "code": code}}


async def asked_of(events: Sequence[dict[str, Any] | str], status: int = 200) -> AskedChat:
    """One question, answered with ``events``, or with the first as an error of ``status``."""

    async def chat(request: web.Request) -> web.StreamResponse:
        told = await request.json()
        assert told["stream"] is True
        assert request.headers["x-energy-data"] == "true"
        assert float(request.headers["x-ttft-budget-ms"]) > 0.0
        if status != 200:
            return web.json_response(events[0], status=status)
        response = web.StreamResponse(headers={"x-carbon": FIELD})
        await response.prepare(request)
        for event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            await response.write(f"data: {data}\n\n".encode())
        return response

    async def receipt(request: web.Request) -> web.Response:
        return web.json_response({"decision_id": request.match_info["id"], "gco2e": 0.5})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/carbon/receipts/{id}", receipt)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        caller = ChatCaller(session, str(server.make_url("/")).rstrip("/"))
        await caller.ask_all([ChatQuestion(0.0, "why?")], asyncio.get_running_loop().time())
        await caller.fetch_receipts()
        (one,) = caller.asked
        return one


async def test_an_answer_is_read_to_its_end_with_its_energy_and_its_receipt() -> None:
    one = await asked_of([chunk(None), chunk("Be"), chunk("cause"), USAGE, DONE])
    assert (one.ending, one.text, one.region) == (Ending.ANSWERED, "Because", "texas")
    assert one.energy == {"joules": 2.5}
    assert one.receipt == {"decision_id": "d-1", "gco2e": 0.5}
    assert one.ttft_ms > 0.0
    assert not one.waits


async def test_a_stream_that_says_that_it_broke_is_cut() -> None:
    one = await asked_of([chunk("Be"), broken("upstream_lost")])
    assert (one.ending, one.why, one.receipt) == (Ending.CUT, "upstream_lost", {})


async def test_a_stream_that_ends_without_a_word_is_lost() -> None:
    one = await asked_of([chunk("Be")])
    assert (one.ending, one.why) == (Ending.LOST, "ended_without_a_word")


@pytest.mark.parametrize(
    ("status", "code", "ending"),
    [
        (429, "shed", Ending.REFUSED),
        (503, "no_feasible_endpoint", Ending.REFUSED),
        (502, "upstream_lost", Ending.LOST),
        (502, "upstream_unreached", Ending.LOST),
    ],
)
async def test_an_error_before_anything_is_a_refusal_or_a_loss(
    status: int, code: str, ending: Ending
) -> None:
    one = await asked_of([broken(code)], status)
    assert (one.ending, one.why) == (ending, code)
    assert math.isnan(one.ttft_ms)


async def test_a_gateway_that_is_not_there_is_a_loss(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        caller = ChatCaller(session, f"http://127.0.0.1:{unused_tcp_port}")
        await caller.ask_all([ChatQuestion(0.0, "why?")], asyncio.get_running_loop().time())
    assert caller.asked[0].ending is Ending.LOST
