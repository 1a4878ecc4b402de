"""What strangers send: each gets a clear error in the API's shape, and the front serves on."""

import asyncio
import contextlib
import gzip
import json

import pytest

from tests.gateway.openai.support import ANSWER, serving
from tests.gateway.openai.test_front import ASK, CHAT

DEEP = b'{"model":"llama","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def code(body):
    return json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    ("body", "status", "reason", "says"),
    [
        (b"", 400, "request_malformed", "JSON"),
        (b"{", 400, "request_malformed", "JSON"),
        (b"nonsense", 400, "request_malformed", "JSON"),
        (b"[]", 400, "request_malformed", "object"),
        (b'{"messages":[]}', 400, "request_malformed", "model: missing"),
        (b'{"model":""}', 400, "request_malformed", "model: missing"),
        (b'{"model":null}', 400, "request_malformed", "model: missing"),
        (b'{"model":7}', 400, "request_malformed", "$.model"),
        (b'{"model":"' + b"x" * 300 + b'"}', 400, "request_malformed", "longer than"),
        (b'{"model":"llama","model":"other"}', 400, "request_malformed", "twice"),
        (b'{"model":"\xff"}', 400, "request_malformed", "UTF-8"),
        (b'{"model":"llama","messages":["\xff"]}', 400, "request_malformed", "UTF-8"),
        (DEEP, 400, "request_malformed", "deep"),
        (b'{"model":"llama","priority":1.5}', 400, "request_malformed", "whole number"),
        (b'{"model":"llama"}' + b" " * 2**21, 413, "message_too_large", "more than"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_body_that_is_none(body, status, reason, says):
    async with serving(max_body_bytes=2**20) as front:
        told, headers, answer = await front.post(CHAT, body)
        assert (told, code(answer)) == (status, reason)
        assert says in json.loads(answer)["error"]["message"]
        assert headers["content-type"].startswith("application/json")
        assert front.director.calls == []
        assert (front.capacity.calls, front.capacity.held_bytes) == (0, 0)
        assert (await front.post(CHAT, ASK))[2] == ANSWER


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x_latency_budget_ms": "soon"}, "metadata_invalid"),
        ({"x_latency_budget_ms": "-1"}, "metadata_invalid"),
        ({"x_ttft_budget_ms": "1e99"}, "metadata_invalid"),
        ({"x_residencies": "EU"}, "metadata_invalid"),
        ({"x_residency": " "}, "metadata_invalid"),
        ({"x_carbon_region": "EU"}, "metadata_invalid"),
        ({"content_encoding": "br"}, "request_malformed"),
        ({"content_encoding": "gzip"}, "request_malformed"),
        ({"x_filler": "x" * 20_000}, "metadata_too_large"),
    ],
    ids=str,
)
async def test_headers_that_cannot_be_used(headers, reason):
    async with serving() as front:
        status, _, answer = await front.post(CHAT, ASK, **headers)
        assert (code(answer), front.director.calls) == (reason, [])
        assert 400 <= status < 500
        assert (await front.post(CHAT, ASK))[0] == 200


async def test_too_many_headers_are_told_as_such():
    async with serving() as front:
        many = "".join(f"x-{number}: y\r\n" for number in range(2000))
        answer = await front.raw(f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{many}\r\n".encode())
        assert b" 431 " in answer.partition(b"\r\n")[0] and b'"metadata_too_large"' in answer
        assert (await front.post(CHAT, ASK))[0] == 200


async def test_two_residencies_that_share_nothing_are_a_mismatch():
    async with serving() as front:
        body = {**ASK, "inference_geo": "us"}
        status, _, answer = await front.post(CHAT, body, x_residency="EU")
    assert (status, code(answer)) == (400, "data_residency_mismatch")


@pytest.mark.parametrize("name", ["previous_response_id", "conversation"])
async def test_an_id_that_is_to_be_kept_is_short(name):
    async with serving() as front:
        body = {"model": "llama", "input": "Hi", name: "x" * 300}
        status, _, answer = await front.post("/v1/responses", body)
    assert (status, code(answer)) == (400, "request_malformed")
    assert name in json.loads(answer)["error"]["message"]


async def test_a_body_that_is_inflated_counts_for_what_it_may_become():
    packed = gzip.compress(json.dumps(ASK).encode())
    async with serving(max_body_bytes=2**20, max_bytes=2**20) as front:
        status, _, answer = await front.post(CHAT, packed, content_encoding="gzip")
        assert (status, code(answer)) == (429, "gateway_full")
        assert front.capacity.held_bytes == 0


async def test_a_bomb_is_not_inflated():
    bomb = gzip.compress(b'{"model":"llama"}' + b" " * 2**24)
    async with serving(max_body_bytes=2**20) as front:
        status, _, answer = await front.post(CHAT, bomb, content_encoding="gzip")
        assert (status, code(answer)) == (413, "message_too_large")
        cut = gzip.compress(json.dumps(ASK).encode())[:-12]
        _, _, answer = await front.post(CHAT, cut, content_encoding="gzip")
        assert "cut off" in json.loads(answer)["error"]["message"]
        assert (front.capacity.calls, front.capacity.held_bytes) == (0, 0)


async def test_more_calls_than_there_may_be_are_refused_with_a_time_to_come_again():
    async with serving(max_calls=0) as front:
        status, headers, answer = await front.post(CHAT, ASK)
    assert (status, code(answer)) == (429, "gateway_full")
    assert headers["retry-after"] == "1"


async def test_more_bytes_than_there_may_be_are_refused():
    async with serving(max_bytes=100) as front:
        status, _, answer = await front.post(CHAT, {**ASK, "filler": "x" * 200})
        assert (status, code(answer)) == (429, "gateway_full")
        assert front.capacity.held_bytes == 0


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        HEAD + b"content-length: many\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"bad header\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"x-long: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data)[:40],
)
async def test_bytes_that_are_no_http(data):
    async with serving() as front:
        answer = await front.raw(data)
        status, _, body = answer.partition(b"\r\n\r\n")
        assert status.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert b'"error":' in body
        assert (await front.post(CHAT, ASK))[0] == 200


async def test_ten_megabytes_of_headers_are_not_read():
    async with serving() as front:
        with contextlib.suppress(ConnectionError):
            await front.raw(HEAD + b"x-long: " + b"x" * 10_000_000)
        assert (await front.post(CHAT, ASK))[0] == 200


async def test_a_body_that_does_not_end_holds_up_nobody():
    async with serving() as front:
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(HEAD + b"content-length: 1000\r\n\r\n{")
        await writer.drain()
        assert (await front.post(CHAT, ASK))[0] == 200
        writer.close()
        await writer.wait_closed()
        while front.capacity.calls:
            await asyncio.sleep(0.001)
        assert front.capacity.held_bytes == 0
