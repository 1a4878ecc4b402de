"""What is HTTP's own: fields, bodies, pooled connections that servers close, names that move."""

import asyncio
import gc
import json
from dataclasses import replace

import pytest

from router.backends.openai.backend import HttpBackend
from router.backends.openai.pool import HttpOptions
from router.contract import Probe
from router.errors import (
    UpstreamError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamUnreachedError,
)
from router.http_api import STATUS, USAGE
from router.model import Endpoint
from tests.backends.oip.upstreams import at, soon, tcp_server, unused
from tests.backends.openai.upstreams import CHAT, http_upstream

OK = b'{"ok":true}'


def answering(body=OK, status=200, fields=(("content-type", "application/json"),)):
    async def answer(_, context):
        context.reply(status, body, fields)

    return answer


def with_engine(endpoint: Endpoint, engine: str) -> Endpoint:
    return replace(endpoint, engine=engine)


async def test_fields_go_in_lower_case_and_the_path_with_its_query(backend):
    metadata = (
        (":method", "POST"),
        (":path", "/v1/rerank?a=%2F&b=c"),
        ("authorization", "Bearer x"),
        ("x-text", "caf\u00e9"),
        ("accept-encoding", "gzip"),
        ("content-length", "999"),
    )
    async with http_upstream() as server:
        server.unary = answering()
        reply = await soon(backend.unary(server.endpoint, b"{}", metadata, 15.0))
        _, seen, _ = server.seen[0]
    fields = {key.lower(): value for key, value in seen}
    assert server.paths == ["/v1/rerank?a=%2F&b=c"]
    assert fields["host"] == server.endpoint.address
    assert (fields["authorization"], fields["x-text"]) == ("Bearer x", "caf\u00e9")
    assert (fields["accept-encoding"], fields["content-length"]) == ("identity", "2")
    # What its caller did not say nobody says for it.
    assert not {"user-agent", "accept"} & fields.keys()
    assert reply.initial_metadata == [(STATUS, "200"), ("content-type", "application/json")]


async def test_an_answers_own_hop_stays_there_and_what_is_compressed_passes(backend):
    fields = (
        ("Content-Encoding", "gzip"),
        ("Connection", "keep-alive, X-One"),
        ("X-One", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d"),
    )
    async with http_upstream() as server:
        server.unary = answering(b"\x1f\x8bno gzip", fields=fields)
        for _ in range(2):
            reply = await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
        assert "cookie" not in dict(server.seen[1][1])
    assert reply.payload == b"\x1f\x8bno gzip"
    assert reply.initial_metadata == [
        (STATUS, "200"), ("content-encoding", "gzip"), ("set-cookie", "a=b"), ("set-cookie", "c=d"),
    ]  # fmt: skip


@pytest.mark.parametrize("payload", [b"x" * 3_000_000, bytearray(b"y" * 70_000), b""])
async def test_a_body_of_any_size_is_sent_as_it_is(backend, payload):
    async with http_upstream() as server:
        server.unary = answering()
        await soon(backend.unary(server.endpoint, payload, CHAT, 15.0))
        assert server.seen[0][0] == payload


@pytest.mark.parametrize(
    ("path", "more"),
    [("/a b", ()), ("/a\r\nx: y", ()), ("/a#b", ()), ("no", ()), ("/", (("x", "a\r\nb"),))],
)
async def test_what_no_request_can_hold_is_rejected(backend, path, more):
    async with http_upstream() as server:
        server.unary = answering()
        with pytest.raises(UpstreamRejectedError):
            await soon(backend.unary(server.endpoint, b"{}", ((":path", path), *more), 15.0))
        assert not server.seen


@pytest.mark.parametrize(
    ("engine", "payload", "sent"),
    [
        ("vllm", b'{"a":1}', b'{"priority":5,"a":1}'),
        ("vllm", b' \n{ "a":1}', b' \n{ "priority":5,"a":1}'),
        ("vllm", b"{}", b'{"priority":5}'),
        ("sglang", b'{"a":1}', b'{"priority":-5,"a":1}'),
        ("trtllm", b'{"a":1}', b'{"a":1}'),
        ("", b'{"a":1}', b'{"a":1}'),
        ("vllm", b"[1]", b"[1]"),
    ],
)
async def test_priority_is_said_as_the_engine_means_it(backend, engine, payload, sent):
    async with http_upstream() as server:
        server.unary = answering()
        endpoint = with_engine(server.endpoint, engine)
        await soon(backend.unary(endpoint, payload, (*CHAT, (":priority", "5")), 15.0))
        assert server.seen[0][0] == sent


async def test_an_answer_that_is_too_large_is_a_fault():
    backend = HttpBackend(HttpOptions(max_message_bytes=1000))
    async with http_upstream() as server:
        server.unary = answering(b"{" + bytes(999))
        assert await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
        server.unary = answering(b"{" + bytes(1000))
        with pytest.raises(UpstreamFaultError, match="larger than 1000 bytes"):
            await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
    await backend.close()


async def test_an_answer_that_states_energy_is_looked_into(backend):
    body = b'{"usage":{},"energy":{"energy_joules":2}}'
    async with http_upstream() as server:
        server.unary = answering(body)
        reply = await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
    assert reply.trailers == ((USAGE, body),)


async def test_what_is_no_answer_of_the_api_is_a_fault_of_the_server(backend):
    async with http_upstream() as server:
        for body in (b"", b"<html>Welcome</html>", b"\xff\xff garbage"):
            server.unary = answering(body)
            with pytest.raises(UpstreamFaultError, match="for an answer"):
                await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
            speech = ((":method", "POST"), (":path", "/v1/audio/speech"))
            reply = await soon(backend.unary(server.endpoint, b"{}", speech, 15.0))
            assert reply.payload == body


async def test_a_torn_answer_is_lost(backend):
    async def answer(_, context):
        context.head(200, [("content-length", "100")])
        context.bare(b"half")
        context.hang_up()

    async with http_upstream() as server:
        server.unary = answer
        with pytest.raises(UpstreamLostError, match="after 4 bytes"):
            await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))


class Closing:
    """Answers ``served`` requests of a connection; closes it when the next one comes."""

    def __init__(self, served, reset=False, fresh=True):
        self.served = served
        self.reset = reset
        self.fresh = fresh
        self.connections = 0
        self.requests = 0

    async def __call__(self, reader, writer):
        self.connections += 1
        served = self.served if self.fresh or self.connections == 1 else 0
        while await reader.read(65536):
            self.requests += 1
            if not served:
                break
            served -= 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        if self.reset:
            writer.transport.abort()
        writer.close()


async def listening(behaviour):
    server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
    return server, at(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("reset", [False, True])
async def test_a_pooled_connection_that_the_server_closed_costs_nothing(backend, reset):
    closing = Closing(1, reset)
    server, endpoint = await listening(closing)
    for _ in range(3):
        reply = await soon(backend.unary(endpoint, b'{"a":1}', CHAT, 15.0))
        assert reply.payload == b"{}"
    # The second one met a connection that was closed under it.
    assert (closing.connections, closing.requests) == (3, 4)
    server.close()


async def test_a_request_that_breaks_a_fresh_connection_too_is_lost(backend):
    closing = Closing(1, fresh=False)
    server, endpoint = await listening(closing)
    await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    with pytest.raises(UpstreamLostError, match="broke twice"):
        await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    assert (closing.connections, closing.requests) == (2, 3)
    # A new connection is not tried twice.
    with pytest.raises(UpstreamLostError):
        await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    assert (closing.connections, closing.requests) == (3, 4)
    server.close()


async def test_a_server_that_went_away_under_a_request_is_lost_not_unreached(backend):
    async def serve(reader, writer):
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await reader.read(65536)
        server.close()
        writer.close()

    server, endpoint = await listening(serve)
    await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    with pytest.raises(UpstreamLostError, match="ClientConnectorError"):
        await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    with pytest.raises(UpstreamUnreachedError) as caught:
        await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    assert caught.value.refused


async def test_a_name_that_nobody_knows_is_unreached(backend):
    endpoint = replace(unused(), address="no-such-host.invalid:80")
    with pytest.raises(UpstreamUnreachedError) as caught:
        await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    assert caught.value.refused


async def test_a_name_that_moved_is_followed_and_calls_finish_where_they_are(backend):
    go = asyncio.Event()

    async def old(_, context):
        await go.wait()
        context.reply(200, b'{"from":"old"}')

    async with http_upstream("127.0.0.1") as before:
        port = int(before.endpoint.address.rpartition(":")[2])
        before.unary = old
        endpoint = replace(before.endpoint, address=f"localhost:{port}")
        async with http_upstream("127.0.0.2", port) as after, asyncio.TaskGroup() as tasks:
            after.unary = answering(b'{"from":"new"}')
            await soon(backend.redirect(endpoint.address, ["127.0.0.1"]))
            first = tasks.create_task(backend.unary(endpoint, b"{}", CHAT, 15.0))
            while not before.seen:
                await asyncio.sleep(0)
            moving = tasks.create_task(backend.redirect(endpoint.address, ["127.0.0.2"]))
            await asyncio.sleep(0)
            second = await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
            assert (second.payload, moving.done()) == (b'{"from":"new"}', False)
            assert dict(after.seen[0][1])["Host"] == f"localhost:{port}"
            go.set()
            assert (await soon(first)).payload == b'{"from":"old"}'
            await soon(moving)
        assert not backend._leaving


async def test_pruning_closes_only_what_is_gone(backend):
    async with http_upstream() as kept, http_upstream() as gone:
        kept.unary = gone.unary = answering()
        for server in (kept, gone):
            await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
        await backend.prune([kept.endpoint.address])
        while gone.open:
            await asyncio.sleep(0)
        for server in (kept, gone):
            await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
        assert (kept.connections, gone.connections) == (1, 2)


async def test_closing_does_not_wait_for_a_server_that_takes_nothing(backend):
    async with tcp_server(hold=True) as endpoint, asyncio.TaskGroup() as tasks:
        big = bytes(20_000_000)
        call = tasks.create_task(lost(backend.unary(endpoint, big, CHAT, 60.0)))
        while not backend._pools:
            await asyncio.sleep(0)
        await soon(backend.close())
        assert isinstance(await soon(call), UpstreamLostError)
    gc.collect()


async def lost(awaitable):
    try:
        return await awaitable
    except UpstreamError as error:
        return error


@pytest.mark.parametrize(
    ("pages", "ready"),
    [
        ({"/health": 200}, Probe.READY),
        ({"/health": 503}, Probe.NOT_READY),
        ({"/health": 404, "/v1/models": 200}, Probe.READY),
        ({"/health": 405, "/v1/models": 200}, Probe.READY),
        ({"/health": 404, "/v1/models": 404}, Probe.UNKNOWN),
        ({"/health": 401}, Probe.UNKNOWN),
        ({"/health": 500}, Probe.UNKNOWN),
    ],
)
async def test_a_probe_asks_for_health_then_for_models(backend, pages, ready):
    async with http_upstream() as server:

        async def answer(_, context):
            context.reply(pages[server.paths[-1]])

        server.unary = answer
        assert await soon(backend.probe(server.endpoint, 15.0)) is ready
        assert server.paths == list(pages)


@pytest.mark.parametrize(
    ("engine", "listed", "ready"),
    [
        ("vllm", ["llama", "other"], Probe.READY),
        ("vllm", ["other"], Probe.NOT_READY),
        ("llamacpp", ["/models/x.gguf"], Probe.UNKNOWN),
        ("", ["other"], Probe.UNKNOWN),
        ("", ["llama"], Probe.READY),
    ],
)
async def test_a_model_is_ready_where_it_is_listed(backend, engine, listed, ready):
    async with http_upstream() as server:
        server.unary = answering(json.dumps({"data": [{"id": name} for name in listed]}).encode())
        endpoint = with_engine(server.endpoint, engine)
        assert await soon(backend.probe_model(endpoint, "llama", "", 15.0)) is ready


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"data":[{"id":1}]}', b"\xff"])
async def test_a_list_of_models_that_is_none_tells_nothing(backend, body):
    async with http_upstream() as server:
        server.unary = answering(body)
        endpoint = with_engine(server.endpoint, "vllm")
        assert await soon(backend.probe_model(endpoint, "llama", "", 15.0)) is Probe.UNKNOWN


async def test_a_question_says_its_own_method_and_path(backend):
    async with http_upstream() as server:
        server.unary = answering()
        await soon(backend.ask(server.endpoint, "GET /v1/models/x", b"", CHAT, 15.0))
        await soon(
            backend.ask(server.endpoint, "POST /v1/messages/count_tokens", b"{}", CHAT, 15.0)
        )
        assert server.paths == ["/v1/models/x", "/v1/messages/count_tokens"]


async def test_models_are_read_from_the_pages_that_an_engine_has(backend):
    async with http_upstream() as server:
        listed = {"data": [{"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 8192}}]}
        pages = {"/v1/models": listed, "/props": {"default_generation_settings": {"n_ctx": 2048}}}

        async def answer(_, context):
            context.reply(200, json.dumps(pages[server.paths[-1]]).encode())

        server.unary = answer
        (said,) = (await soon(backend.models(server.endpoint, 15.0))).values()
        assert said == (False, 2048.0)
        assert server.paths == ["/v1/models", "/props"]


async def test_a_page_that_a_server_does_not_have_says_nothing_of_its_models(backend):
    async with http_upstream() as server:

        async def answer(_, context):
            if server.paths[-1] == "/v1/models":
                context.reply(200, b'{"data":[{"id":"org/m","owned_by":"org/m"}]}')
            else:
                context.reply(404)

        server.unary = answer
        endpoint = with_engine(server.endpoint, "tgi")
        (said,) = (await soon(backend.models(endpoint, 15.0))).values()
        assert said.listed is False and said.context_tokens != said.context_tokens
        assert server.paths == ["/v1/models", "/info"]


async def test_an_endless_list_of_models_is_not_read_to_its_end(backend):
    async with http_upstream() as server:
        server.unary = answering(b" " * (2**20 + 1))
        with pytest.raises(UpstreamFaultError, match="larger than 1048576"):
            await soon(backend.models(server.endpoint, 15.0))
